"""The metrics that training is watched on: synonym retrieval and graded similarity on the dev pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.evaluation import BaseEvaluator
from typing_extensions import override

from deft.corpora.deft2020 import SentencePair
from deft.errors import InputError
from deft.evaluation.quality import Retrieval, graded_similarity
from deft.training.training_data import TrainingConcepts, same_term

PRIMARY = "score"


def synonym_retrieval(
    pairs: pd.DataFrame, distractors: Sequence[str], concepts: TrainingConcepts
) -> Retrieval:
    """Make each distinct ``left`` of `pairs` a query, and each ``right`` and distractor a candidate.

    A query looks for another name of its concepts. A candidate that is the query's own text, but for case or
    punctuation, counts neither for nor against; a query for which nothing else is left to be found is
    dropped.
    """
    candidates = list(dict.fromkeys([*pairs["right"], *distractors]))
    names: defaultdict[str, set[int]] = defaultdict(set)
    texts: defaultdict[str, set[int]] = defaultdict(set)
    place = {text: row for row, text in enumerate(candidates)}
    for text, row in place.items():
        texts[same_term(text)].add(row)
        for cui in concepts.of(text):
            names[cui].add(row)
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    for cui, left, right in pairs[["cui", "left", "right"]].itertuples(index=False):
        names[cui].add(place[right])
        wanted[left] |= concepts.of(left) | {cui}
    ignored = [texts[same_term(left)] for left in wanted]
    relevant = [
        set().union(*(names[cui] for cui in cuis)) - own
        for cuis, own in zip(wanted.values(), ignored, strict=True)
    ]
    return Retrieval.of(list(wanted), candidates, relevant, ignored, [min(cuis) for cuis in wanted.values()])


@dataclass(frozen=True)
class _Watched:
    """A model in training, as an encoder."""

    model: SentenceTransformer
    batch_size: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors."""
        vectors: NDArray[np.float32] = self.model.encode(
            list(texts), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors


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
        rows = graded[["left", "right", "grade"]].itertuples(index=False)
        self._graded = [SentencePair(str(place), *row) for place, row in enumerate(rows)]
        self._graded_weight = graded_weight
        self._batch_size = batch_size

    @override
    def __call__(
        self, model: SentenceTransformer, output_path: str | None = None, epoch: float = -1, steps: int = -1
    ) -> dict[str, float]:
        """Return the metrics of `model`; the other arguments are the library's and unused."""
        encoder = _Watched(model, self._batch_size)
        metrics: dict[str, float] = {}
        parts: list[tuple[float, float]] = []
        if self._retrieval.queries:
            ranks = self._retrieval.ranks(encoder)
            metrics |= {"recall_at_1": float(np.mean(ranks == 1)), "mrr": float(np.mean(1 / ranks))}
            parts.append((metrics["mrr"], 1.0))
        if len(self._graded) > 1:
            metrics["spearman"] = graded_similarity(self._graded, encoder).value
            parts.append((metrics["spearman"], self._graded_weight if parts else 1.0))
        values, weights = zip(*parts, strict=True)
        return metrics | {PRIMARY: float(np.average(values, weights=weights))}
