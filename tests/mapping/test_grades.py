"""Grades of sentence pairs, with an encoder that knows what a few sentences mean."""

import numpy as np
import pytest
from demo import Meanings

from deft.corpora.deft2020 import SentencePair
from deft.errors import InputError
from deft.mapping.grades import FEATURES, GradeModel, similarities

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
        '{"features": ["cosine"], "weights": [], "intercept": 0, "penalty": 1, "encoder": ""}',
        '{"features": ["x"], "weights": [1], "intercept": 0, "penalty": 1, "encoder": ""}',
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


def test_another_encoder_is_refused(tmp_path):
    pairs, encoder = training()
    encoder.fingerprint = "one"
    model = GradeModel.fit(pairs, encoder)
    assert model.predict(pairs, encoder)
    encoder.fingerprint = "other"
    with pytest.raises(InputError, match=r"fitted with another encoder\. Fit one for this encoder"):
        model.predict(pairs, encoder)
