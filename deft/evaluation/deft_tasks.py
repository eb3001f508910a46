"""The two tasks of DEFT 2020: grading the similarity of sentence pairs, and finding the parallel sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deft.corpora.deft2020 import SentencePair, SentenceSet
from deft.errors import refuse_items
from deft.evaluation.metrics import (
    bootstrap,
    edrm,
    mean_average_precision,
    recall_at_k,
    spearman,
    spearman_rho,
)
from deft.mapping.grades import TextEncoder, gold_grades


def score_t1(
    pairs: Sequence[SentencePair], grades: Mapping[str, float], *, resamples: int = 1000, seed: int = 13
) -> dict[str, Any]:
    """Score task 1.

    Parameters
    ----------
    pairs
        Pairs with gold grades.
    grades
        A predicted grade for each pair, by identifier.
    resamples
        Bootstrap resamples behind each interval.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``edrm`` (maximal distance from the gold), ``edrm_prediction`` (from the prediction) and ``spearman``,
        each with ``value``, ``low`` and ``high``; ``p_value`` of the correlation; ``n``.

    Raises
    ------
    InputError
        A pair has no gold or no prediction, a prediction belongs to no pair or is not a number; the
        identifiers are named.
    """
    gold = gold_grades(pairs)
    _same_items([pair.id for pair in pairs], grades)
    predicted = np.array([grades[pair.id] for pair in pairs], dtype=np.float64)
    refuse_items(
        [pair.id for pair, grade in zip(pairs, predicted, strict=True) if not np.isfinite(grade)],
        "no finite grade",
    )
    interval = partial(bootstrap, resamples=resamples, seed=seed)
    return {
        "edrm": interval(edrm, gold, predicted).to_dict(),
        "edrm_prediction": interval(partial(edrm, reference="prediction"), gold, predicted).to_dict(),
        "spearman": interval(spearman_rho, gold, predicted).to_dict(),
        "p_value": spearman(gold, predicted).p_value,
        "n": len(pairs),
    }


def score_t2(
    sets: Sequence[SentenceSet],
    rankings: Mapping[str, int | Sequence[int]],
    *,
    resamples: int = 1000,
    seed: int = 13,
) -> dict[str, Any]:
    """Score task 2.

    Parameters
    ----------
    sets
        Sets with gold answers.
    rankings
        For each set, by identifier, the numbers of its sentences from the most to the least similar, or the
        number of the chosen one alone.
    resamples
        Bootstrap resamples behind each interval.
    seed
        Seed of the bootstrap.

    Returns
    -------
    dict
        ``map`` and ``accuracy``, each with ``value``, ``low`` and ``high``; ``n``. For choices alone the two
        are equal: a sentence that is not in the ranking is not found.

    Raises
    ------
    InputError
        A set has no gold or no ranking, a ranking belongs to no set, is empty, or holds a number twice or one
        that the set does not have; the identifiers are named.
    """
    ranks = answer_ranks(sets, rankings)
    interval = partial(bootstrap, resamples=resamples, seed=seed)
    return {
        "map": interval(mean_average_precision, ranks).to_dict(),
        "accuracy": interval(partial(recall_at_k, k=1), ranks).to_dict(),
        "n": len(sets),
    }


def rank_targets(sets: Sequence[SentenceSet], encoder: TextEncoder) -> dict[str, tuple[int, ...]]:
    """Return, for each set, the numbers of its sentences by falling cosine to the source, ties by number."""
    sources = encoder.encode([item.source for item in sets])
    targets = encoder.encode([target for item in sets for target in item.targets])
    ends = np.cumsum([len(item.targets) for item in sets])
    rankings = {}
    for item, source, end in zip(sets, sources, ends, strict=True):
        cosines = targets[end - len(item.targets) : end] @ source
        rankings[item.id] = tuple(int(number) + 1 for number in np.argsort(-cosines, kind="stable"))
    return rankings


def answer_ranks(
    sets: Sequence[SentenceSet], rankings: Mapping[str, int | Sequence[int]]
) -> NDArray[np.intp]:
    """Return the rank of each set's answer, 0 where the ranking leaves it out.

    Raises as `score_t2` does.
    """
    refuse_items([item.id for item in sets if item.answer is None], "no gold answer")
    _same_items([item.id for item in sets], rankings)
    orders = [_order(rankings[item.id]) for item in sets]
    wrong = [
        item.id for item, order in zip(sets, orders, strict=True) if not _valid(order, len(item.targets))
    ]
    refuse_items(wrong, "no valid ranking")
    ranks = [
        order.index(item.answer) + 1 if item.answer in order else 0
        for item, order in zip(sets, orders, strict=True)
    ]
    return np.array(ranks, dtype=np.intp)


def _order(ranking: int | Sequence[int]) -> tuple[int, ...]:
    return (ranking,) if isinstance(ranking, int) else tuple(ranking)


def _valid(order: tuple[int, ...], size: int) -> bool:
    return 0 < len(order) == len(set(order)) and set(order) <= set(range(1, size + 1))


def _same_items(identifiers: Sequence[str], predictions: Mapping[str, object]) -> None:
    refuse_items([identifier for identifier in identifiers if identifier not in predictions], "no prediction")
    known = set(identifiers)
    refuse_items(
        [identifier for identifier in predictions if identifier not in known], "a prediction but no item"
    )
