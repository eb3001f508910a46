"""The subword vocabulary, and what its embeddings start from."""

from __future__ import annotations

import random

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from deft.recipe.vocabulary import SPECIAL_TOKENS, train_tokenizer, transfer_embeddings, translation_table

DICTIONARY = {
    "chien": "dog",
    "chat": "cat",
    "rouge": "red",
    "grand": "big",
    "petit": "small",
    "maison": "house",
}
RARE = "diplopia"  # spelt alike in both vocabularies, and in no pair


def word_tokenizer(words: list[str]) -> Tokenizer:
    """A tokenizer whose tokens are whole words and single letters."""
    letters = sorted(set("".join(words)))
    tokens = [*SPECIAL_TOKENS, *words, *letters, *(f"##{letter}" for letter in letters)]
    vocabulary = {token: row for row, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return tokenizer


@pytest.fixture
def french() -> Tokenizer:
    return word_tokenizer([*DICTIONARY, RARE])


@pytest.fixture
def english() -> Tokenizer:
    return word_tokenizer([RARE, *DICTIONARY.values()])


@pytest.fixture
def teacher(english) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(english.get_vocab_size(), 24)).astype(np.float32)


@pytest.fixture
def pairs() -> list[tuple[str, str]]:
    """Sentences of two or three words, the English in another order than the French."""
    draw = random.Random(1)
    sentences = [draw.sample(list(DICTIONARY), draw.choice([2, 3])) for _ in range(200)]
    return [(" ".join(words), " ".join(DICTIONARY[word] for word in reversed(words))) for words in sentences]


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    texts = ["œdème de l’œil", "cæcum", "fièvre élevée", "Douleur à l'œil"] * 20
    return train_tokenizer(texts, 200)


def test_model_1_finds_the_dictionary(pairs):
    words, translations = list(DICTIONARY), list(DICTIONARY.values())
    source = [[words.index(word) for word in left.split()] for left, _ in pairs]
    target = [[translations.index(word) for word in right.split()] for _, right in pairs]
    table = translation_table(source, target, batch=7)
    for word in range(len(words)):
        rows = np.flatnonzero(table.source == word)
        assert table.target[rows[table.probability[rows].argmax()]] == word
    np.testing.assert_allclose(np.bincount(table.source, table.probability), 1)
    assert table.count.sum() == pytest.approx(sum(map(len, target)))  # each target word counts once


def test_model_1_by_hand():
    table = translation_table([[0, 1], [0]], [[5, 6], [5]], iterations=1)
    # 5 and 6 share themselves between both words of the first pair; the second pair gives a whole 5 to 0
    assert list(zip(table.source, table.target, strict=True)) == [(0, 5), (0, 6), (1, 5), (1, 6)]
    assert table.count == pytest.approx([1.5, 0.5, 0.5, 0.5])
    assert table.probability == pytest.approx([0.75, 0.25, 0.5, 0.5])


def test_model_1_does_not_depend_on_the_batches(pairs):
    ids = [[len(word) for word in left.split()] for left, _ in pairs], [[3, 1] for _ in pairs]
    one, many = translation_table(*ids), translation_table(*ids, batch=13)
    np.testing.assert_allclose(one.count, many.count)


def test_a_translated_token_lies_at_its_translation(french, english, teacher, pairs):
    words = transfer_embeddings(french, english, teacher, pairs)
    assert words.shape == (french.get_vocab_size(), 24)
    assert words.dtype == np.float32
    unit = teacher / np.linalg.norm(teacher, axis=1, keepdims=True)
    for word, translation in DICTIONARY.items():
        nearest = int((unit @ words[french.token_to_id(word)]).argmax())
        assert nearest == english.token_to_id(translation)


def test_a_token_without_translation_keeps_the_teachers_vector(french, english, teacher, pairs):
    words = transfer_embeddings(french, english, teacher, pairs)
    assert (words[french.token_to_id(RARE)] == teacher[english.token_to_id(RARE)]).all()


def test_a_token_that_the_teacher_does_not_have_starts_from_its_letters(english, teacher, pairs):
    french = word_tokenizer([*DICTIONARY, "dogcat"])
    vector = transfer_embeddings(french, english, teacher, pairs)[french.token_to_id("dogcat")]
    spelled = teacher[english.encode("dogcat", add_special_tokens=False).ids].mean(axis=0)
    assert vector @ spelled == pytest.approx(np.linalg.norm(vector) * np.linalg.norm(spelled), rel=1e-5)


def test_special_tokens_are_copied(french, english, teacher, pairs):
    strange = [
        *pairs,
        ("日本 chien", "dog"),
        ("chien 日本", "dog 日本"),
    ]  # the unknown token has translations
    words = transfer_embeddings(french, english, teacher, strange)
    for token in SPECIAL_TOKENS:
        assert (words[french.token_to_id(token)] == teacher[english.token_to_id(token)]).all()


def test_padding_and_truncation_of_a_published_tokenizer_do_no_harm(french, english, teacher, pairs):
    expected = transfer_embeddings(french, english, teacher, pairs)
    english.enable_padding(length=128)
    english.enable_truncation(1)
    french.enable_padding(length=64)
    np.testing.assert_array_equal(transfer_embeddings(french, english, teacher, pairs), expected)
    assert english.padding["length"] == 128  # the caller's tokenizer is as it was
    assert english.truncation["max_length"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("FIÈVRE ÉLEVÉE", "fievre elevee"),
        ("Œdème", "oedeme"),
        ("cæcum CÆCUM", "caecum caecum"),
        ("l’œil", "l'oeil"),
        ("l‘œil", "l`oeil"),
    ],
)
def test_case_accents_ligatures_and_apostrophes_make_no_difference(trained, one, other):
    tokens = trained.encode(one).tokens
    assert tokens == trained.encode(other).tokens
    assert "[UNK]" not in tokens


def test_a_trained_tokenizer_wraps_texts_and_pads_with_zero(trained):
    assert [trained.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert trained.encode("fièvre").tokens == ["[CLS]", "fievre", "[SEP]"]
    assert trained.encode("fièvre", "oedème").type_ids == [0, 0, 0, 1, 1]
    assert trained.get_vocab_size() <= 200
