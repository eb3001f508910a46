"""Both tasks, with an encoder that knows what a few sentences mean."""

import numpy as np
import pytest

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.errors import InputError
from deft.evaluation.baseline import NgramEncoder
from deft.evaluation.deft_tasks import (
    FEATURES,
    GradeModel,
    answer_ranks,
    rank_targets,
    score_t1,
    score_t2,
    similarities,
)


class Meanings:
    """An encoder that is told what each sentence means; sentences of one meaning have one vector."""

    def __init__(self, meanings):
        self.meanings = meanings

    def encode(self, texts):
        rows = np.array([self.meanings[text] for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


PARAPHRASE = SentencePair(
    "paraphrase", "Elle a eu une crise cardiaque.", "La patiente a fait un infarctus.", 5.0
)
NEGATED = SentencePair(
    "negated", "Le patient présente une forte fièvre.", "Le patient ne présente pas une forte fièvre.", 1.0
)
UNRELATED = SentencePair("unrelated", "Prenez un comprimé le matin.", "Le foie produit la bile.", 0.0)
MEANINGS = {
    PARAPHRASE.source: (1, 0, 0.1),
    PARAPHRASE.target: (1, 0.1, 0),
    NEGATED.source: (0, 1, 0),
    NEGATED.target: (0.9, 0.4, 0.9),
    UNRELATED.source: (0, 1, 1),
    UNRELATED.target: (1, 0, -0.2),
}


def training():
    """Return pairs whose grade is five times the angle's cosine, whatever their words share."""
    rng = np.random.default_rng(7)
    words = [
        "fièvre",
        "toux",
        "douleur",
        "foie",
        "rein",
        "cœur",
        "dose",
        "matin",
        "soir",
        "repas",
        "eau",
        "sang",
    ]
    meanings, pairs = {}, []
    for number in range(80):
        source, target = (f"{' '.join(rng.permutation(words)[:5])} {side}{number}" for side in "ab")
        cosine = rng.uniform(0, 1)
        meanings[source] = (1, 0, 0)
        meanings[target] = (cosine, np.sqrt(1 - cosine**2), 0)
        pairs.append(SentencePair(str(number), source, target, 5 * cosine))
    return pairs, Meanings(meanings)


def test_grade_model_follows_meaning_where_words_mislead():
    pairs, encoder = training()
    model = GradeModel.fit(pairs, encoder)
    grades = model.predict([PARAPHRASE, NEGATED, UNRELATED], Meanings(MEANINGS))
    assert grades["paraphrase"] > 4 > 3 > grades["negated"] > grades["unrelated"]


def test_words_alone_are_misled_by_the_same_pairs():
    overlapping = [
        SentencePair(
            f"x{number}", "a b c d e", " ".join("abcde"[:number]) + " f" * (5 - number), float(number)
        )
        for number in range(6)
    ]
    texts = [text for pair in overlapping for text in (pair.source, pair.target)]
    blind = Meanings(dict.fromkeys(texts, (1, 0, 0)))
    model = GradeModel.fit(overlapping, blind, features=("words",))
    grades = model.predict([PARAPHRASE, NEGATED], Meanings(MEANINGS))
    assert grades["negated"] > grades["paraphrase"]


def test_similarities_by_hand():
    pair = SentencePair("1", "Prendre 2 comprimés par jour", "Ne pas prendre 3 comprimés par jour")
    encoder = Meanings({pair.source: (1, 0), pair.target: (3, 4)})
    values = dict(zip(FEATURES, similarities([pair], encoder)[0], strict=True))
    assert values["cosine"] == pytest.approx(0.6)
    assert values["words"] == pytest.approx(2 * 4 / (5 + 7))
    assert values["contained"] == pytest.approx(4 / 5)
    assert values["stems"] == pytest.approx(2 * 4 / (4 + 5))  # "2", "3" and "ne" are too short to count
    assert values["length"] == pytest.approx(5 / 7)
    assert values["numbers"] == 0.0
    assert values["negation"] == 0.0


def test_similarities_of_equal_and_of_wordless_sentences_are_whole():
    pairs = [SentencePair("1", "Une dose.", "une dose"), SentencePair("2", "!", "?")]
    encoder = Meanings(dict.fromkeys(["Une dose.", "une dose", "!", "?"], (1, 0)))
    assert similarities(pairs, encoder) == pytest.approx(np.ones((2, len(FEATURES))))


def test_predictions_are_grades():
    pairs, encoder = training()
    steep = GradeModel(("cosine",), (50.0,), -10.0, 1.0)
    assert set(steep.predict(pairs, encoder).values()) >= {0.0, 5.0}
    assert all(0 <= grade <= 5 for grade in steep.predict(pairs, encoder).values())


def test_a_similarity_that_never_varies_gets_no_weight():
    pairs, encoder = training()
    model = GradeModel.fit(pairs, encoder)
    weights = dict(zip(model.features, model.weights, strict=True))
    assert weights["negation"] == 0
    assert weights["cosine"] == pytest.approx(5, rel=0.1)


def test_grade_model_survives_saving(tmp_path):
    pairs, encoder = training()
    model = GradeModel.fit(pairs, encoder)
    model.save(tmp_path / "grades.json")
    assert GradeModel.load(tmp_path / "grades.json") == model


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{}",
        '{"features": ["cosine"], "weights": [], "intercept": 0, "penalty": 1}',
        '{"features": ["x"], "weights": [1], "intercept": 0, "penalty": 1}',
    ],
)
def test_grade_model_refuses_another_file(tmp_path, content):
    (tmp_path / "grades.json").write_text(content)
    with pytest.raises(InputError, match=r"grades\.json"):
        GradeModel.load(tmp_path / "grades.json")


def test_fitting_needs_graded_pairs():
    pairs, encoder = training()
    with pytest.raises(InputError, match="no gold grade: u"):
        GradeModel.fit([*pairs, SentencePair("u", pairs[0].source, pairs[0].target)], encoder)
    with pytest.raises(InputError, match="two"):
        GradeModel.fit(pairs[:1], encoder)


def graded(*grades):
    return [SentencePair(f"p{number}", "s", "t", grade) for number, grade in enumerate(grades)]


def test_score_t1_by_hand():
    scores = score_t1(graded(4, 2, 5), {"p0": 3, "p1": 4, "p2": 5}, resamples=100)
    assert scores["edrm"]["value"] == pytest.approx((3 / 4 + 1 / 3 + 1) / 3)
    assert scores["edrm_prediction"]["value"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores["spearman"]["value"] == pytest.approx(0.5)
    assert scores["n"] == 3
    assert scores["edrm"]["low"] <= scores["edrm"]["value"] <= scores["edrm"]["high"]


def test_score_t1_ignores_the_order_of_predictions():
    pairs, grades = graded(1, 2, 3, 4), {"p3": 4.0, "p1": 2.5, "p0": 1.0, "p2": 2.0}
    assert score_t1(pairs, grades) == score_t1(pairs, dict(sorted(grades.items())))


@pytest.mark.parametrize(
    ("grades", "message"),
    [
        ({"p0": 1.0}, "2 identifiers have no prediction: p1, p2"),
        ({"p0": 1.0, "p1": 1.0, "p2": 1.0, "zz": 1.0}, "1 identifier has a prediction but no item: zz"),
        ({"p0": 1.0, "p1": float("nan"), "p2": 1.0}, "1 identifier has no finite grade: p1"),
    ],
)
def test_score_t1_names_what_is_wrong(grades, message):
    with pytest.raises(InputError, match=message):
        score_t1(graded(1, 2, 3), grades)


def test_score_t1_names_missing_gold_and_shortens_long_lists():
    with pytest.raises(InputError, match=r"7 identifiers have no gold grade: p0, p1, p2, p3, p4, \.\.\."):
        score_t1(graded(*[None] * 7), {})


SETS = [
    SentenceSet("a", "s", ("x", "y", "z"), 2),
    SentenceSet("b", "s", ("x", "y", "z"), 1),
    SentenceSet("c", "s", ("x", "y", "z"), 3),
]


def test_score_t2_by_hand():
    scores = score_t2(SETS, {"a": (2, 1, 3), "b": (2, 1, 3), "c": (1, 2, 3)})
    assert scores["map"]["value"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert scores["accuracy"]["value"] == pytest.approx(1 / 3)
    assert scores["n"] == 3


def test_score_t2_of_choices_is_their_accuracy():
    scores = score_t2(SETS, {"a": 2, "b": 2, "c": 3})
    assert scores["map"] == scores["accuracy"]
    assert scores["accuracy"]["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("rankings", "message"),
    [
        ({"a": 1, "b": 1}, "no prediction: c"),
        ({"a": 1, "b": 1, "c": 1, "d": 1}, "no item: d"),
        ({"a": 1, "b": 4, "c": 1}, "no valid ranking: b"),
        ({"a": (1, 1, 2), "b": 1, "c": ()}, "2 identifiers have no valid ranking: a, c"),
    ],
)
def test_score_t2_names_what_is_wrong(rankings, message):
    with pytest.raises(InputError, match=message):
        score_t2(SETS, rankings)


def test_score_t2_names_missing_gold():
    with pytest.raises(InputError, match="no gold answer: q"):
        score_t2([SentenceSet("q", "s", ("x", "y"), None)], {"q": 1})


def test_rank_targets_follows_meaning_where_words_mislead():
    source = "Elle a eu une crise cardiaque."
    close, right, far = "Elle a eu une crise de foie.", "Elle a fait un infarctus.", "Buvez de l'eau."
    item = SentenceSet("1", source, (close, right, far), 2)
    encoder = Meanings({source: (1, 0), close: (0.3, 1), right: (1, 0.1), far: (-1, 0)})
    assert rank_targets([item], encoder) == {"1": (2, 1, 3)}
    ngrams = NgramEncoder.fit([source, close, right, far])
    assert rank_targets([item], ngrams)["1"][0] == 1


def test_rank_targets_of_sets_of_several_sizes_with_ties():
    sets = [SentenceSet("1", "s", ("s", "s"), 1), SentenceSet("2", "s", ("t", "s", "u"), 2)]
    rankings = rank_targets(sets, Meanings({"s": (1, 0), "t": (0, 1), "u": (0, 1)}))
    assert rankings == {"1": (1, 2), "2": (2, 1, 3)}
    assert answer_ranks(sets, rankings).tolist() == [1, 1]
