"""The trigram index on disk."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deft.index.lexical as lexical
import deft.index.trigrams as trigrams_module
from deft.errors import InputError
from deft.index.lexical import FILES, LexicalIndex
from deft.text import normalize

TERMS = [
    "infarctus du myocarde",
    "infarctus aigu du myocarde",
    "infarctus cérébral",
    "Myocardial infarction",
    "crise cardiaque",
    "douleur thoracique",
    "douleur",
]


def trigrams(text):
    padded = [f" {word} " for word in normalize(text).split()]
    return {word[at : at + 3] for word in padded for at in range(len(word) - 2)}


def oracle(strings, query):
    """Every similarity, with sets and fractions."""
    sets = [trigrams(string) for string in strings]
    frequency = Counter(trigram for each in sets for trigram in each)

    def weigh(some):
        rarity = [math.log((len(strings) + 1) / (frequency[trigram] + 1)) + 1 for trigram in some]
        return sum(round(32 * value**2) for value in rarity)

    wanted = trigrams(query)
    parts = [(weigh(wanted & each), weigh(wanted) + 4 * weigh(each)) for each in sets]
    return np.array([round(float(Fraction(5 * both, max(whole, 1))), 6) for both, whole in parts])


def best(similarities, count, allowed=None):
    rows = [row for row, value in enumerate(similarities) if value > 0 and (allowed is None or allowed[row])]
    return sorted(rows, key=lambda row: (-similarities[row], row))[:count]


def vocabulary(count, seed=0):
    """Terms of a few syllables, so that many share trigrams and many similarities are equal."""
    draw = np.random.default_rng(seed)
    syllables = [
        "car",
        "dio",
        "myo",
        "pa",
        "thie",
        "gas",
        "tri",
        "te",
        "neph",
        "ro",
        "lo",
        "gie",
        "a",
        "hy",
        "per",
    ]
    words = ["".join(draw.choice(syllables, draw.integers(1, 4))) for _ in range(60)]
    return [" ".join(draw.choice(words, draw.integers(1, 5))) for _ in range(count)]


def check(index, strings, query, count, allowed=None):
    expected = oracle(strings, query)
    rows, similarities = index.search(query, count, allowed=allowed)
    assert rows.tolist() == best(expected, count, allowed)
    np.testing.assert_array_equal(similarities, expected[rows])
    np.testing.assert_array_equal(index.similarity(query, np.arange(len(strings))), expected)


def test_similarity_by_hand():
    # Trigrams of "ab": " ab" and "ab "; of "ac": " ac" and "ac ". Each is in 1 string of 2:
    # rarity ln(3/2) + 1 = 1.405465, weight round(32 * 1.405465**2) = 63. Those of "ad" are in none:
    # ln 3 + 1 = 2.098612, weight round(32 * 2.098612**2) = 141.
    index = LexicalIndex.build(["ab", "ac"])
    # "ab ac" weighs 4 * 63 = 252 and shares 126 with either: 5 * 126 / (252 + 4 * 126) = 0.8333
    assert index.similarity("ab ac", np.array([1, 0, 1])).tolist() == [0.833333] * 3
    # "ab ad" weighs 126 + 282 = 408: 5 * 126 / (408 + 504) = 0.6908
    rows, similarities = index.search("ab ad", 5)
    assert (rows.tolist(), similarities.tolist()) == ([0], [0.690789])


def test_best_first_and_ties_by_row():
    index = LexicalIndex.build([*TERMS, "Douleur", "d'infarctus cérébral"])
    rows, similarities = index.search("DOULEURS", 3)
    assert rows.tolist()[:2] == [6, 7]
    assert similarities[0] == similarities[1] > similarities[2]
    assert index.search("l’infarctus cerebral", 2)[0].tolist() == [2, 8]
    assert index.search("l’infarctus cerebral", 2)[1].tolist() == [1, 1]
    assert len(index) == 9


def test_word_order_and_repetition_do_not_count():
    index = LexicalIndex.build(TERMS)
    assert index.search("cardiaque, crise crise", 1)[1].tolist() == [1]


@pytest.mark.parametrize("query", ["", " - ", "zzzz", "Ω"])
def test_nothing_in_common_is_no_answer(query):
    rows, similarities = LexicalIndex.build(TERMS).search(query, 3)
    assert (len(rows), len(similarities)) == (0, 0)
    assert (rows.dtype, similarities.dtype) == (np.int64, np.float64)


def test_signs_and_other_scripts_are_characters():
    index = LexicalIndex.build(["k+ < 3", "k 3", "β bloquant", "心筋梗塞"])
    assert [index.search(text, 1)[0].tolist() for text in ("K+<3", "β-bloquant", "心筋梗塞")] == [
        [0],
        [2],
        [3],
    ]


@pytest.mark.parametrize("block", [64, 100, 1 << 16])  # 400 strings are four blocks or less than one
@pytest.mark.parametrize("count", [1, 3, 10, 100, 5000])
def test_search_equals_brute_force(count, block, monkeypatch):
    monkeypatch.setattr(lexical, "_SEED", 50)  # so that little is read, as in a large index
    monkeypatch.setattr(trigrams_module, "_CHUNK", 64)
    for module in (lexical, trigrams_module):
        monkeypatch.setattr(module, "BLOCK", block)
    strings = vocabulary(400)
    index = LexicalIndex.build(iter(strings))
    allowed = np.random.default_rng(1).random(len(strings)) < 0.3
    for query in [
        *vocabulary(10, seed=2),
        *strings[:3],
        "cardiopathie xyz",
        "a",
        "hypercardiopathie gastrite",
    ]:
        check(index, strings, query, count)
        check(index, strings, query, count, allowed)


WORDS = st.text("abc é'+", max_size=12)


@settings(deadline=None, max_examples=60)
@given(st.lists(WORDS, max_size=25), WORDS, st.integers(1, 30), st.randoms(use_true_random=False))
def test_search_equals_brute_force_on_anything(strings, query, count, random):
    index = LexicalIndex.build(strings)
    check(index, strings, query, count)
    check(index, strings, query, count, np.array([random.random() < 0.5 for _ in strings], dtype=bool))


def test_long_lists_are_not_read_whole(monkeypatch):
    """The bound that spares reading frequent trigrams is what makes large indexes fast."""
    strings = [f"maladie {word}" for word in vocabulary(3000)] + ["maladie xylophage"]
    index = LexicalIndex.build(strings)
    bounds = []
    limits = LexicalIndex._limits
    monkeypatch.setattr(
        LexicalIndex, "_limits", lambda self, *given: bounds.append(limits(self, *given)) or bounds[-1]
    )
    assert index.search("maladie xylophage", 1)[0].tolist() == [3000]
    low, highs = bounds[0]
    assert highs[-2] == low  # of the most frequent trigram nothing


def test_saved_and_opened_is_the_same(tmp_path):
    strings = vocabulary(200)
    built = LexicalIndex.build(strings)
    built.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    opened = LexicalIndex.open(tmp_path)
    assert len(opened) == 200
    for query in strings[:20]:
        for one, other in zip(built.search(query, 20), opened.search(query, 20), strict=True):
            np.testing.assert_array_equal(one, other)


def test_written_to_disk_is_what_is_saved(tmp_path):
    for strings in ([], TERMS, vocabulary(200)):
        saved, written = tmp_path / f"saved{len(strings)}", tmp_path / f"written{len(strings)}"
        saved.mkdir()
        written.mkdir()
        LexicalIndex.build(strings).save(saved)
        LexicalIndex.write(iter(strings), written)
        for file in FILES:
            assert (saved / file).read_bytes() == (written / file).read_bytes()


def test_long_queries_are_exact():
    """Weights are added up in units, and the more trigrams there are, the larger is what holds the sum."""
    strings = [*vocabulary(300), " ".join(f"{number:03}" for number in range(0, 1000, 5))]
    index = LexicalIndex.build(strings)
    for size in (60, 300):
        check(index, strings, " ".join(f"{number:03}" for number in range(size)) + " cardiopathie", 20)


def test_building_in_chunks_changes_nothing(tmp_path, monkeypatch):
    strings = ["", *vocabulary(100), "", ""]
    folders = [tmp_path / "whole", tmp_path / "chunks"]
    for folder, chunk in zip(folders, (1 << 16, 7), strict=True):
        monkeypatch.setattr(trigrams_module, "_CHUNK", chunk)
        folder.mkdir()
        LexicalIndex.build(strings).save(folder)
    for file in FILES:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_an_empty_index_answers_nothing(tmp_path):
    LexicalIndex.build([]).save(tmp_path)
    index = LexicalIndex.open(tmp_path)
    assert len(index) == len(index.search("douleur", 3)[0]) == 0


def test_count_must_be_positive():
    with pytest.raises(InputError, match="count must be at least 1, not 0"):
        LexicalIndex.build(TERMS).search("douleur", 0)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "cut", "no array", "type", "scalar", "size"])
def test_damage_names_the_file(tmp_path, file, damage):
    LexicalIndex.build(TERMS).save(tmp_path)
    path = tmp_path / file
    array = np.load(path)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "no array":
        path.write_bytes(b"")
    else:
        np.save(path, {"type": array.astype(np.float32), "scalar": array[0], "size": array[:-1]}[damage])
    with pytest.raises(InputError, match="lexical_") as caught:
        LexicalIndex.open(tmp_path)
    if damage != "size":  # then it is any of two files that do not fit
        assert caught.value.path == path
    assert "Build the index again." in str(caught.value)
