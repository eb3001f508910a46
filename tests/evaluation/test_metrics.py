"""Each metric against an example worked by hand, and what must hold for any input."""

import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import brier_score_loss, roc_auc_score

from deft.errors import InputError
from deft.evaluation.metrics import (
    Interval,
    accuracy,
    auroc,
    bin_numbers,
    bootstrap,
    brier_score,
    difference,
    edrm,
    expected_calibration_error,
    mcnemar,
    mean_average_precision,
    mean_reciprocal_rank,
    recall_at_k,
    spearman,
    spearman_rho,
)

GRADES = st.floats(0, 5, allow_nan=False)
PAIRS = st.lists(st.tuples(GRADES, st.floats(-10, 10, allow_nan=False)), min_size=1, max_size=30)
CONFIDENCES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30)
RANKS = st.lists(st.integers(0, 100), min_size=1, max_size=30)


def columns(rows):
    return tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True))


def test_edrm_from_the_gold_by_hand():
    # Distances 1, 2, 0 of at most 4, 3, 5: (3/4 + 1/3 + 1) / 3.
    assert edrm([4, 2, 5], [3, 4, 5]) == pytest.approx((3 / 4 + 1 / 3 + 1) / 3)


def test_edrm_from_the_prediction_by_hand():
    # The same distances of at most 3, 4, 5, seen from the predictions 3, 4, 5: (2/3 + 1/2 + 1) / 3.
    assert edrm([4, 2, 5], [3, 4, 5], "prediction") == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_edrm_clips_predictions():
    assert edrm([5, 0], [7.5, -1]) == 1
    assert edrm([0], [9], "prediction") == 0


@pytest.mark.parametrize("gold", [[-0.1], [5.1], [float("nan")], []])
def test_edrm_refuses_gold_that_is_no_grade(gold):
    with pytest.raises(InputError):
        edrm(gold, [1.0] * len(gold))


@given(PAIRS, st.sampled_from(["gold", "prediction"]))
def test_edrm_is_bounded_symmetric_and_perfect_on_gold(rows, reference):
    gold, predicted = columns(rows)
    score = float(edrm(gold, predicted, reference))
    assert 0 <= score <= 1
    assert edrm(gold, gold, reference) == 1
    assert edrm(5 - gold, 5 - np.clip(predicted, 0, 5), reference) == pytest.approx(score)
    assert edrm(gold[::-1], predicted[::-1], reference) == pytest.approx(score)


def test_spearman_by_hand():
    # Rank differences 0, 1, 1, 0, 0: 1 - 6 * 2 / (5 * 24).
    rho, p_value = spearman([1, 2, 3, 4, 5], [10, 30, 20, 40, 50])
    assert rho == pytest.approx(0.9)
    assert p_value == pytest.approx(0.0374, abs=1e-4)


def test_spearman_shares_the_rank_of_ties():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
    assert spearman_rho([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / np.sqrt(22.5))


@pytest.mark.parametrize(("gold", "predicted"), [([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [0, 0, 0]), ([2], [3])])
def test_spearman_of_a_constant_is_no_relation(gold, predicted):
    assert spearman(gold, predicted) == (0.0, 1.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=30))
def test_spearman_agrees_with_scipy_and_sees_order_alone(rows):
    left, right = columns(rows)
    rho = float(spearman_rho(left, right))
    assert -1 <= rho <= 1
    assert spearman_rho(np.exp(left), 3 * right - 7) == pytest.approx(rho)
    assert spearman_rho(right, left) == pytest.approx(rho)
    assert spearman_rho(left, -right) == pytest.approx(-rho)
    if np.ptp(left) and np.ptp(right):
        assert rho == pytest.approx(stats.spearmanr(left, right).statistic)


def test_accuracy_by_hand():
    assert accuracy([1, 2, 3, 1], [1, 2, 1, 1]) == 0.75


def test_rank_metrics_by_hand():
    ranks = [1, 2, None, 4, 0]
    assert recall_at_k(ranks, 1) == 0.2
    assert recall_at_k(ranks, 2) == 0.4
    assert recall_at_k(ranks, 64) == 0.6
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 1 / 2 + 0 + 1 / 4 + 0) / 5)
    assert mean_average_precision([1, 1, 3]) == pytest.approx((1 + 1 + 1 / 3) / 3)


@given(RANKS, st.integers(1, 100))
def test_rank_metrics_are_bounded_and_ordered(ranks, k):
    assert 0 <= recall_at_k(ranks, 1) <= mean_reciprocal_rank(ranks) <= recall_at_k(ranks, 100) <= 1
    assert recall_at_k(ranks, k) <= recall_at_k(ranks, k + 1)
    assert mean_reciprocal_rank([1] * len(ranks)) == 1


def test_rank_metrics_refuse_what_is_no_rank():
    with pytest.raises(InputError, match="negative"):
        mean_reciprocal_rank([1, -1])
    with pytest.raises(InputError, match="nothing"):
        recall_at_k([], 1)


def test_brier_score_by_hand():
    # (0.2² + 0.3² + 0.9²) / 3.
    assert brier_score([0.8, 0.3, 0.9], [1, 0, 0]) == pytest.approx((0.04 + 0.09 + 0.81) / 3)


@given(CONFIDENCES)
def test_brier_score_agrees_with_scikit_learn(rows):
    confidence, correct = columns(rows)
    assert brier_score(confidence, correct) == pytest.approx(
        brier_score_loss(correct, confidence, pos_label=1)
    )


def test_calibration_error_by_hand():
    # Three answers about 0.85 of which one is right, two about 0.25 of which one is:
    # 3/5 * |1/3 - 0.85| + 2/5 * |1/2 - 0.25|.
    confidence, correct = [0.82, 0.85, 0.88, 0.21, 0.29], [1, 0, 0, 0, 1]
    expected = 3 / 5 * (0.85 - 1 / 3) + 2 / 5 * (0.5 - 0.25)
    assert expected_calibration_error(confidence, correct) == pytest.approx(expected)
    # In one bin, over- and underconfidence would make up for each other: mean 0.61 against 2 of 5.
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.61 - 0.4)


@given(CONFIDENCES)
def test_calibration_error_is_bounded_and_0_for_what_is_certain(rows):
    confidence, correct = columns(rows)
    error = float(expected_calibration_error(confidence, correct))
    assert abs(confidence.mean() - correct.mean()) - 1e-9 <= error <= 1
    assert expected_calibration_error(confidence[::-1], correct[::-1]) == pytest.approx(error)
    assert expected_calibration_error(correct, correct) == 0
    assert expected_calibration_error(1 - correct, correct) == 1


def test_bins_hold_their_upper_edge():
    assert bin_numbers([0, 0.05, 0.1, 0.1001, 0.3, 0.7, 0.95, 1], 10).tolist() == [0, 0, 0, 1, 2, 6, 9, 9]


@pytest.mark.parametrize("metric", [brier_score, expected_calibration_error])
@pytest.mark.parametrize("confidence", [1.1, -0.1, float("nan")])
def test_a_confidence_is_a_probability(metric, confidence):
    with pytest.raises(InputError):
        metric([0.5, confidence], [1, 0])


def test_auroc_by_hand():
    # Positives 0.9 and 0.4 against 0.4 and 0.1: above, above; a tie, above. 3.5 of 4 pairs.
    assert auroc([0.9, 0.4, 0.4, 0.1], [1, 1, 0, 0]) == pytest.approx(3.5 / 4)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
def test_auroc_agrees_with_scikit_learn(rows):
    scores, positives = columns(rows)
    area = float(auroc(scores, positives))
    if len(set(positives)) == 1:
        assert area == 0.5
    else:
        assert area == pytest.approx(roc_auc_score(positives, scores))
        assert auroc(-scores, positives) == pytest.approx(1 - area)


def test_mcnemar_by_hand():
    # One system alone is right on 1 item, the other on 5: 2 * (C(6,0) + C(6,1)) / 2**6.
    before = [1, 1, 0, 1, 0, 0, 0, 0, 0]
    after = [1, 1, 0, 0, 1, 1, 1, 1, 1]
    assert mcnemar(before, after) == (1, 5, pytest.approx(2 * 7 / 64))
    assert mcnemar(after, before) == (5, 1, pytest.approx(2 * 7 / 64))
    assert mcnemar(before, before) == (0, 0, 1)


def test_metrics_refuse_columns_of_two_lengths():
    for metric in (edrm, spearman_rho, accuracy, brier_score, expected_calibration_error, auroc, mcnemar):
        with pytest.raises(InputError, match="differ"):
            metric([1, 2], [1, 2, 3])


def test_metrics_score_many_resamples_at_once():
    rng = np.random.default_rng(0)
    gold, predicted = rng.uniform(0, 5, (2, 7, 20))
    for metric in (edrm, spearman_rho):
        together = metric(gold, predicted)
        assert together.shape == (7,)
        assert together == pytest.approx([float(metric(*row)) for row in zip(gold, predicted, strict=True)])
    correct = gold > 3
    for metric in (brier_score, expected_calibration_error, auroc):
        together = metric(predicted / 5, correct)
        assert together.shape == (7,)
        assert together == pytest.approx(
            [float(metric(*row)) for row in zip(predicted / 5, correct, strict=True)]
        )


def test_bootstrap_of_a_mean_agrees_with_its_standard_error():
    values = np.random.default_rng(5).normal(10, 2, 400)
    interval = bootstrap(lambda rows: rows.mean(axis=-1), values, seed=1)
    error = values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)


def test_bootstrap_keeps_rows_together():
    gold = np.arange(50.0)
    assert bootstrap(spearman_rho, gold, gold) == Interval(1.0, pytest.approx(1), pytest.approx(1))


def test_bootstrap_repeats_and_narrows_with_the_level():
    ranks = np.random.default_rng(2).integers(0, 5, 100)
    wide, again = (
        bootstrap(mean_reciprocal_rank, ranks, seed=4),
        bootstrap(mean_reciprocal_rank, ranks, seed=4),
    )
    narrow = bootstrap(mean_reciprocal_rank, ranks, seed=4, level=0.5)
    assert wide == again
    assert wide.low < narrow.low < narrow.high < wide.high
    assert wide != bootstrap(mean_reciprocal_rank, ranks, seed=5)


def test_bootstrap_of_one_row_has_no_width():
    assert bootstrap(edrm, [4.0], [3.0]) == Interval(0.75, 0.75, 0.75)


def test_bootstrap_refuses_no_rows_and_uneven_columns():
    with pytest.raises(InputError):
        bootstrap(mean_reciprocal_rank, [])
    with pytest.raises(InputError):
        bootstrap(edrm, [1, 2], [1])


def test_bootstrap_is_fast_enough_for_every_metric():
    rng = np.random.default_rng(0)
    gold, predicted = rng.uniform(0, 5, (2, 5000))
    start = time.process_time()
    bootstrap(spearman_rho, gold, predicted, resamples=1000)
    assert time.process_time() - start < 4


def test_difference_is_paired():
    gold = np.linspace(0, 5, 60)
    before = gold + np.random.default_rng(3).normal(0, 1, 60)
    same = difference(edrm, (gold, before), (gold, before))
    assert same == Interval(0, 0, 0)
    worse = difference(edrm, (gold, gold), (gold, before))
    assert worse.high < 0
    assert worse.value == pytest.approx(float(edrm(gold, before)) - 1)


def test_interval_is_plain_json():
    assert bootstrap(recall_at_k_1, [1, 0, 1, 1]).to_dict().keys() == {"value", "low", "high"}


def recall_at_k_1(ranks):
    return recall_at_k(ranks, 1)


recall_at_1 = partial(recall_at_k, k=1)


class TestClusters:
    def test_without_repeats_rows_are_drawn(self):
        values = np.arange(40) % 3
        plain = bootstrap(recall_at_1, values)
        assert bootstrap(recall_at_1, values, clusters=np.arange(40)) == plain

    def test_repeated_rows_prove_nothing_more(self):
        """Ten copies of twenty outcomes have the interval of twenty outcomes, not that of two hundred."""
        outcomes = np.arange(20) % 2
        few = bootstrap(recall_at_1, outcomes, resamples=4000)
        many = np.repeat(outcomes, 10)
        copies = bootstrap(recall_at_1, many, clusters=np.repeat(np.arange(20), 10), resamples=4000)
        rows = bootstrap(recall_at_1, many, resamples=4000)
        assert copies.value == few.value
        assert copies.high - copies.low == pytest.approx(few.high - few.low, abs=0.051)
        assert rows.high - rows.low < 0.5 * (few.high - few.low)

    def test_the_standard_error_is_that_of_the_clusters(self):
        """For the mean over clusters of one size, it is that of the clusters' means (a closed form)."""
        draw = np.random.default_rng(5)
        effects = draw.normal(size=200)
        values, labels = np.repeat(effects, 5), np.repeat(np.arange(200), 5)
        found = bootstrap(lambda x: x.mean(axis=-1), values, clusters=labels, resamples=4000)
        assert (found.high - found.low) / 3.92 == pytest.approx(effects.std() / 200**0.5, rel=0.06)

    def test_the_order_of_rows_and_the_names_of_clusters_change_nothing(self):
        values, labels = np.array([1, 0, 0, 2, 1, 0]), np.array(list("aabbbc"))
        found = bootstrap(recall_at_1, values, clusters=labels)
        assert found == bootstrap(recall_at_1, values[::-1], clusters=labels[::-1])
        assert found == bootstrap(recall_at_1, values, clusters=np.char.add("x", labels))

    def test_one_cluster_shows_no_spread(self):
        assert bootstrap(recall_at_1, [1, 0], clusters=["a", "a"]) == Interval(0.5, 0.5, 0.5)

    def test_as_many_labels_as_rows(self):
        with pytest.raises(InputError, match="one length"):
            bootstrap(recall_at_1, [1, 0], clusters=["a"])

    def test_systems_are_compared_by_cluster(self):
        before, after = [0, 0, 0, 1], [1, 1, 0, 0]
        assert mcnemar(before, after)[:2] == (1, 2)
        assert mcnemar(before, after, clusters=list("aabb"))[:2] == (1, 1)
        assert mcnemar(before, after, clusters=list("abab"))[:2] == (0, 1)
