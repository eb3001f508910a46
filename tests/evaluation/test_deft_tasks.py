"""Both tasks, with an encoder that knows what a few sentences mean."""

import pytest
from demo import Meanings

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.errors import InputError
from deft.evaluation.baseline import NgramEncoder
from deft.evaluation.deft_tasks import (
    answer_ranks,
    rank_targets,
    score_t1,
    score_t2,
)


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
