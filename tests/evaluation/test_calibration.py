"""Calibration and no match, by hand and for any input."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub import StubMapper

from deft.errors import InputError
from deft.evaluation.calibration import Bin, Calibration, NilScore, Point, nil_experiment
from deft.terminology.lexicon import GoldMapping

ANSWERS = st.lists(
    st.tuples(st.floats(0, 1).map(lambda value: round(value, 2)), st.booleans()), min_size=1, max_size=40
)


def calibration(rows, **options):
    confidence, correct = zip(*rows, strict=True)
    return Calibration.of(confidence, correct, **{"resamples": 50, **options})


BY_HAND = calibration([(0.95, 1), (0.85, 1), (0.85, 0), (0.35, 0), (0.3, 1)])


def test_bins_by_hand():
    assert BY_HAND.bins == (
        Bin(0.2, 0.3, 1, 0.3, 1.0),
        Bin(0.3, 0.4, 1, 0.35, 0.0),
        Bin(0.8, 0.9, 2, 0.85, 0.5),
        Bin(0.9, 1.0, 1, 0.95, 1.0),
    )
    assert BY_HAND.ece.value == pytest.approx((0.7 + 0.35 + 2 * 0.35 + 0.05) / 5)
    assert BY_HAND.brier.value == pytest.approx((0.05**2 + 0.15**2 + 0.85**2 + 0.35**2 + 0.7**2) / 5)
    assert (BY_HAND.n, BY_HAND.confidence, BY_HAND.accuracy) == (5, pytest.approx(0.66), 0.6)


def test_coverage_and_precision_by_hand():
    # the two answers of confidence 0.85 cannot be parted by a threshold
    assert BY_HAND.curve == (
        Point(0.95, 0.2, 1.0),
        Point(0.85, 0.6, 2 / 3),
        Point(0.35, 0.8, 0.5),
        Point(0.3, 1.0, 0.6),
    )
    assert BY_HAND.at_precision(0.9) == Point(0.95, 0.2, 1.0)
    assert BY_HAND.at_precision(0.6) == Point(0.3, 1.0, 0.6)
    assert calibration([(0.9, 0), (0.5, 1)]).at_precision(0.9) is None


@given(ANSWERS)
def test_what_holds_for_any_answers(rows):
    found = calibration(rows)
    assert sum(each.count for each in found.bins) == found.n == len(rows)
    assert all(each.low - 1e-9 <= each.confidence <= each.high + 1e-9 for each in found.bins)
    # the error is what the diagram shows
    shown = sum(each.count * abs(each.accuracy - each.confidence) for each in found.bins) / found.n
    assert found.ece.value == pytest.approx(shown)
    for interval in (found.ece, found.brier):
        assert interval.low <= interval.value <= interval.high
    coverages = [point.coverage for point in found.curve]
    assert coverages == sorted(coverages)
    assert coverages[-1] == 1
    assert found.curve[-1].precision == pytest.approx(found.accuracy)
    for point in found.curve:
        kept = [right for confidence, right in rows if confidence >= point.confidence]
        assert point.coverage == pytest.approx(len(kept) / len(rows))
        assert point.precision == pytest.approx(sum(kept) / len(kept))
    best = found.at_precision(0.9)
    assert best is None or all(
        point.precision < 0.9 for point in found.curve if point.confidence < best.confidence
    )


@given(ANSWERS)
def test_json_holds_a_short_curve_with_both_ends(rows):
    found = calibration(rows)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert set(plain["at_precision"]) == {"0.9", "0.95"}
    assert len(plain["curve"]) <= 20
    assert plain["curve"][-1]["coverage"] == 1
    assert [Point(**point) for point in plain["curve"]] == [
        point for point in found.curve if point in {Point(**each) for each in plain["curve"]}
    ]


def test_a_calibrated_confidence_has_little_error():
    rng = np.random.default_rng(3)
    confidence = rng.uniform(0, 1, 20_000)
    correct = rng.uniform(0, 1, 20_000) < confidence
    assert Calibration.of(confidence, correct, resamples=20).ece.value < 0.02
    assert Calibration.of(confidence**3, correct, resamples=20).ece.low > 0.2


def test_it_repeats_and_refuses_nothing():
    rows = [(0.9, 1), (0.2, 0), (0.4, 1)] * 5
    assert calibration(rows, seed=4) == calibration(rows, seed=4)
    with pytest.raises(InputError):
        Calibration.of([], [])
    with pytest.raises(InputError, match="outside 0 to 1"):
        Calibration.of([1.5], [1])


def test_nil_score_by_hand():
    # doubts 0.9 and 0.4 of the absent against 0.4 and 0.1: 3.5 of 4 pairs
    score = NilScore.of([0.1, 0.6, 0.6, 0.9], [True, True, False, False], resamples=50)
    assert (score.n, score.nil, score.auroc.value) == (4, 2, 3.5 / 4)
    assert score.to_dict()["auroc"]["value"] == 3.5 / 4
    with pytest.raises(InputError, match="cannot be measured"):
        NilScore.of([0.5, 0.6], [False, False])


class TestNilExperiment:
    GOLD = tuple(GoldMapping(f"q{number}", frozenset({f"C{number}"})) for number in range(8))

    @pytest.fixture
    def mapper(self):
        """Finds the right concept with confidence, and without it one that it hardly trusts."""
        return StubMapper({f"q{number}": {f"C{number}": 0.9, "C99": 0.2} for number in range(8)})

    def test_half_the_concepts_are_taken_out(self, mapper):
        score = nil_experiment(mapper, self.GOLD, resamples=50)
        (call,) = mapper.calls
        assert len(call["exclude"]) == 4
        assert call["terms"] == [item.query for item in self.GOLD]
        assert (score.n, score.nil) == (8, 4)
        assert score.auroc.value == 1

    def test_the_seed_draws(self, mapper):
        for seed in (1, 1, 2):
            nil_experiment(mapper, self.GOLD, resamples=50, seed=seed)
        first, again, other = (call["exclude"] for call in mapper.calls)
        assert first == again != other

    def test_queries_without_a_concept_in_the_index_take_no_part(self, mapper):
        gold = [GoldMapping("inconnu", frozenset({"C7777777"})), *self.GOLD]
        groups = [f"g{number}" for number in range(9)]
        score = nil_experiment(mapper, gold, channel="dense", groups=groups, resamples=50)
        (call,) = mapper.calls
        assert score.n == 8
        assert "inconnu" not in call["terms"]
        assert call["groups"] == groups[1:]
        assert call["channel"] == "dense"

    def test_equal_answers_go_together_and_one_left_is_a_match(self, mapper):
        gold = [GoldMapping("q0", frozenset({"C0", "C1"})), GoldMapping("q1", frozenset({"C1", "C0"}))]
        with pytest.raises(InputError, match="cannot be measured"):
            nil_experiment(mapper, gold)  # one set of concepts: no half
        assert mapper.calls == []
        gold = [GoldMapping("q0", frozenset({"C0"})), GoldMapping("q1", frozenset({"C0", "C1"}))]
        exclusions = set()
        for seed in range(10):
            try:
                nil_experiment(mapper, gold, seed=seed, resamples=20)
            except InputError:  # C0 and C1 were drawn: both queries are left without an answer
                continue
            exclusions.add(mapper.calls[-1]["exclude"])
        assert exclusions == {frozenset({"C0"})}
