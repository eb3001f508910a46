"""Scores of a mapping of terms to concepts, as a whole and in parts, and the terms that it gets most wrong.

What is scored is a list of ranked CUIs for each query, wherever it comes from: the mapper and the baseline
are scored alike.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deft.corpora.cells import guard_row
from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.evaluation.metrics import (
    Statistic,
    bootstrap,
    difference,
    mcnemar,
    mean_reciprocal_rank,
    recall_at_k,
)
from deft.files import atomic_write
from deft.terminology.lexicon import GoldMapping
from deft.text import normalize

if TYPE_CHECKING:
    from deft.mapping.results import Mapping as TermMapping

DEPTHS = (1, 5, 8, 10, 64)
PART_DEPTHS = (1, 8)  # of parts of the queries, and of systems that are compared

_MOST_PARTS = 50
_TEXTS = ("query", "gold", "gold_names", "predicted", "predicted_name", "matched", "match")
_NUMBERS = ("confidence", "cosine", "lexical")
_COLUMNS = (*_TEXTS, *_NUMBERS, "rank")


@dataclass(frozen=True, slots=True)
class Miss:
    """A query whose first concept is wrong.

    Attributes
    ----------
    query
        The term that was mapped.
    gold, gold_names
        CUIs that are right and their names, joined by ``;``.
    predicted, predicted_name, matched, match
        CUI and name of the first candidate, its string that is closest to the query and how that matched;
        empty if there is none.
    confidence, cosine, lexical
        Of the first candidate; None if there is none.
    rank
        Of the first right CUI; None if it is not among the candidates.
    row
        The other columns of the gold file.
    """

    query: str
    gold: str
    gold_names: str
    predicted: str = ""
    predicted_name: str = ""
    matched: str = ""
    match: str = ""
    confidence: float | None = None
    cosine: float | None = None
    lexical: float | None = None
    rank: int | None = None
    row: Mapping[str, str] = field(default_factory=dict, hash=False)


def answerable(gold: Sequence[GoldMapping], known: Collection[str]) -> NDArray[np.bool_]:
    """Tell of each query whether one of its right CUIs is among those of the index."""
    found = frozenset(known)
    return np.array([not item.cuis.isdisjoint(found) for item in gold], dtype=bool)


def first_ranks(gold: Sequence[GoldMapping], rankings: Sequence[Sequence[str]]) -> NDArray[np.intp]:
    """Return the rank of the first right CUI of each query, 0 where there is none.

    Raises
    ------
    InputError
        The two differ in length, or a query has no gold CUI.
    """
    if len(gold) != len(rankings):
        raise InputError(f"{len(gold)} queries but {len(rankings)} rankings.")
    ranks = np.zeros(len(gold), dtype=np.intp)
    for position, (item, ranking) in enumerate(zip(gold, rankings, strict=True)):
        if not item.cuis:
            raise InputError(f"the query {item.query!r} has no gold CUI.")
        ranks[position] = next((rank for rank, cui in enumerate(ranking, start=1) if cui in item.cuis), 0)
    return ranks


def evaluate_mapping(
    gold: Sequence[GoldMapping],
    rankings: Sequence[Sequence[str]],
    *,
    known: Collection[str] | None = None,
    depths: Sequence[int] = DEPTHS,
    clusters: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 13,
) -> dict[str, Any]:
    """Score ranked concepts by the rank of the first right one.

    Parameters
    ----------
    gold
        Queries with their right CUIs; any one of them is an answer.
    rankings
        Distinct CUIs for each query, best first, as many as the largest depth.
    known
        CUIs of the index, or those among them that are gold. If given, the scores of the queries with a gold
        CUI among them stand under ``in_index``: the others cannot be found by any system.
    depths
        The k of recall@k.
    clusters
        What is independent, a label a query (`clusters_of`); the distinct queries by default.
    resamples
        Bootstrap resamples behind each interval.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``recall_at_1`` ... and ``mrr``, each with ``value``, ``low`` and ``high``; ``n``, and ``clusters``,
        the number of what the intervals resample; perhaps ``in_index`` with the same, of which only ``n``
        where no query is left.

    Raises
    ------
    InputError
        There is no query, a query has no gold CUI, or the number of rankings differs.
    """
    ranks = first_ranks(gold, rankings)
    labels = np.asarray(clusters_of(gold) if clusters is None else clusters)
    score = partial(_score, depths=depths, resamples=resamples, seed=seed)
    if not len(ranks):
        raise InputError("there is no query to score.")
    scores = score(ranks, labels)
    if known is not None:
        rows = answerable(gold, known)
        scores["in_index"] = score(ranks[rows], labels[rows])
    return scores


def clusters_of(gold: Sequence[GoldMapping], column: str | None = None) -> list[str]:
    """Return the label of what each query belongs to that is independent of the rest.

    Equal queries have equal answers, so that by default each distinct normalised query is one. A column of
    the gold file, such as the document or the concept, can be named instead.
    """
    return [normalize(item.query) for item in gold] if column is None else column_of(gold, column)


def column_of(gold: Sequence[GoldMapping], column: str) -> list[str]:
    """Return a column of the gold file, a value a query.

    Raises
    ------
    InputError
        There is none of that name beside the queries and CUIs.
    """
    try:
        return [item.row[column] for item in gold]
    except KeyError as error:
        others = dict.fromkeys(name for item in gold for name in item.row)
        raise InputError(
            f"the gold has no column {column!r} beside the queries and CUIs.",
            remedy=f"It has {', '.join(others) or 'none'}.",
        ) from error


def seen_or_not(gold: Sequence[GoldMapping], mentions: Iterable[str]) -> list[str]:
    """Return ``seen`` for each query whose normalised form is among those of `mentions`, else ``unseen``."""
    known = {normalize(mention) for mention in mentions}
    return ["seen" if normalize(item.query) in known else "unseen" for item in gold]


def evaluate_parts(
    gold: Sequence[GoldMapping],
    rankings: Sequence[Sequence[str]],
    labels: Sequence[str],
    *,
    known: Collection[str] | None = None,
    clusters: Sequence[str] | None = None,
    resamples: int = 1000,
    seed: int = 13,
) -> dict[str, dict[str, Any]]:
    """Score the queries of each label apart, as `evaluate_mapping` does, with recall@1 and 8.

    Parameters
    ----------
    labels
        One a query, such as its semantic group; see `column_of` and `seen_or_not`.

    Returns
    -------
    dict
        Scores by label, the commonest label first.

    Raises
    ------
    InputError
        There are more than fifty labels, or their number is not that of the queries.
    """
    if len(labels) != len(gold):
        raise InputError(f"{len(gold)} queries but {len(labels)} labels.")
    names = Counter(sorted(labels))
    if len(names) > _MOST_PARTS:
        raise InputError(
            f"{len(names):,} different values are too many to be scored apart (at most {_MOST_PARTS}).",
            remedy="Name a column with few values, such as the semantic group.",
        )
    scores = {}
    for name, _ in names.most_common():
        rows = [place for place, label in enumerate(labels) if label == name]
        scores[name] = evaluate_mapping(
            [gold[row] for row in rows],
            [rankings[row] for row in rows],
            known=known,
            depths=PART_DEPTHS,
            clusters=None if clusters is None else [clusters[row] for row in rows],
            resamples=resamples,
            seed=seed,
        )
    return scores


def compare_systems(
    ranks: Mapping[str, NDArray[np.intp]],
    *,
    clusters: ArrayLike | None = None,
    resamples: int = 1000,
    seed: int = 13,
) -> dict[str, Any]:
    """Compare systems on the same queries, every two of them.

    Parameters
    ----------
    ranks
        For each system, the rank of the first right CUI of each query, 0 where there is none.
    clusters
        What is independent, a label a query (`clusters_of`); each query by default.
    resamples
        Bootstrap resamples behind each interval; both systems see the same resampled queries.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``n``; ``systems``, the scores of each; ``pairs``, a list with, for each two systems, ``before``,
        ``after``, the interval of after less before for ``recall_at_1``, ``recall_at_8`` and ``mrr``, and
        under ``mcnemar`` the exact test of recall@1 over clusters: ``only_before``, ``only_after`` and
        ``p_value``. Without queries, ``n`` alone.

    Raises
    ------
    InputError
        The systems answer different numbers of queries.
    """
    counts = {len(found) for found in ranks.values()}
    if len(counts) > 1:
        raise InputError("systems are compared on the same queries, but these answer different numbers.")
    if counts <= {0}:
        return {"n": 0}
    pairs = []
    clusters = np.arange(max(counts)) if clusters is None else clusters
    change = partial(difference, clusters=clusters, resamples=resamples, seed=seed)
    for before, after in combinations(ranks, 2):
        changes = {
            name: change(statistic, (ranks[before],), (ranks[after],)).to_dict()
            for name, statistic in _statistics(PART_DEPTHS).items()
        }
        test = mcnemar(ranks[before] == 1, ranks[after] == 1, clusters=clusters)._asdict()
        pairs.append({"before": before, "after": after, **changes, "mcnemar": test})
    score = partial(_score, depths=PART_DEPTHS, resamples=resamples, seed=seed)
    systems = {name: score(found, clusters) for name, found in ranks.items()}
    return {"n": counts.pop(), "systems": systems, "pairs": pairs}


def recall_curve(ranks: NDArray[np.intp], depth: int = max(DEPTHS)) -> list[float]:
    """Return recall@k for every k from 1 to `depth`."""
    return [float(recall_at_k(ranks, k)) for k in range(1, depth + 1)]


def hardest_misses(
    gold: Sequence[GoldMapping],
    mappings: Sequence[TermMapping],
    names: Mapping[str, str],
    *,
    limit: int | None = None,
) -> list[Miss]:
    """Return the queries whose first concept is wrong though a right one is in the index, the hardest first.

    Those whose right concept is not among the candidates come first, then those where it ranks low; of
    equals, the one that the mapper was surest of.

    Parameters
    ----------
    gold
        Queries with their right CUIs.
    mappings
        The mapper's answer to each query.
    names
        The name of each concept of the index, or of those among them that are gold.
    limit
        Number of misses; all if not given.
    """
    rankings = [[candidate.cui for candidate in mapping.candidates] for mapping in mappings]
    ranks = first_ranks(gold, rankings)
    misses = [
        _miss(item, mapping, names, int(rank))
        for item, mapping, rank in zip(gold, mappings, ranks, strict=True)
        if rank != 1 and any(cui in names for cui in item.cuis)
    ]
    return sorted(misses, key=_hardness)[:limit]


def write_misses(path: Path, misses: Iterable[Miss]) -> None:
    """Write misses as CSV with a header; what is not known is empty.

    The columns of the gold file come last, as ``row.NAME`` where their name is taken.
    """
    rows = [asdict(miss) for miss in misses]
    others = dict.fromkeys(name for row in rows for name in row["row"])
    with atomic_write(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        foreign = (f"row.{name}" if name in _COLUMNS else name for name in others)
        writer.writerow(guard_row([*_COLUMNS, *foreign]))
        for row in rows:
            own = (row["row"].get(name, "") for name in others)
            writer.writerow(guard_row([*(row[name] for name in _COLUMNS), *own]))


def read_misses(path: Path) -> list[Miss]:
    """Read misses that `write_misses` wrote.

    Raises
    ------
    InputError
        The file cannot be read, or its columns are others.
    """
    rows = read_rows(path)
    try:
        return [_parse(row) for _, row in rows]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        remedy = "Write it again with `deft evaluate mapping --errors`."
        raise InputError(f"is not a table of misses ({error}).", path=path, remedy=remedy) from error


def _score(
    ranks: NDArray[np.intp], clusters: ArrayLike, *, depths: Sequence[int], resamples: int, seed: int
) -> dict[str, Any]:
    if not len(ranks):
        return {"n": 0}
    labels = np.asarray(clusters)
    interval = partial(bootstrap, clusters=labels, resamples=resamples, seed=seed)
    scores = {name: interval(statistic, ranks).to_dict() for name, statistic in _statistics(depths).items()}
    return {**scores, "n": len(ranks), "clusters": len(np.unique(labels))}


def _statistics(depths: Sequence[int]) -> dict[str, Statistic]:
    recall: dict[str, Statistic] = {f"recall_at_{k}": partial(recall_at_k, k=k) for k in depths}
    return recall | {"mrr": mean_reciprocal_rank}


def _miss(item: GoldMapping, mapping: TermMapping, names: Mapping[str, str], rank: int) -> Miss:
    right = sorted(cui for cui in item.cuis if cui in names)
    miss = Miss(
        query=item.query,
        gold="; ".join(right),
        gold_names="; ".join(names[cui] for cui in right),
        rank=rank or None,
        row=item.row,
    )
    if not mapping.candidates:
        return miss
    first = mapping.candidates[0]
    return replace(
        miss,
        predicted=first.cui,
        predicted_name=first.name,
        matched=first.matched,
        match=first.match,
        confidence=round(float(first.confidence), 4),
        cosine=round(float(first.cosine), 4),
        lexical=round(float(first.lexical), 4),
    )


def _hardness(miss: Miss) -> tuple[float, float, str]:
    rank = float("inf") if miss.rank is None else miss.rank
    return -rank, -(miss.confidence or 0.0), miss.query


def _parse(row: dict[str, str]) -> Miss:
    texts: dict[str, Any] = {name: row[name] for name in _TEXTS}
    numbers: dict[str, Any] = {name: float(row[name]) if row[name] else None for name in _NUMBERS}
    rank = int(row["rank"]) if row["rank"] else None
    others = {name.removeprefix("row."): value for name, value in row.items() if name not in _COLUMNS}
    return Miss(**texts, **numbers, rank=rank, row=others)
