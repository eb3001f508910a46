"""How good an encoder is: one measure each of graded similarity, parallel sentences and retrieval.

Training watches them, the quality gate and the benchmarks compare by them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.evaluation.deft_tasks import answer_ranks, rank_targets
from deft.evaluation.metrics import Interval, Statistic, bootstrap, difference, recall_at_k, spearman_rho
from deft.mapping.grades import TextEncoder, gold_grades, similarities

_DECIMALS = 6  # of cosines, so that the last bits decide no tie


class Measured(NamedTuple):
    """A metric, the columns it is computed from, a row an item, and what is independent, a label an item."""

    statistic: Statistic
    columns: tuple[np.ndarray, ...]
    clusters: Sequence[str]

    @property
    def value(self) -> float:
        """The metric of all items."""
        return float(self.statistic(*self.columns))

    def interval(self, *, resamples: int = 1000, seed: int = 13) -> Interval:
        """Return the metric with its interval."""
        return bootstrap(
            self.statistic, *self.columns, clusters=self.clusters, resamples=resamples, seed=seed
        )

    def change_to(self, other: Measured, *, resamples: int = 1000, seed: int = 13) -> Interval:
        """Return what another encoder has more on the same items, with its interval."""
        return difference(
            self.statistic,
            self.columns,
            other.columns,
            clusters=self.clusters,
            resamples=resamples,
            seed=seed,
        )


@dataclass(frozen=True)
class Retrieval:
    """Queries that look for a right text among candidates.

    Attributes
    ----------
    queries, candidates
        The texts.
    relevant
        Of each query the rows of the candidates that are right, one at least.
    ignored
        Of each query the rows that count neither for nor against it, such as its own text.
    clusters
        Of each query what is independent of others: its concept.
    """

    queries: Sequence[str]
    candidates: Sequence[str]
    relevant: Sequence[NDArray[np.intp]]
    ignored: Sequence[NDArray[np.intp]]
    clusters: Sequence[str]

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        candidates: Sequence[str],
        relevant: Sequence[Collection[int]],
        ignored: Sequence[Collection[int]],
        clusters: Sequence[str],
    ) -> Retrieval:
        """Make one of sets of rows; a query for which nothing is right is left out."""
        kept = [row for row, rows in enumerate(relevant) if rows]
        return cls(
            [queries[row] for row in kept],
            candidates,
            [np.array(sorted(relevant[row]), dtype=np.intp) for row in kept],
            [np.array(sorted(ignored[row]), dtype=np.intp) for row in kept],
            [clusters[row] for row in kept],
        )

    def ranks(self, encoder: TextEncoder) -> NDArray[np.intp]:
        """Return the rank, from 1, of the first right candidate of each query; a tie counts against it."""
        candidates = encoder.encode(self.candidates)
        ranks = np.empty(len(self.queries), dtype=np.intp)
        for row, vector in enumerate(encoder.encode(self.queries)):
            cosines = np.round(candidates @ vector, _DECIMALS)
            best = cosines[self.relevant[row]].max()
            cosines[self.relevant[row]] = cosines[self.ignored[row]] = -np.inf
            ranks[row] = 1 + np.count_nonzero(cosines >= best)
        return ranks


def retrieval(found: Retrieval, encoder: TextEncoder) -> Measured:
    """Measure recall@1 of a retrieval."""
    return Measured(partial(recall_at_k, k=1), (found.ranks(encoder),), found.clusters)


def graded_similarity(pairs: Sequence[SentencePair], encoder: TextEncoder) -> Measured:
    """Measure Spearman's correlation of cosine and grade; pairs of one source depend on one another."""
    cosines = np.round(similarities(pairs, encoder, ("cosine",))[:, 0], _DECIMALS)
    return Measured(spearman_rho, (gold_grades(pairs), cosines), [pair.source for pair in pairs])


def parallel_sentences(sets: Sequence[SentenceSet], encoder: TextEncoder) -> Measured:
    """Measure how often the sentence nearest to the source is the parallel one."""
    ranks = answer_ranks(sets, rank_targets(sets, encoder))
    return Measured(partial(recall_at_k, k=1), (ranks,), [item.source for item in sets])
