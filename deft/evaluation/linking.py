"""Scores of a mapping of terms to concepts, and the terms that it gets most wrong.

What is scored is a list of ranked CUIs for each query, wherever it comes from: the mapper and the baseline
are scored alike.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deft.errors import InputError
from deft.evaluation.metrics import bootstrap, mean_reciprocal_rank, recall_at_k
from deft.files import atomic_write
from deft.terminology.lexicon import GoldMapping

if TYPE_CHECKING:
    from deft.mapping.mapper import Mapping as TermMapping

DEPTHS = (1, 5, 10, 64)


@dataclass(frozen=True, slots=True)
class Miss:
    """A query whose first concept is wrong.

    Attributes
    ----------
    query
        The term that was mapped.
    gold, gold_names
        CUIs that are right and their names, joined by ``;``.
    predicted, predicted_name, matched
        CUI and name of the first candidate, and its string that is closest to the query; empty if there is
        none.
    cosine
        Of the query and the matched string; None if there is no candidate.
    rank
        Of the first right CUI; None if it is not among the candidates.
    """

    query: str
    gold: str
    gold_names: str
    predicted: str
    predicted_name: str
    matched: str
    cosine: float | None
    rank: int | None


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
    resamples
        Bootstrap resamples behind each interval.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``recall_at_1`` ... and ``mrr``, each with ``value``, ``low`` and ``high``; ``n``; perhaps
        ``in_index`` with the same, of which only ``n`` where no query is left.

    Raises
    ------
    InputError
        There is no query, a query has no gold CUI, or the number of rankings differs.
    """
    ranks = first_ranks(gold, rankings)
    score = partial(_score, depths=depths, resamples=resamples, seed=seed)
    if not len(ranks):
        raise InputError("there is no query to score.")
    scores = score(ranks)
    if known is not None:
        known = frozenset(known)
        answerable = np.array([not item.cuis.isdisjoint(known) for item in gold])
        scores["in_index"] = score(ranks[answerable])
    return scores


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
    """Write misses as CSV with a header; what is not known is empty."""
    with atomic_write(path) as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Miss)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(miss) for miss in misses)


def read_misses(path: Path) -> list[Miss]:
    """Read misses that `write_misses` wrote.

    Raises
    ------
    InputError
        The file cannot be read, or its columns are others.
    """
    try:
        with Path(path).open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}.", path=path) from error
    try:
        return [_parse(row) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"is not a table of misses ({error}).", path=path) from error


def _score(ranks: NDArray[np.intp], *, depths: Sequence[int], resamples: int, seed: int) -> dict[str, Any]:
    if not len(ranks):
        return {"n": 0}
    interval = partial(bootstrap, resamples=resamples, seed=seed)
    recall = {f"recall_at_{k}": interval(partial(recall_at_k, k=k), ranks).to_dict() for k in depths}
    return {**recall, "mrr": interval(mean_reciprocal_rank, ranks).to_dict(), "n": len(ranks)}


def _miss(item: GoldMapping, mapping: TermMapping, names: Mapping[str, str], rank: int) -> Miss:
    right = sorted(cui for cui in item.cuis if cui in names)
    first = mapping.candidates[0] if mapping.candidates else None
    return Miss(
        query=item.query,
        gold="; ".join(right),
        gold_names="; ".join(names[cui] for cui in right),
        predicted=first.cui if first else "",
        predicted_name=first.name if first else "",
        matched=first.matched if first else "",
        cosine=round(float(first.cosine), 4) if first else None,
        rank=rank or None,
    )


def _hardness(miss: Miss) -> tuple[float, float, str]:
    rank = float("inf") if miss.rank is None else miss.rank
    return -rank, -(miss.cosine or 0.0), miss.query


def _parse(row: dict[str, str]) -> Miss:
    values: dict[str, Any] = {field.name: row[field.name] for field in fields(Miss)}
    values["cosine"] = float(values["cosine"]) if values["cosine"] else None
    values["rank"] = int(values["rank"]) if values["rank"] else None
    return Miss(**values)
