"""The grade of two sentences: how near they are in meaning, from 0 to 5, as DEFT 2020 task 1 asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deft.corpora.deft2020 import MAX_GRADE, SentencePair
from deft.errors import InputError, refuse_items
from deft.files import read_json, write_json
from deft.text import normalize

GRADES = "grades.json"
"""The grade model that an encoder folder may carry."""

Array = NDArray[np.float64]

_PENALTIES = np.logspace(-3, 4, 22)
_NEGATIONS = frozenset(
    {"aucun", "aucune", "jamais", "ne", "ni", "non", "nul", "nulle", "pas", "rien", "sans"}
)
_STEM = 5  # letters that words of one family usually share


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
    encoder
        Fingerprint of the encoder whose cosine it weighs, "" of one that has none.
    """

    features: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float
    penalty: float
    encoder: str = ""

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
        from sklearn.linear_model import RidgeCV

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
            encoder=_fingerprint(encoder),
        )

    def predict(self, pairs: Sequence[SentencePair], encoder: TextEncoder) -> dict[str, float]:
        """Return the grade of each pair, by identifier, clipped to 0 to 5.

        Raises
        ------
        InputError
            The encoder is not the one that the model was fitted with.
        """
        if self.encoder != _fingerprint(encoder):
            remedy = "Fit one for this encoder: deft score t1 --train FILE."
            raise InputError("the grade model was fitted with another encoder.", remedy=remedy)
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
            numbers = float(values["intercept"]), float(values["penalty"])
            model = cls(features, weights, *numbers, str(values["encoder"]))
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


def gold_grades(pairs: Sequence[SentencePair]) -> Array:
    """Return the gold grades.

    Raises
    ------
    InputError
        A pair has none; the identifiers are named.
    """
    refuse_items([pair.id for pair in pairs if pair.grade is None], "no gold grade")
    return np.array([pair.grade for pair in pairs], dtype=np.float64)


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


def _fingerprint(encoder: TextEncoder) -> str:
    return str(getattr(encoder, "fingerprint", ""))
