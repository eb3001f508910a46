"""A trial of an index on gold queries: one mapping, and everything that is measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deft.corpora.noise import KINDS, noisy
from deft.errors import InputError
from deft.evaluation.baseline import NgramBaseline
from deft.evaluation.calibration import Calibration, NilScore, nil_experiment
from deft.evaluation.linking import (
    DEPTHS,
    Miss,
    answerable,
    clusters_of,
    column_of,
    compare_systems,
    evaluate_mapping,
    evaluate_parts,
    first_ranks,
    hardest_misses,
    recall_curve,
    seen_or_not,
)
from deft.mapping.fusion import EXPECTED_PRESENT
from deft.mapping.mapper import Channel, TermMapper
from deft.mapping.results import Mapping
from deft.terminology.lexicon import GoldMapping

CHANNELS: tuple[Channel, ...] = get_args(Channel)

Ranking = tuple[str, ...]

_NOISE = 10_000  # added to the seed: a model that was fitted with the same seed saw other noise


@dataclass(frozen=True)
class MappingDetail:
    """How queries are mapped, and what is measured beyond the scores of them all.

    Attributes
    ----------
    channel
        What the ranking goes by.
    group_column
        Column of the gold file with the semantic group of each query: candidates of other groups are left
        out. An empty cell, or no column, filters nothing.
    context_column
        Column of the gold file with what stands beside each query, such as an explanation.
    by
        Columns of the gold file whose values are scored apart.
    cluster_column
        Column of the gold file that says what is independent, such as the document: intervals resample its
        values. By default they resample the distinct queries.
    seen
        Mentions that training saw: queries among them and others are scored apart.
    compare
        Channels that are compared with `channel` on the same queries.
    against
        Another index that is compared with this one, by `channel`.
    no_match
        Measure how well queries are recognised whose concepts are taken out of the index; this maps again.
    noise
        Score the queries as they are written wrong too, each kind of noise (`deft.corpora.noise`) apart; this
        maps them again.
    expected_present
        Share of queries that are expected to have their concept in the index.

    Raises
    ------
    InputError
        A channel does not exist.
    """

    channel: Channel = "fused"
    group_column: str | None = None
    context_column: str | None = None
    by: tuple[str, ...] = ()
    cluster_column: str | None = None
    seen: Sequence[str] | None = None
    compare: tuple[Channel, ...] = ()
    against: Path | None = None
    no_match: bool = False
    noise: bool = False
    expected_present: float = EXPECTED_PRESENT

    def __post_init__(self) -> None:  # noqa: D105
        unknown = [name for name in (self.channel, *self.compare) if name not in CHANNELS]
        if unknown:
            remedy = f"The channels are {', '.join(CHANNELS)}."
            raise InputError(f"no channel is called {', '.join(unknown)}.", remedy=remedy)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the gold file must have."""
        single = (self.group_column, self.context_column, self.cluster_column)
        return (*self.by, *(name for name in single if name))


class _Draw(TypedDict):
    resamples: int
    seed: int


@dataclass(frozen=True)
class MappingTrial:
    """Gold queries mapped with one index.

    Attributes
    ----------
    mapper
        The mapper, on the index.
    gold
        Queries with their right concepts.
    detail
        How they are mapped and what is measured.
    resamples, seed
        Of the bootstrap behind each interval.
    progress
        Show progress on standard error.
    """

    mapper: TermMapper
    gold: Sequence[GoldMapping]
    detail: MappingDetail = field(default_factory=MappingDetail)
    resamples: int = 1000
    seed: int = 13
    progress: bool = False

    @cached_property
    def mappings(self) -> list[Mapping]:
        """The mapper's answers by the chosen channel."""
        return self._map(self.mapper, self.detail.channel)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The CUIs of the answers."""
        return _rankings(self.mappings)

    @cached_property
    def ranks(self) -> NDArray[np.intp]:
        """The rank of the first right concept of each query, 0 where there is none."""
        return first_ranks(self.gold, self.rankings)

    @cached_property
    def in_index(self) -> NDArray[np.bool_]:
        """Whether a right concept of each query is in the index."""
        return answerable(self.gold, self.mapper.concepts.cuis)

    @cached_property
    def clusters(self) -> NDArray[np.str_]:
        """What each query belongs to that is independent of the rest."""
        return np.array(clusters_of(self.gold, self.detail.cluster_column))

    @property
    def _draw(self) -> _Draw:
        return {"resamples": self.resamples, "seed": self.seed}

    def ngram_rankings(self) -> list[Ranking]:
        """Return what the baseline, character n-grams, answers from the same strings."""
        concepts = self.mapper.concepts
        cuis = concepts.concepts["cui"].to_numpy()[concepts.atoms["concept"]]
        carried = pd.Series(cuis).groupby(concepts.atoms["string"].to_numpy()).agg(set)
        baseline = NgramBaseline.fit(concepts.strings["string"].to_list(), carried.to_list())
        return baseline.rank(self._queries, max(DEPTHS))

    def scores(self, rankings: Sequence[Ranking]) -> dict[str, Any]:
        """Return the scores of all queries, and ``in_index`` of those with a right concept in the index."""
        known, clusters = self.mapper.concepts.cuis, self.clusters.tolist()
        return evaluate_mapping(self.gold, rankings, known=known, clusters=clusters, **self._draw)

    def curve(self, rankings: Sequence[Ranking]) -> list[float]:
        """Return recall@k, from 1 to the largest depth, of the queries with a right concept in the index."""
        ranks = first_ranks(self.gold, rankings)[self.in_index]
        return recall_curve(ranks) if len(ranks) else []

    def calibration(self) -> dict[str, Any]:
        """Return how confidence compares with what was right, for all queries and those ``in_index``."""
        chosen = {"all": np.ones(len(self.gold), dtype=bool), "in_index": self.in_index}
        return {
            name: Calibration.of(
                self._confidence[rows], self.ranks[rows] == 1, clusters=self.clusters[rows], **self._draw
            ).to_dict()
            for name, rows in chosen.items()
            if rows.any()
        }

    def by(self) -> dict[str, Any]:
        """Return the scores by column and value, for the columns that were asked for."""
        return {column: self._parts(column_of(self.gold, column)) for column in self.detail.by}

    def seen(self) -> dict[str, Any]:
        """Return the scores of queries that training saw and of others; nothing if that was not asked for."""
        return {} if self.detail.seen is None else self._parts(seen_or_not(self.gold, self.detail.seen))

    def noise(self) -> dict[str, Any]:
        """Return the scores of answerable queries as each kind of noise writes them, if that was asked for.

        ``clean`` is the score of all of them as they are.
        """
        gold = [item for item, known in zip(self.gold, self.in_index, strict=True) if known]
        if not (self.detail.noise and gold):
            return {}
        written = [("clean", item) for item in gold]
        for kind in KINDS:
            changed = ((noisy(item.query, kind, self.seed + _NOISE), item) for item in gold)
            written += [(kind, replace(item, query=text)) for text, item in changed if text is not None]
        queries = [item for _, item in written]
        terms = [item.query for item in queries]
        groups, contexts = (
            None if column is None else column_of(queries, column)
            for column in (self.detail.group_column, self.detail.context_column)
        )
        found = self.mapper.map(
            terms,
            k=max(DEPTHS),
            channel=self.detail.channel,
            groups=groups,
            contexts=contexts,
            progress=self.progress,
        )
        return evaluate_parts(queries, _rankings(found), [kind for kind, _ in written], **self._draw)

    def comparison(self) -> dict[str, Any]:
        """Compare channels, and another index, on the queries that one of the indexes can answer.

        Without something to compare there is nothing in it.
        """
        detail, known = self.detail, self.mapper.concepts.cuis
        rankings: dict[str, list[Ranking]] = {
            name: _rankings(self._map(self.mapper, name)) for name in detail.compare if name != detail.channel
        }
        if detail.against is not None:
            other = TermMapper.open(detail.against, expected_present=detail.expected_present)
            known |= other.concepts.cuis
            rankings[f"{detail.channel} of {detail.against}"] = _rankings(self._map(other, detail.channel))
        if not rankings:
            return {}
        rankings[detail.channel] = self.rankings
        rows = answerable(self.gold, known)
        ranks = {name: first_ranks(self.gold, found)[rows] for name, found in rankings.items()}
        return compare_systems(ranks, clusters=self.clusters[rows].tolist(), **self._draw)

    def no_match(self) -> dict[str, Any]:
        """Return how well a low confidence tells that the index has no right concept.

        ``absent`` looks at the gold concepts that are not in the index, if some are and some are not; what
        the index may hold under another CUI counts as absent. ``removed`` takes concepts out of the index, if
        that was asked for.
        """
        found = {}
        if self.in_index.any() and not self.in_index.all():
            any_match = [1 - mapping.no_match for mapping in self.mappings]
            absent = NilScore.of(any_match, ~self.in_index, clusters=self.clusters, **self._draw)
            found["absent"] = absent.to_dict()
        if self.detail.no_match:
            removed = nil_experiment(
                self.mapper,
                self.gold,
                channel=self.detail.channel,
                groups=self._groups,
                clusters=self.clusters.tolist(),
                progress=self.progress,
                **self._draw,
            )
            found["removed"] = removed.to_dict()
        return found

    def misses(self) -> list[Miss]:
        """Return the queries whose first concept is wrong though a right one is in the index."""
        table = self.mapper.concepts.concepts
        return hardest_misses(self.gold, self.mappings, dict(zip(table["cui"], table["name"], strict=True)))

    @property
    def _queries(self) -> list[str]:
        return [item.query for item in self.gold]

    @property
    def _groups(self) -> list[str] | None:
        column = self.detail.group_column
        return None if column is None else column_of(self.gold, column)

    @property
    def _contexts(self) -> list[str] | None:
        column = self.detail.context_column
        return None if column is None else column_of(self.gold, column)

    @property
    def _confidence(self) -> NDArray[np.float64]:
        return np.array([mapping.confidence for mapping in self.mappings])

    def _map(self, mapper: TermMapper, channel: Channel) -> list[Mapping]:
        return mapper.map(
            self._queries,
            k=max(DEPTHS),
            channel=channel,
            groups=self._groups,
            contexts=self._contexts,
            progress=self.progress,
        )

    def _parts(self, labels: Sequence[str]) -> dict[str, Any]:
        known, clusters = self.mapper.concepts.cuis, self.clusters.tolist()
        return evaluate_parts(self.gold, self.rankings, labels, known=known, clusters=clusters, **self._draw)


def _rankings(mappings: Sequence[Mapping]) -> list[Ranking]:
    return [tuple(candidate.cui for candidate in mapping.candidates) for mapping in mappings]
