"""A small ensemble of decision trees, held as arrays: trained with scikit-learn, asked with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

DEPTH = 3
"""Levels of questions in each tree."""

_QUESTIONS = 2**DEPTH - 1
_TRAINING = {"n_estimators": 150, "learning_rate": 0.1, "subsample": 0.7, "min_samples_leaf": 20}


@dataclass(frozen=True)
class Trees:
    """Complete binary trees, whose values add up to log-odds.

    The questions of a tree stand level by level: those after question ``i`` are ``2 i + 1`` (the answer is
    that the signal is at most the threshold) and ``2 i + 2``.

    Attributes
    ----------
    signal, threshold
        What each question looks at, int and float64 of shape (trees, 7).
    value
        What each leaf adds, float64 of shape (trees, 8).
    start
        Log-odds before any tree.
    """

    signal: np.ndarray
    threshold: np.ndarray
    value: np.ndarray
    start: float = 0.0

    @classmethod
    def fit(cls, signals: np.ndarray, right: np.ndarray, weight: np.ndarray, seed: int) -> Trees:
        """Train by gradient boosting (Friedman 2002, "Stochastic gradient boosting").

        Parameters
        ----------
        signals
            Of shape (n, signals).
        right
            Bool of shape (n,), of both kinds.
        weight
            Of shape (n,).
        seed
            Of the draws of examples.
        """
        from sklearn.ensemble import GradientBoostingClassifier

        trained = GradientBoostingClassifier(max_depth=DEPTH, random_state=seed, **_TRAINING)
        trained.fit(signals, right, sample_weight=weight)
        trees = [tree.tree_ for tree in trained.estimators_[:, 0]]
        signal, threshold, value = (np.stack(rows) for rows in zip(*map(_complete, trees), strict=True))
        share = float(np.average(right, weights=weight))
        return cls(signal, threshold, trained.learning_rate * value, float(np.log(share / (1 - share))))

    def __call__(self, signals: np.ndarray) -> np.ndarray:
        """Return the log-odds of each row of signals, of shape (n,)."""
        signals = signals.astype(np.float32)  # as in training: a threshold lies between two such numbers
        trees = np.arange(len(self.value))
        place = np.zeros((len(signals), len(trees)), dtype=np.intp)
        for _ in range(DEPTH):
            asked = np.take_along_axis(signals, self.signal[trees, place], axis=1)
            place = 2 * place + 1 + (asked > self.threshold[trees, place])
        return np.asarray(self.start + self.value[trees, place - _QUESTIONS].sum(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """Return the trees as JSON can hold them: a line of numbers a tree."""
        rows = {"signal": self.signal, "threshold": self.threshold, "value": self.value}
        lines = {
            name: [" ".join(map(repr, tree)) for tree in values.tolist()] for name, values in rows.items()
        }
        return {"start": self.start, **lines}

    @classmethod
    def of(cls, values: Any, signals: int) -> Trees:  # noqa: ANN401 - as read from JSON
        """Make trees of what `to_dict` returned, for rows of so many signals.

        Raises
        ------
        ValueError
            The values are no trees.
        """
        try:
            trees = cls(
                _numbers(values["signal"]).astype(np.intp),
                _numbers(values["threshold"]),
                _numbers(values["value"]),
                float(values["start"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError("no trees") from error
        count = len(trees.value)
        shapes = [trees.signal.shape, trees.threshold.shape, trees.value.shape]
        if (
            shapes != [(count, _QUESTIONS), (count, _QUESTIONS), (count, _QUESTIONS + 1)]
            or not ((trees.signal >= 0) & (trees.signal < signals)).all()
        ):
            raise ValueError("no trees")
        return trees


def _numbers(lines: Sequence[str]) -> np.ndarray:
    return np.array([line.split() for line in lines], dtype=np.float64)


def _complete(tree: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # noqa: ANN401 - of scikit-learn
    """Return signals, thresholds and values of a tree; a leaf before the last level answers alike to all."""
    signal, threshold = np.zeros(_QUESTIONS, dtype=np.intp), np.zeros(_QUESTIONS)
    nodes = [0]
    for place in range(_QUESTIONS):
        node = nodes[place]
        left, right = tree.children_left[node], tree.children_right[node]
        if left < 0:
            left = right = node
        else:
            signal[place], threshold[place] = tree.feature[node], tree.threshold[node]
        nodes += [left, right]
    return signal, threshold, tree.value[nodes[_QUESTIONS:], 0, 0]
