"""One ranking and one confidence out of many signals.

The model is a conditional logit with an outside option (McFadden 1974, "Conditional logit analysis of
qualitative choice behavior"): among the concepts of a pool, and "none of these", the probability of a choice
is the softmax of a linear score. The probability is then calibrated by a logistic curve (Platt 1999).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deft.errors import InputError
from deft.files import read_json, write_json
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool

SHIPPED = Path(__file__).with_name("model.json")
"""The model that is used where an index has none of its own."""

_DECIMALS = 6
_LEAST = 1e-9


@dataclass(frozen=True)
class MappingModel:
    """Weights of the signals, and the curve from probability to confidence.

    Attributes
    ----------
    weights
        Of `FEATURES`, of shape (features,).
    no_match
        Of `NO_MATCH_FEATURES`.
    slope, intercept
        Of the logistic curve on the log-odds of a probability.
    about
        What it was fitted on, and how well.
    """

    weights: np.ndarray
    no_match: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)

    def scores(self, pool: Pool) -> np.ndarray:
        """Return the linear score of each concept, rounded so that equal evidence gives equal scores."""
        return np.asarray(np.round(pool.features @ self.weights, _DECIMALS))

    def probabilities(self, pool: Pool) -> np.ndarray:
        """Return the probability of each concept; what is missing to 1 is that of "none of these"."""
        scores = self.scores(pool)
        none = float(pool.no_match @ self.no_match)
        highest = max(none, scores.max(initial=none))
        parts = np.exp(scores - highest)
        return np.asarray(parts / (parts.sum() + np.exp(none - highest)))

    def confidence(self, probabilities: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities."""
        clipped = np.clip(probabilities, _LEAST, 1 - _LEAST)
        odds = self.slope * np.log(clipped / (1 - clipped)) + self.intercept
        return np.asarray(np.exp(-np.logaddexp(0, -odds)))  # the logistic function, without overflow

    def save(self, path: Path) -> None:
        """Write the model as JSON."""
        write_json(
            path,
            {
                "weights": dict(zip(FEATURES, np.round(self.weights, _DECIMALS).tolist(), strict=True)),
                "no_match": dict(
                    zip(NO_MATCH_FEATURES, np.round(self.no_match, _DECIMALS).tolist(), strict=True)
                ),
                "slope": round(self.slope, _DECIMALS),
                "intercept": round(self.intercept, _DECIMALS),
                "about": self.about,
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
            if set(values["weights"]) != set(FEATURES) or set(values["no_match"]) != set(NO_MATCH_FEATURES):
                raise KeyError
            return cls(
                np.array([float(values["weights"][name]) for name in FEATURES]),
                np.array([float(values["no_match"][name]) for name in NO_MATCH_FEATURES]),
                float(values["slope"]),
                float(values["intercept"]),
                dict(values.get("about", {})),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "is no mapping model of this version of deft.", path=path, remedy="Make it anew: `deft fit`."
            ) from error


def reciprocal_rank_fusion(pool: Pool, constant: int = 60) -> np.ndarray:
    """Return the scores of reciprocal rank fusion of both channels (Cormack et al. 2009), of shape (n,)."""
    scores = np.zeros(len(pool))
    for name in ("cosine", "lexical"):
        values = pool.column(name)
        ranks = 1 + (values[:, None] < values[None, :]).sum(axis=1)
        scores += 1 / (constant + ranks)
    return scores
