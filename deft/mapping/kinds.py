"""What kind of thing a query names, told from its vector: a disease, an organ, a drug, nothing medical.

An index of diseases has none of the drugs, and the nearest disease to a drug is no answer: knowing that the
query names a drug is reason for doubt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deft.terminology.semantic_groups import GROUP_OF

OTHER = "OTHER"
"""The kind of what is in no semantic group: dates, forms, words of ordinary life."""

_LEAST = 1e-3  # probability: so little counts as never
_DECIMALS = 4
_TRAINING = {"C": 1.0, "max_iter": 500}


@dataclass(frozen=True)
class Kinds:
    """Multinomial logistic regression from a vector to semantic groups.

    Attributes
    ----------
    groups
        Names of the groups, and `OTHER`.
    weights
        float64 of shape (groups, dimension).
    intercepts
        float64 of shape (groups,).
    """

    groups: tuple[str, ...]
    weights: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def fit(cls, vectors: np.ndarray, groups: Sequence[str]) -> Kinds:
        """Train on vectors of shape (n, dimension) and the group of each; there are three or more groups."""
        from sklearn.linear_model import LogisticRegression

        trained = LogisticRegression(class_weight="balanced", **_TRAINING).fit(vectors, list(groups))
        return cls(
            tuple(map(str, trained.classes_)),
            np.round(trained.coef_, _DECIMALS),
            np.round(trained.intercept_, _DECIMALS),
        )

    def probabilities(self, vector: np.ndarray) -> dict[str, float]:
        """Return the probability of each group, for a vector of shape (dimension,)."""
        scores = self.weights @ vector.astype(np.float64) + self.intercepts
        parts = np.exp(scores - scores.max())
        return dict(zip(self.groups, (parts / parts.sum()).tolist(), strict=True))

    def of_types(self, vector: np.ndarray, types: Sequence[str]) -> np.ndarray:
        """Return the logarithm of the probability that a vector is of one of the semantic types.

        Each of `types` is a list of types (TUI) with semicolons. What has none may be anything: 0.
        """
        known = self.probabilities(vector)
        sums = [sum(known.get(group, 0.0) for group in groups) for groups in map(_groups, types)]
        values = [
            np.log(max(found, _LEAST)) if listed else 0.0 for found, listed in zip(sums, types, strict=True)
        ]
        return np.round(np.array(values, dtype=np.float64), _DECIMALS)

    def to_dict(self) -> dict[str, Any]:
        """Return what `of` reads."""
        return {
            group: [intercept, *row]
            for group, intercept, row in zip(
                self.groups, self.intercepts.tolist(), self.weights.tolist(), strict=True
            )
        }

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[float]]) -> Kinds:
        """Return what `to_dict` gave.

        Raises
        ------
        ValueError
            The rows are not equally long, hold what is no number, or there are none.
        """
        table = np.array(list(rows.values()), dtype=np.float64)
        if table.ndim != 2 or table.shape[1] < 2 or not np.isfinite(table).all():
            raise ValueError("there are no rows, or they are not of finite numbers and of one length")
        return cls(tuple(rows), table[:, 1:], table[:, 0])


def _groups(types: str) -> set[str]:
    return {GROUP_OF[tui] for tui in types.split(";") if tui in GROUP_OF}
