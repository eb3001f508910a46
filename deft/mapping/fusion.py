"""One ranking and one confidence out of many signals.

The ranking is that of a conditional logit with an outside option (McFadden 1974, "Conditional logit analysis
of qualitative choice behavior"): among the concepts of a pool, and "none of these", the probability of a
choice is the softmax of a linear score. Whether any of them is right is then judged once more: a small
ensemble of trees looks at the first concept and how far it is ahead, and a logistic curve (Platt 1999) weighs
what the trees and the conditional logit say. That probability is parted among the concepts by their scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import InputError
from deft.files import read_json, write_json
from deft.mapping.kinds import Kinds
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.mapping.trees import Trees

SHIPPED = Path(__file__).with_name("model.json")
"""The model that is used where an index has none of its own."""

SIGNALS = (
    *FEATURES,  # of the first concept
    "odds",  # log-odds of the first concept by the conditional logit
    "odds_any",  # and of any concept
    "margin",  # score of the first less that of the second
    "cosine_margin",  # cosine of the first less the best of the others
    "length",  # logarithm of the number of characters of the query
    "capitals",  # it is an abbreviation in capitals
)
"""What tells whether any concept is right."""

CURVE = ("trees", "odds_any", "constant")
"""What the logistic curve weighs."""

EXPECTED_PRESENT = 0.7
"""Share of queries that are expected to have their concept in the index."""

_REMEDY = "Make it anew: `deft fit`."
_DECIMALS = 6
_LEAST = 1e-6
_WIDEST = 10.0  # margin, also of a concept without a second


@dataclass(frozen=True)
class MappingModel:
    """Weights of the signals, and what tells how probable it is that a concept is right.

    Attributes
    ----------
    weights
        Of `FEATURES`, of shape (features,).
    no_match
        Of `NO_MATCH_FEATURES`.
    trees
        Log-odds, from `SIGNALS`, that any concept is right; None if there was too little to train them on.
    curve
        Weights of `CURVE` in the log-odds that any concept is right.
    sharpness
        What scores are multiplied by when that probability is parted among the concepts.
    kinds
        What tells the kind of a query from its vector; None if it was not trained.
    about
        What it was fitted on, and how well.
    """

    weights: np.ndarray
    no_match: np.ndarray
    trees: Trees | None = None
    curve: tuple[float, float, float] = (0.0, 1.0, 0.0)
    sharpness: float = 1.0
    kinds: Kinds | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def blank(cls, kinds: Kinds | None = None) -> MappingModel:
        """Return a model that knows nothing, or only the kinds of queries."""
        return cls(np.zeros(len(FEATURES)), np.zeros(len(NO_MATCH_FEATURES)), kinds=kinds)

    def beside(self, encoder: str, dimension: int) -> MappingModel:
        """Return the model for vectors of an encoder, by its fingerprint.

        Kinds are told from vectors: those of another encoder than they were learned from tell nothing.

        Raises
        ------
        InputError
            The kinds are told from vectors of another length.
        """
        if self.about.get("encoder", encoder) != encoder:
            return replace(self, kinds=None)
        if self.kinds is not None and self.kinds.weights.shape[1] != dimension:
            raise InputError(
                f"the mapping model tells kinds from {self.kinds.weights.shape[1]} values, and a vector has "
                f"{dimension}.",
                remedy=_REMEDY,
            )
        return self

    def scores(self, pool: Pool) -> np.ndarray:
        """Return the linear score of each concept, rounded so that equal evidence gives equal scores."""
        return np.asarray(np.round(pool.features @ self.weights, _DECIMALS))

    def probabilities(self, pool: Pool) -> np.ndarray:
        """Return the conditional logit's probability of each concept; the rest is that of "none of these"."""
        scores = self.scores(pool)
        none = float(pool.no_match @ self.no_match)
        highest = max(none, scores.max(initial=none))
        parts = np.exp(scores - highest)
        return np.asarray(parts / (parts.sum() + np.exp(none - highest)))

    def signals(self, pool: Pool) -> np.ndarray:
        """Return the `SIGNALS` of a pool that is not empty, of shape (signals,)."""
        scores, probabilities = self.scores(pool), self.probabilities(pool)
        first, *others = np.lexsort((pool.concept, -scores)).tolist()
        cosine = pool.column("cosine")
        row = (
            *pool.features[first],
            _odds(probabilities[first]),
            _odds(probabilities.sum()),
            min(scores[first] - scores[others].max(initial=-np.inf), _WIDEST),
            cosine[first] - cosine[others].max(initial=0.0),
            np.log(max(1, pool.length)),
            pool.capitals,
        )
        return np.round(np.array(row, dtype=np.float64), _DECIMALS)

    def match(self, pool: Pool, present: float = EXPECTED_PRESENT) -> float:
        """Return the probability that one of the concepts is right.

        `present` is the share of queries that have their concept in the index. What is known of a query
        makes it more or less; the curve is fitted where it is one half.
        """
        if not len(pool):
            return 0.0
        signals = self.signals(pool)
        trees = 0.0 if self.trees is None else float(self.trees(signals[None])[0])
        odds = float(np.dot(self.curve, (trees, signals[SIGNALS.index("odds_any")], 1.0)))
        odds += _odds(present)
        return float(np.exp(-np.logaddexp(0, -odds)))  # the logistic function, without overflow

    def shares(self, pool: Pool) -> np.ndarray:
        """Return the probability of each concept, given that one of them is right."""
        scores = self.sharpness * self.scores(pool)
        parts = np.exp(scores - scores.max(initial=-np.inf))
        return np.asarray(parts / parts.sum())

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        write_json(
            path,
            {
                "weights": _named(FEATURES, self.weights),
                "no_match": _named(NO_MATCH_FEATURES, self.no_match),
                "curve": _named(CURVE, np.array(self.curve)),
                "sharpness": self.sharpness,
                "about": self.about,
                "signals": list(SIGNALS),
                "trees": None if self.trees is None else self.trees.to_dict(),
                "kinds": None if self.kinds is None else self.kinds.to_dict(),
            },
        )

    @classmethod
    def read(cls, path: Path) -> MappingModel:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            The file is missing, or is not of this version of deft.
        """
        values = read_json(path)
        try:
            if values["signals"] != list(SIGNALS):
                raise KeyError
            trees, any_match, constant = _read_named(CURVE, values["curve"]).tolist()
            return cls(
                _read_named(FEATURES, values["weights"]),
                _read_named(NO_MATCH_FEATURES, values["no_match"]),
                None if values["trees"] is None else Trees.of(values["trees"], len(SIGNALS)),
                (trees, any_match, constant),
                _finite(values["sharpness"]),
                None if values["kinds"] is None else Kinds.of(values["kinds"]),
                dict(values.get("about", {})),
            )
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise InputError(
                "is no mapping model of this version of deft.", path=path, remedy=_REMEDY
            ) from error


def reciprocal_rank_fusion(pool: Pool, constant: int = 60) -> np.ndarray:
    """Return the scores of reciprocal rank fusion of both channels (Cormack et al. 2009), of shape (n,)."""
    scores = np.zeros(len(pool))
    for name in ("cosine", "lexical"):
        values = pool.column(name)
        ranks = 1 + (values[:, None] < values[None, :]).sum(axis=1)
        scores += 1 / (constant + ranks)
    return scores


def _odds(probability: float) -> float:
    """Return log-odds that are finite."""
    held = min(max(probability, _LEAST), 1 - _LEAST)
    return float(np.log(held / (1 - held)))


def _named(names: Sequence[str], values: np.ndarray) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _read_named(names: Sequence[str], values: Mapping[str, float]) -> np.ndarray:
    if set(values) != set(names):
        raise KeyError
    return np.array([_finite(values[name]) for name in names])


def _finite(value: float) -> float:
    number = float(value)
    if not np.isfinite(number):
        raise ValueError
    return number
