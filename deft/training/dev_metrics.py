"""The metrics that training is watched on: synonym retrieval and graded similarity on the dev pairs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator
from typing_extensions import override

from deft.errors import InputError
from deft.training.training_data import TrainingConcepts, same_term

PRIMARY = "score"


class Retrieval:
    """Queries that look for another name of their concept among candidates."""

    def __init__(self, pairs: pd.DataFrame, distractors: Sequence[str], concepts: TrainingConcepts) -> None:
        """Make each distinct ``left`` of `pairs` a query, and each ``right`` and distractor a candidate.

        A candidate that is the query's own text, but for case or punctuation, counts neither for nor against;
        a query for which nothing else is left to be found is dropped.
        """
        self.candidates = list(dict.fromkeys([*pairs["right"], *distractors]))
        names: defaultdict[str, set[int]] = defaultdict(set)
        texts: defaultdict[str, set[int]] = defaultdict(set)
        place = {text: row for row, text in enumerate(self.candidates)}
        for text, row in place.items():
            texts[same_term(text)].add(row)
            for cui in concepts.of(text):
                names[cui].add(row)
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for cui, left, right in pairs[["cui", "left", "right"]].itertuples(index=False):
            names[cui].add(place[right])
            wanted[left] |= concepts.of(left) | {cui}
        self.queries: list[str] = []
        self._relevant: list[np.ndarray] = []
        self._ignored: list[np.ndarray] = []
        for left, cuis in wanted.items():
            ignored = texts[same_term(left)]
            relevant = set().union(*(names[cui] for cui in cuis)) - ignored
            if relevant:
                self.queries.append(left)
                self._relevant.append(np.array(sorted(relevant)))
                self._ignored.append(np.array(sorted(ignored), dtype=int))

    def ranks(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Return the rank, from 1, of the first right candidate of each query; a tie counts against it.

        Parameters
        ----------
        queries, candidates
            Vectors of unit norm, one a row.
        """
        ranks = np.empty(len(self.queries), dtype=int)
        for row, vector in enumerate(queries):
            cosines = candidates @ vector
            best = cosines[self._relevant[row]].max()
            cosines[self._relevant[row]] = -np.inf
            cosines[self._ignored[row]] = -np.inf
            ranks[row] = 1 + np.count_nonzero(cosines >= best)
        return ranks


class DevEvaluator(BaseEvaluator):  # type: ignore[misc]
    """Score an encoder on the dev pairs.

    Calling it with a model returns ``recall_at_1`` and ``mrr`` of synonym retrieval, ``spearman`` of cosine
    against grade (each only where there are such pairs), and ``score``, the mean of ``mrr`` (weight 1) and
    ``spearman`` (weight `graded_weight`).

    Raises
    ------
    InputError
        There is nothing to score on.
    """

    def __init__(
        self, retrieval: Retrieval, graded: pd.DataFrame, *, graded_weight: float, batch_size: int
    ) -> None:
        super().__init__()
        if not retrieval.queries and len(graded) < 2:
            raise InputError("no dev pair can be scored.", remedy="Raise prepare.dev_fraction.")
        self.primary_metric = PRIMARY
        self._retrieval = retrieval
        self._graded = graded
        self._graded_weight = graded_weight
        self._batch_size = batch_size

    @override
    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the metrics of `model`; the other arguments are the library's and unused."""
        metrics: dict[str, float] = {}
        parts: list[tuple[float, float]] = []
        if self._retrieval.queries:
            ranks = self._retrieval.ranks(
                self._embed(model, self._retrieval.queries), self._embed(model, self._retrieval.candidates)
            )
            metrics |= {"recall_at_1": float(np.mean(ranks == 1)), "mrr": float(np.mean(1 / ranks))}
            parts.append((metrics["mrr"], 1.0))
        if len(self._graded) > 1:
            metrics["spearman"] = self._spearman(model)
            parts.append((metrics["spearman"], self._graded_weight if parts else 1.0))
        values, weights = zip(*parts, strict=True)
        return metrics | {PRIMARY: float(np.average(values, weights=weights))}

    def _spearman(self, model: SentenceTransformer) -> float:
        left, right = (self._embed(model, self._graded[side].tolist()) for side in ("left", "right"))
        cosines = np.einsum("ij,ij->i", left, right)
        grades = self._graded["grade"].to_numpy()
        if np.ptp(cosines) == 0 or np.ptp(grades) == 0:  # a constant has no rank correlation
            return 0.0
        value = float(spearmanr(cosines, grades).statistic)
        return 0.0 if math.isnan(value) else value

    def _embed(self, model: SentenceTransformer, texts: list[str]) -> np.ndarray:
        vectors: np.ndarray = model.encode(
            texts, batch_size=self._batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors
