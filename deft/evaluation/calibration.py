"""Whether a confidence means what it says, and whether it tells that no concept fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deft.errors import InputError
from deft.evaluation.linking import answerable, clusters_of
from deft.evaluation.metrics import (
    Array,
    Interval,
    auroc,
    bin_numbers,
    bootstrap,
    brier_score,
    expected_calibration_error,
)
from deft.mapping.filters import ConceptFilter
from deft.terminology.lexicon import GoldMapping

if TYPE_CHECKING:
    from deft.mapping.mapper import Channel, TermMapper

BINS = 10
PRECISIONS = (0.9, 0.95)
_SHOWN_POINTS = 20  # of the curve, in JSON: every twentieth of coverage


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers whose confidence lies in ``(low, high]``: how many, their mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Point:
    """The answers of at least some confidence: what part of all they are, and what part of them is right."""

    confidence: float
    coverage: float
    precision: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How confidences compare with what was right.

    Attributes
    ----------
    n
        Number of answers.
    confidence, accuracy
        Mean confidence, and the part of the answers that is right.
    ece
        Expected calibration error over ten bins of equal width. A resample has more of it than the sample,
        so the upper bound of its interval errs on the safe side.
    brier
        Brier score.
    bins
        Reliability diagram: the bins that hold an answer, the lowest first.
    curve
        Coverage against precision: one point for each distinct confidence, the highest first.
    """

    n: int
    confidence: float
    accuracy: float
    ece: Interval
    brier: Interval
    bins: tuple[Bin, ...]
    curve: tuple[Point, ...]

    @classmethod
    def of(
        cls,
        confidence: ArrayLike,
        correct: ArrayLike,
        *,
        clusters: ArrayLike | None = None,
        resamples: int = 1000,
        seed: int = 13,
    ) -> Calibration:
        """Compare confidences with outcomes.

        Parameters
        ----------
        confidence
            Probability of each answer to be right, shape (n,).
        correct
            Whether it is, shape (n,).
        clusters
            A label an answer: answers of one label are resampled together.
        resamples
            Bootstrap resamples behind each interval.
        seed
            Seed of the bootstrap.

        Raises
        ------
        InputError
            There is no answer, the shapes differ, or a confidence is no number from 0 to 1.
        """
        given, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
        interval = partial(bootstrap, clusters=clusters, resamples=resamples, seed=seed)
        error = partial(expected_calibration_error, bins=BINS)
        return cls(
            n=len(given),
            ece=_holding(interval(error, given, right)),
            brier=interval(brier_score, given, right),
            confidence=float(given.mean()),
            accuracy=float(right.mean()),
            bins=_reliability(given, right),
            curve=_coverage_curve(given, right),
        )

    def at_precision(self, least: float) -> Point | None:
        """Return the point of smallest confidence whose precision is at least `least`, if there is one.

        It is read off the scored answers themselves: a threshold for other data needs data of its own.
        """
        return next((point for point in reversed(self.curve) if point.precision >= least), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON can hold it, the curve at about every twentieth of coverage."""
        thresholds = {f"{least:g}": self.at_precision(least) for least in PRECISIONS}
        return {
            "n": self.n,
            "confidence": self.confidence,
            "accuracy": self.accuracy,
            "ece": self.ece.to_dict(),
            "brier": self.brier.to_dict(),
            "at_precision": {name: point and asdict(point) for name, point in thresholds.items()},
            "bins": [asdict(each) for each in self.bins],
            "curve": [asdict(point) for point in _thinned(self.curve)],
        }


@dataclass(frozen=True, slots=True)
class NilScore:
    """How well a low confidence in any match tells the queries that have no right concept in the index.

    Attributes
    ----------
    n, nil
        Number of queries, and of those among them without a right concept in the index.
    auroc
        Area under the ROC curve of 1 - confidence.
    """

    n: int
    nil: int
    auroc: Interval

    @classmethod
    def of(
        cls,
        confidence: ArrayLike,
        nil: ArrayLike,
        *,
        clusters: ArrayLike | None = None,
        resamples: int = 1000,
        seed: int = 13,
    ) -> NilScore:
        """Score the confidence that there is a match as a test of `nil`, whether there is none in the index.

        Queries of one cluster are resampled together.

        Raises
        ------
        InputError
            All queries are of one kind, or the shapes differ.
        """
        absent = np.asarray(nil, dtype=bool)
        _check_both(absent)
        doubt = 1 - np.asarray(confidence, dtype=np.float64)
        area = bootstrap(auroc, doubt, absent, clusters=clusters, resamples=resamples, seed=seed)
        return cls(len(absent), int(absent.sum()), area)

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON can hold it."""
        return asdict(self)


def nil_experiment(
    mapper: TermMapper,
    gold: Sequence[GoldMapping],
    *,
    channel: Channel = "fused",
    groups: Sequence[str] | None = None,
    clusters: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 13,
    progress: bool = False,
) -> NilScore:
    """Take the right concepts of half the queries out of the index and see whether confidence tells which.

    Queries with the same right concepts stay together: half of these sets of concepts, drawn by `seed`, are
    treated as absent, and with them every string that names nothing else. A query has no match if all its
    right concepts are absent.

    Parameters
    ----------
    mapper
        The mapper, on the whole index.
    gold
        Queries with their right concepts; those without one in the index take no part.
    channel, groups
        How the queries are mapped; a semantic group, or "", a query of `gold`.
    clusters
        What is independent, a label a query; the distinct queries by default.
    resamples
        Bootstrap resamples behind the interval.
    seed
        Seed of the draw and of the bootstrap.
    progress
        Show progress on standard error.

    Raises
    ------
    InputError
        There are fewer than two sets of right concepts in the index.
    """
    known = mapper.concepts.cuis
    kept = np.flatnonzero(answerable(gold, known)).tolist()
    rights = [gold[place].cuis & known for place in kept]
    removed = _half(rights, seed)
    nil = [right <= removed for right in rights]
    _check_both(nil)  # before the work
    mappings = mapper.map(
        [gold[place].query for place in kept],
        channel=channel,
        groups=None if groups is None else [groups[place] for place in kept],
        keep=ConceptFilter(exclude=removed),
        progress=progress,
    )
    confidence = [1 - mapping.no_match for mapping in mappings]
    labels = clusters_of(gold) if clusters is None else clusters
    drawn = [labels[place] for place in kept]
    return NilScore.of(confidence, nil, clusters=drawn, resamples=resamples, seed=seed)


def _check_both(nil: Sequence[bool] | NDArray[np.bool_]) -> None:
    if all(nil) or not any(nil):
        raise InputError(
            "no match cannot be measured without queries that have a right concept in the index and others.",
            remedy="Give gold on more concepts of the index.",
        )


def _half(rights: Sequence[frozenset[str]], seed: int) -> frozenset[str]:
    """Return the concepts of half the distinct sets."""
    distinct = sorted({tuple(sorted(cuis)) for cuis in rights})
    drawn = np.random.default_rng(seed).permutation(len(distinct))[: len(distinct) // 2]
    return frozenset(cui for place in drawn for cui in distinct[place])


def _reliability(confidence: Array, correct: Array) -> tuple[Bin, ...]:
    places = bin_numbers(confidence, BINS)
    found = []
    for place in np.unique(places).tolist():
        inside = places == place
        means = float(confidence[inside].mean()), float(correct[inside].mean())
        found.append(Bin(place / BINS, (place + 1) / BINS, int(inside.sum()), *means))
    return tuple(found)


def _coverage_curve(confidence: Array, correct: Array) -> tuple[Point, ...]:
    order = np.argsort(-confidence, kind="stable")
    given, right = confidence[order], np.cumsum(correct[order])
    # a threshold cannot part equal confidences: the last of them stands for all
    last = np.flatnonzero(np.append(given[:-1] != given[1:], True))
    return tuple(
        Point(float(given[place]), (place + 1) / len(given), float(right[place]) / (place + 1))
        for place in last.tolist()
    )


def _thinned(curve: Sequence[Point]) -> list[Point]:
    """Return, for each of some coverages, the first point that reaches it, each once."""
    coverage = np.array([point.coverage for point in curve])
    places = np.searchsorted(coverage, np.arange(1, _SHOWN_POINTS + 1) / _SHOWN_POINTS - 1e-9)
    return [curve[place] for place in np.unique(places)]


def _holding(interval: Interval) -> Interval:
    """Return the interval widened to hold its value, which the bias of the resamples can push out."""
    return Interval(interval.value, min(interval.low, interval.value), max(interval.high, interval.value))
