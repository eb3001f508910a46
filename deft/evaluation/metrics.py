"""The project's metrics, and bootstrap intervals around them.

A metric reduces the last axis of its arrays, the items, so that one call scores a thousand resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from deft.corpora.deft2020 import MAX_GRADE
from deft.errors import InputError

Array = NDArray[np.float64]
Statistic = Callable[..., Array]

_CELLS = 1_000_000  # values of one column that are resampled at a time


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and the bounds of its confidence interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Return the interval as JSON can hold it."""
        return asdict(self)


class McNemar(NamedTuple):
    """How many items, or clusters, each of two systems did better on, and the chance of so uneven a split."""

    only_before: int
    only_after: int
    p_value: float


class Correlation(NamedTuple):
    """A correlation coefficient and the probability of one as far from 0 if there were no relation."""

    rho: float
    p_value: float


def edrm(gold: ArrayLike, predicted: ArrayLike, reference: Literal["gold", "prediction"] = "gold") -> Array:
    """Return the DEFT 2020 task 1 accuracy in relative distance to the mean grade ("EDRM"), from 0 to 1.

    It is the mean over pairs of ``1 - |h - r| / dmax``, h being the prediction and r the gold grade. Two
    readings of ``dmax`` are published: the largest distance that any prediction could have had from the gold
    grade, ``max(r, 5 - r)``, and the same seen from the prediction, ``max(h, 5 - h)``.

    Parameters
    ----------
    gold
        Grades from 0 to 5, shape (..., n).
    predicted
        Predictions of the same shape; those outside 0 to 5 are clipped.
    reference
        The grade from which ``dmax`` is taken.

    Raises
    ------
    InputError
        The shapes differ, there is no pair, a value is not finite or a gold grade is outside 0 to 5.
    """
    true, given = _columns(gold, predicted)
    if true.min() < 0 or true.max() > MAX_GRADE:
        raise InputError("a gold grade lies outside 0 to 5.")
    given = np.clip(given, 0, MAX_GRADE)
    origin = true if reference == "gold" else given
    return _mean(1 - np.abs(given - true) / np.maximum(origin, MAX_GRADE - origin))


def spearman_rho(gold: ArrayLike, predicted: ArrayLike) -> Array:
    """Return Spearman's rank correlation, tied values sharing their mean rank.

    A constant column orders nothing: its correlation is 0.
    """
    left, right = (_centred_ranks(column) for column in _columns(gold, predicted))
    scale = np.sqrt(np.sum(left**2, axis=-1) * np.sum(right**2, axis=-1))
    product = np.sum(left * right, axis=-1)
    rho = np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.asarray(np.clip(rho, -1, 1))


def spearman(gold: ArrayLike, predicted: ArrayLike) -> Correlation:
    """Return Spearman's rank correlation of two columns with its two-sided p-value.

    A constant column orders nothing: its correlation is 0 and its p-value 1. Fewer than three pairs prove
    nothing either: their p-value is 1.
    """
    left, right = _columns(gold, predicted)
    if left.size < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return Correlation(float(spearman_rho(left, right)), 1.0)
    result = stats.spearmanr(left, right)
    return Correlation(float(result.statistic), float(result.pvalue))


def accuracy(gold: ArrayLike, predicted: ArrayLike) -> Array:
    """Return the part of the items whose prediction equals the gold, shape (..., n) to (...)."""
    true, given = _columns(gold, predicted)
    return _mean(true == given)


def recall_at_k(ranks: ArrayLike, k: int) -> Array:
    """Return the part of the queries whose answer stands among the first `k`.

    Parameters
    ----------
    ranks
        Rank of the answer of each query, from 1; 0 or None where it was not found. Shape (..., n).
    k
        Length of the list that is looked at.
    """
    found = _ranks(ranks)
    return _mean((found > 0) & (found <= k))


def mean_reciprocal_rank(ranks: ArrayLike) -> Array:
    """Return the mean of ``1 / rank``, an answer that was not found (rank 0 or None) counting 0."""
    found = _ranks(ranks)
    return _mean(np.divide(1.0, found, out=np.zeros_like(found), where=found > 0))


def mean_average_precision(ranks: ArrayLike) -> Array:
    """Return the mean average precision of sets with one relevant item each, from the ranks of these items.

    The precision at the one relevant item is ``1 / rank``, so this equals the mean reciprocal rank.
    """
    return mean_reciprocal_rank(ranks)


def brier_score(confidence: ArrayLike, correct: ArrayLike) -> Array:
    """Return the mean squared distance of confidence and outcome (Brier 1950): 0 is best, shape (..., n).

    Raises
    ------
    InputError
        The shapes differ, there is no item, or a confidence is no number from 0 to 1.
    """
    outcome, given = _outcomes(confidence, correct)
    return _mean((given - outcome) ** 2)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> Array:
    """Return the mean distance of confidence and accuracy over bins of equal width, shape (..., n) to (...).

    It is the sum over bins of ``n_b / n * |accuracy_b - confidence_b|``, bin ``b`` holding the confidences in
    ``(b / bins, (b + 1) / bins]`` (Naeini et al. 2015, "Obtaining well calibrated probabilities using
    Bayesian binning"; Guo et al. 2017, "On calibration of modern neural networks").

    Raises
    ------
    InputError
        The shapes differ, there is no item, or a confidence is no number from 0 to 1.
    """
    outcome, given = _outcomes(confidence, correct)
    excess, place = outcome - given, bin_numbers(given, bins)
    sums = (np.abs(np.sum(excess, axis=-1, where=place == number)) for number in range(bins))
    return np.asarray(sum(sums) / given.shape[-1])


def bin_numbers(confidence: ArrayLike, bins: int) -> NDArray[np.intp]:
    """Return the number of the bin of equal width, from 0, that each value from 0 to 1 falls into.

    A value on an edge belongs to the bin below it, 0 to the first.
    """
    # 0.7 times 10 is a little more than 7: rounding keeps edges where they are written
    upper = np.ceil(np.round(np.asarray(confidence, dtype=np.float64) * bins, 9))
    return np.asarray(np.maximum(upper - 1, 0), dtype=np.intp)


def auroc(scores: ArrayLike, positives: ArrayLike) -> Array:
    """Return the area under the ROC curve: the chance that a positive scores above a negative, ties half.

    It is the Mann-Whitney statistic over the number of pairs (Hanley and McNeil 1982). Items of one class
    alone cannot be told apart: 0.5. Shape (..., n) to (...).

    Parameters
    ----------
    scores
        Higher for what is held to be positive.
    positives
        What is positive.
    """
    truth, given = _columns(positives, scores)
    positive = np.sum(truth > 0, axis=-1)
    pairs = positive * (truth.shape[-1] - positive)
    ranks = np.sum(stats.rankdata(given, axis=-1), axis=-1, where=truth > 0)
    above = ranks - positive * (positive + 1) / 2
    return np.asarray(np.divide(above, pairs, out=np.full(np.shape(pairs), 0.5), where=pairs > 0))


def mcnemar(before: ArrayLike, after: ArrayLike, *, clusters: ArrayLike | None = None) -> McNemar:
    """Compare two systems that were right or wrong on the same items, by McNemar's exact two-sided test.

    Of the items that one system alone got right, each is as likely to be the one's or the other's if the two
    are equally good (McNemar 1947). Where they agree on every item, the p-value is 1. With clusters of items,
    what is counted is the clusters in which one system got more right than the other (a sign test).

    Raises
    ------
    InputError
        The columns differ in length, or there is no item.
    """
    left, right = _columns(before, after)
    gain = (right > 0).astype(np.int64) - (left > 0)
    if clusters is not None:
        gain = np.bincount(np.unique(clusters, return_inverse=True)[1], weights=gain)
    lost, gained = int(np.sum(gain < 0)), int(np.sum(gain > 0))
    p_value = float(stats.binomtest(gained, lost + gained).pvalue) if lost + gained else 1.0
    return McNemar(lost, gained, p_value)


def bootstrap(
    statistic: Statistic,
    *columns: ArrayLike,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 13,
) -> Interval:
    """Return a statistic of paired columns with its percentile bootstrap interval.

    What is resampled is rows, or clusters of rows where these are what is independent of one another (Davison
    and Hinkley 1997, "Bootstrap methods and their application", section 3.8).

    Parameters
    ----------
    statistic
        Takes one array per column, of shape (..., n), and returns shape (...).
    columns
        Arrays of length n: row i of each belongs to item i.
    clusters
        A label a row: rows of one label are drawn together. By default each row is a cluster of its own.
    resamples
        Number of resamples.
    level
        Confidence level.
    seed
        Seed of the resampling: the same rows are drawn for every statistic of the same items.

    Raises
    ------
    InputError
        There is no row, or the columns differ in length.
    """
    rows = [np.asarray(column) for column in columns]
    if clusters is not None:
        rows.append(np.asarray(clusters))
    if len({len(column) for column in rows}) != 1 or len(rows[0]) == 0:
        raise InputError(
            f"expected columns of one length, with rows; found {[len(column) for column in rows]}."
        )
    if clusters is not None:
        labels = rows.pop()
        if len(np.unique(labels)) < len(labels):
            return _cluster_bootstrap(statistic, rows, labels, resamples=resamples, level=level, seed=seed)
    value = float(statistic(*rows))
    count = len(rows[0])
    if count == 1:
        return Interval(value, value, value)

    def along_axis(*resampled: NDArray[Any], axis: int) -> Array:  # noqa: ARG001 - always the last axis
        return statistic(*resampled)

    bounds = stats.bootstrap(
        rows,
        along_axis,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _CELLS // count),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(bounds.low), float(bounds.high))


def difference(
    statistic: Statistic,
    before: Sequence[ArrayLike],
    after: Sequence[ArrayLike],
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 13,
) -> Interval:
    """Return ``statistic(*after) - statistic(*before)`` with its interval, resampling both together.

    Parameters
    ----------
    before, after
        The columns of the statistic for two systems on the same items: ``(gold, predicted)`` or ``(ranks,)``.
    """
    width = len(before)

    def change(*columns: NDArray[Any]) -> Array:
        return statistic(*columns[width:]) - statistic(*columns[:width])

    return bootstrap(change, *before, *after, clusters=clusters, resamples=resamples, level=level, seed=seed)


def _cluster_bootstrap(
    statistic: Statistic,
    rows: Sequence[NDArray[Any]],
    labels: NDArray[Any],
    *,
    resamples: int,
    level: float,
    seed: int,
) -> Interval:
    """Resample clusters: scipy's bootstrap draws rows alone, and resamples of clusters differ in length."""
    value = float(statistic(*rows))
    codes = np.unique(labels, return_inverse=True)[1]
    rows_of = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    if len(rows_of) == 1:
        return Interval(value, value, value)
    generator = np.random.default_rng(seed)
    values = np.empty(resamples)
    for number in range(resamples):
        drawn = generator.integers(len(rows_of), size=len(rows_of))
        chosen = np.concatenate([rows_of[cluster] for cluster in drawn])
        values[number] = statistic(*(column[chosen] for column in rows))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))


def _columns(gold: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array]:
    true, given = np.asarray(gold, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if true.shape != given.shape:
        raise InputError(f"gold and predictions differ in shape: {true.shape} and {given.shape}.")
    if true.size == 0:
        raise InputError("there is nothing to score.")
    if not (np.isfinite(true).all() and np.isfinite(given).all()):
        raise InputError("a value to score is not a finite number.")
    return true, given


def _outcomes(confidence: ArrayLike, correct: ArrayLike) -> tuple[Array, Array]:
    outcome, given = _columns(correct, confidence)
    if given.min() < 0 or given.max() > 1:
        raise InputError("a confidence lies outside 0 to 1.")
    return outcome, given


def _mean(values: NDArray[Any]) -> Array:
    return np.asarray(np.mean(values, axis=-1))


def _ranks(ranks: ArrayLike) -> Array:
    # None becomes NaN in this conversion, and then 0: not found.
    found: Array = np.nan_to_num(np.asarray(ranks, dtype=np.float64))
    if found.size == 0:
        raise InputError("there is nothing to score.")
    if found.min() < 0:
        raise InputError("a rank is negative.", remedy="Ranks start at 1; 0 means not found.")
    return found


def _centred_ranks(values: Array) -> Array:
    ranks = np.asarray(stats.rankdata(values, axis=-1), dtype=np.float64)
    return np.asarray(ranks - ranks.mean(axis=-1, keepdims=True))
