"""The measures of an encoder, by hand."""

import numpy as np
import pytest
from demo import Meanings

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.evaluation.quality import Retrieval, graded_similarity, parallel_sentences, retrieval


class Angles:
    """Places each text at its angle on a circle."""

    def __init__(self, **angles):
        self.angles = angles

    def encode(self, texts):
        radians = np.radians([self.angles[text] for text in texts])
        return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_the_first_right_candidate_counts():
    found = Retrieval.of(["q", "r"], ["a", "b", "c"], [{1, 2}, {0}], [(), {1}], ["C1", "C2"])
    encoder = Angles(q=0, a=10, b=20, c=30, r=19)
    assert found.ranks(encoder).tolist() == [2, 1]  # of r, b is nearer than a but does not count
    assert retrieval(found, encoder).value == 0.5


def test_a_tie_counts_against_the_right_one():
    found = Retrieval.of(["q"], ["a", "b"], [{1}], [()], ["C1"])
    assert found.ranks(Angles(q=0, a=5, b=5)).tolist() == [2]


def test_a_query_for_which_nothing_is_right_is_left_out():
    found = Retrieval.of(["q", "r"], ["a"], [set(), {0}], [(), ()], ["C1", "C2"])
    assert (found.queries, found.clusters) == (["r"], ["C2"])


def test_sentences_by_hand():
    pairs = [
        SentencePair("1", "a", "b", 5.0),
        SentencePair("2", "a", "c", 3.0),
        SentencePair("3", "a", "d", 0.0),
    ]
    measured = graded_similarity(pairs, Meanings({"a": (1, 0), "b": (1, 0.1), "c": (1, 1), "d": (0, 1)}))
    assert measured.value == pytest.approx(1)
    assert measured.clusters == ["a", "a", "a"]
    sets = [SentenceSet("1", "a", ("b", "c"), 1), SentenceSet("2", "a", ("c", "b"), 1)]
    assert parallel_sentences(sets, Meanings({"a": (1, 0), "b": (1, 0.1), "c": (1, 1)})).value == 0.5


def test_what_is_independent_is_resampled():
    """Four queries of one concept are one item: all of its resamples are alike."""
    encoder = Angles(q=0, r=1, s=40, t=41, a=0, b=40)
    one = Retrieval.of(list("qrst"), ["a", "b"], [{0}] * 4, [()] * 4, ["C1"] * 4)
    interval = retrieval(one, encoder).interval(resamples=100)
    assert interval.low == interval.value == interval.high == 0.5
    apart = Retrieval.of(list("qrst"), ["a", "b"], [{0}] * 4, [()] * 4, list("1234"))
    measured = retrieval(apart, encoder)
    assert measured.interval(resamples=100).low < 0.5 < measured.interval(resamples=100).high
    change = measured.change_to(measured, resamples=100)
    assert change.low == change.value == change.high == 0
