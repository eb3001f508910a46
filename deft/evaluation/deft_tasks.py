"""The two tasks of DEFT 2020: grading the similarity of sentence pairs, and finding the parallel sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

from deft.corpora.deft2020 import MAX_GRADE, SentencePair, SentenceSet
from deft.errors import InputError
from deft.evaluation.metrics import (
    Array,
    bootstrap,
    edrm,
    mean_average_precision,
    recall_at_k,
    spearman,
    spearman_rho,
)
from deft.files import read_json, write_json
from deft.text import normalize

_PENALTIES = np.logspace(-3, 4, 22)
_NEGATIONS = frozenset(
    {"aucun", "aucune", "jamais", "ne", "ni", "non", "nul", "nulle", "pas", "rien", "sans"}
)
_STEM = 5  # letters that words of one family usually share
_SHOWN = 5  # identifiers named in an error


class TextEncoder(Protocol):
    """Anything that turns texts into rows of unit norm, so that a dot product is a cosine."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row for each text."""
        ...


@dataclass(frozen=True, slots=True)
class _Sides:
    """Both sentences of a pair in normalised form, and as words."""

    left: str
    right: str
    left_words: tuple[str, ...]
    right_words: tuple[str, ...]

    @classmethod
    def of(cls, pair: SentencePair) -> _Sides:
        left, right = normalize(pair.source), normalize(pair.target)
        return cls(left, right, tuple(left.split()), tuple(right.split()))

    def dice(self, parts: Callable[[Sequence[str]], Iterable[str]]) -> float:
        return _dice(set(parts(self.left_words)), set(parts(self.right_words)))


# Similarities of the two wordings, each from 0 to 1. The encoder's cosine stands before them.
_LEXICAL: Mapping[str, Callable[[_Sides], float]] = {
    "words": lambda sides: sides.dice(lambda words: words),
    "contained": lambda sides: _containment(set(sides.left_words), set(sides.right_words)),
    "trigrams": lambda sides: _dice(_trigrams(sides.left), _trigrams(sides.right)),
    "stems": lambda sides: sides.dice(lambda words: (word[:_STEM] for word in words if len(word) > 2)),
    "length": lambda sides: _ratio(len(sides.left_words), len(sides.right_words)),
    "numbers": lambda sides: sides.dice(
        lambda words: (word for word in words if any(map(str.isdigit, word)))
    ),
    "negation": lambda sides: float(_negated(sides.left_words) == _negated(sides.right_words)),
}
FEATURES = ("cosine", *_LEXICAL)


@dataclass(frozen=True)
class GradeModel:
    """A ridge regression from the similarities of two sentences to a grade from 0 to 5.

    Attributes
    ----------
    features
        Names of the similarities, out of `FEATURES`.
    weights
        Grade points for each similarity, in the similarity's own unit.
    intercept
        Grade of a pair whose similarities are all 0.
    penalty
        Strength of the regularisation, chosen by leave-one-out cross-validation.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    penalty: float

    @classmethod
    def fit(
        cls, pairs: Sequence[SentencePair], encoder: TextEncoder, *, features: Sequence[str] = FEATURES
    ) -> GradeModel:
        """Fit the weights on graded pairs, which have to be those of the training part.

        Parameters
        ----------
        pairs
            Pairs with gold grades, two at least.
        encoder
            Gives the vectors whose cosine is the first feature.
        features
            Similarities to use; ``("cosine",)`` grades by the encoder alone.

        Raises
        ------
        InputError
            A pair has no grade, or there are fewer than two.
        """
        grades = gold_grades(pairs)
        if len(pairs) < 2:
            raise InputError("a grade model needs at least two graded pairs.")
        values = similarities(pairs, encoder, features)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        scale[scale < 1e-9] = np.inf  # a similarity that never varies gets no weight
        ridge = RidgeCV(_PENALTIES).fit((values - mean) / scale, grades)
        weights = ridge.coef_ / scale
        return cls(
            features=tuple(features),
            weights=tuple(weights.tolist()),
            intercept=float(ridge.intercept_ - weights @ mean),
            penalty=float(ridge.alpha_),
        )

    def predict(self, pairs: Sequence[SentencePair], encoder: TextEncoder) -> dict[str, float]:
        """Return the grade of each pair, by identifier, clipped to 0 to 5."""
        values = similarities(pairs, encoder, self.features)
        grades = np.clip(values @ np.array(self.weights) + self.intercept, 0, MAX_GRADE)
        return {pair.id: float(grade) for pair, grade in zip(pairs, grades, strict=True)}

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: Path) -> GradeModel:
        """Read a model that `save` wrote.

        Raises
        ------
        InputError
            The file is missing or holds something else.
        """
        values = read_json(path)
        try:
            features, weights = (
                tuple(values["features"]),
                tuple(float(weight) for weight in values["weights"]),
            )
            model = cls(features, weights, float(values["intercept"]), float(values["penalty"]))
        except (TypeError, KeyError, ValueError) as error:
            raise InputError("is not a grade model.", path=path, remedy="Fit it again.") from error
        if len(features) != len(weights) or not set(features) <= set(FEATURES):
            raise InputError(
                f"expected one weight for each of {FEATURES}.", path=path, remedy="Fit it again."
            )
        return model


def similarities(
    pairs: Sequence[SentencePair], encoder: TextEncoder, features: Sequence[str] = FEATURES
) -> Array:
    """Return the similarities of each pair, the encoder's cosine and the words', shape (pairs, features)."""
    left = encoder.encode([pair.source for pair in pairs])
    right = encoder.encode([pair.target for pair in pairs])
    columns: dict[str, Any] = {"cosine": np.sum(np.float64(left) * right, axis=1)}
    sides = [_Sides.of(pair) for pair in pairs]
    columns |= {
        name: [measure(side) for side in sides] for name, measure in _LEXICAL.items() if name in features
    }
    return np.array([columns[name] for name in features], dtype=np.float64).T


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
    _refuse(
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


def gold_grades(pairs: Sequence[SentencePair]) -> Array:
    """Return the gold grades.

    Raises
    ------
    InputError
        A pair has none; the identifiers are named.
    """
    _refuse([pair.id for pair in pairs if pair.grade is None], "no gold grade")
    return np.array([pair.grade for pair in pairs], dtype=np.float64)


def answer_ranks(
    sets: Sequence[SentenceSet], rankings: Mapping[str, int | Sequence[int]]
) -> NDArray[np.intp]:
    """Return the rank of each set's answer, 0 where the ranking leaves it out.

    Raises as `score_t2` does.
    """
    _refuse([item.id for item in sets if item.answer is None], "no gold answer")
    _same_items([item.id for item in sets], rankings)
    orders = [_order(rankings[item.id]) for item in sets]
    wrong = [
        item.id for item, order in zip(sets, orders, strict=True) if not _valid(order, len(item.targets))
    ]
    _refuse(wrong, "no valid ranking")
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
    _refuse([identifier for identifier in identifiers if identifier not in predictions], "no prediction")
    known = set(identifiers)
    _refuse([identifier for identifier in predictions if identifier not in known], "a prediction but no item")


def _refuse(identifiers: Sequence[str], problem: str) -> None:
    """Raise an error that names the items with a problem, if there are any."""
    if not identifiers:
        return
    named = ", ".join(identifiers[:_SHOWN]) + (", ..." if len(identifiers) > _SHOWN else "")
    count = "1 identifier has" if len(identifiers) == 1 else f"{len(identifiers)} identifiers have"
    raise InputError(f"{count} {problem}: {named}.")


def _dice(left: set[str], right: set[str]) -> float:
    return 2 * len(left & right) / (len(left) + len(right)) if left or right else 1.0


def _containment(left: set[str], right: set[str]) -> float:
    smaller = min(len(left), len(right))
    return len(left & right) / smaller if smaller else float(left == right)


def _ratio(first: int, second: int) -> float:
    smaller, larger = sorted((first, second))
    return smaller / larger if larger else 1.0


def _trigrams(text: str) -> set[str]:
    padded = f" {text} "
    return {padded[start : start + 3] for start in range(len(padded) - 2)}


def _negated(words: Iterable[str]) -> bool:
    return not _NEGATIONS.isdisjoint(words)
