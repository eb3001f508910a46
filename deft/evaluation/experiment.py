"""Runs of the evaluation: an encoder or an index on one side, a scored file on the other, a baseline beside.

The baseline of every table is character n-grams, fitted and scored in the same run on the same items.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from deft.config import ScoredData
from deft.corpora.deft2020 import SentencePair, read_choices, read_grades, read_t1, read_t2
from deft.encoder.bundle import find_encoder
from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.evaluation.baseline import NgramEncoder
from deft.evaluation.deft_tasks import rank_targets, score_t1, score_t2
from deft.evaluation.linking import Miss
from deft.evaluation.trial import MappingDetail, MappingTrial
from deft.mapping.grades import GRADES, GradeModel, similarities
from deft.mapping.mapper import TermMapper
from deft.terminology.lexicon import GoldMapping

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskRun:
    """Scores of a DEFT task, ``{"data": kind, "systems": {name: scores}}``, and our predictions."""

    scores: dict[str, Any]
    predictions: dict[str, Any]


@dataclass(frozen=True)
class MappingRun:
    """Scores of a mapping, the curve of recall@k (columns `k`, `system`, `recall`) and the misses."""

    scores: dict[str, Any]
    curve: pd.DataFrame
    misses: list[Miss]


def run_t1(
    data: Path,
    model: Path,
    *,
    train: Path | None = None,
    keep_grade_model: bool = False,
    kind: ScoredData = "unspecified",
    resamples: int = 1000,
    seed: int = 13,
) -> TaskRun:
    """Grade the pairs of a task 1 file with an encoder and score the grades.

    The grade model is fitted on `train` (and, if `keep_grade_model`, written to the model folder), else read
    from the model folder; without either, the grade is five times the cosine.
    """
    model = find_encoder(model)
    encoder = Encoder.open(model)
    pairs = read_t1(data)
    if train is None:
        systems = {"deft": _grades(pairs, encoder, model / GRADES)}
    else:
        fitted = read_t1(train)
        grader = GradeModel.fit(fitted, encoder)
        if keep_grade_model:
            grader.save(model / GRADES)
        ngrams = NgramEncoder.fit([text for pair in fitted for text in (pair.source, pair.target)])
        systems = {
            "deft": grader.predict(pairs, encoder),
            "ngrams": GradeModel.fit(fitted, ngrams).predict(pairs, ngrams),
        }
    with _naming(data):
        scores = {
            name: score_t1(pairs, grades, resamples=resamples, seed=seed) for name, grades in systems.items()
        }
    return TaskRun({"data": kind, "systems": scores}, systems["deft"])


def run_t2(
    data: Path, model: Path, *, kind: ScoredData = "unspecified", resamples: int = 1000, seed: int = 13
) -> TaskRun:
    """Rank the candidates of each set of a task 2 file by cosine and score the ranking."""
    encoder = Encoder.open(model)
    sets = read_t2(data)
    ngrams = NgramEncoder.fit([text for item in sets for text in (item.source, *item.targets)])
    systems = {"deft": rank_targets(sets, encoder), "ngrams": rank_targets(sets, ngrams)}
    with _naming(data):
        scores = {
            name: score_t2(sets, ranks, resamples=resamples, seed=seed) for name, ranks in systems.items()
        }
    return TaskRun(
        {"data": kind, "systems": scores}, {key: order[0] for key, order in systems["deft"].items()}
    )


def score_predictions(
    task: str, data: Path, predictions: Path, *, resamples: int = 1000, seed: int = 13
) -> dict[str, Any]:
    """Score a file of predictions for task ``t1`` or ``t2``."""
    with _naming(predictions, remedy=f"They are scored against {data}."):
        if task == "t1":
            return score_t1(read_t1(data), read_grades(predictions), resamples=resamples, seed=seed)
        return score_t2(read_t2(data), read_choices(predictions), resamples=resamples, seed=seed)


def run_mapping(
    index: Path,
    gold: Sequence[GoldMapping],
    detail: MappingDetail | None = None,
    *,
    kind: ScoredData = "unspecified",
    baseline: bool = True,
    resamples: int = 1000,
    seed: int = 13,
    progress: bool = False,
) -> MappingRun:
    """Map the queries of a gold mapping with an index, and score the rankings and their confidence.

    The scores have ``data``, ``channel``, ``systems`` (ours and the baseline), ``calibration``, and where
    there is something in them ``by``, ``seen``, ``compare``, ``no_match`` and ``noise``: see `MappingTrial`.
    """
    detail = detail or MappingDetail()
    mapper = TermMapper.open(index, expected_present=detail.expected_present)
    current = [replace(item, cuis=mapper.concepts.follow(item.cuis)) for item in gold]
    retired = sum(now.cuis != item.cuis for now, item in zip(current, gold, strict=True))
    if retired:
        logger.warning("%d queries have retired CUIs in the gold; they were followed.", retired)
    trial = MappingTrial(mapper, current, detail, resamples, seed, progress)
    rankings = {"deft": trial.rankings}
    if baseline:
        rankings["ngrams"] = trial.ngram_rankings()
    scores = {
        "data": kind,
        "channel": trial.detail.channel,
        "systems": {name: trial.scores(found) for name, found in rankings.items()},
        "calibration": trial.calibration(),
    }
    more = {
        "by": trial.by(),
        "seen": trial.seen(),
        "compare": trial.comparison(),
        "no_match": trial.no_match(),
        "noise": trial.noise(),
    }
    curve = [
        (k, name, round(recall, 5))
        for name, found in rankings.items()
        for k, recall in enumerate(trial.curve(found), start=1)
    ]
    return MappingRun(
        scores | {name: part for name, part in more.items() if part},
        pd.DataFrame(curve, columns=["k", "system", "recall"]),
        trial.misses(),
    )


@contextmanager
def _naming(path: Path, *, remedy: str | None = None) -> Iterator[None]:
    """Name the file in an error about the items that were read from it."""
    try:
        yield
    except InputError as error:
        if error.path is not None:
            raise
        raise InputError(str(error), path=path, remedy=remedy) from error


def _grades(pairs: Sequence[SentencePair], encoder: Encoder, stored: Path) -> dict[str, float]:
    if stored.is_file():
        return GradeModel.load(stored).predict(pairs, encoder)
    logger.warning("no grade model: the grade is five times the cosine. Give the training part to fit one.")
    cosines = similarities(pairs, encoder, ("cosine",))[:, 0]
    return {pair.id: float(np.clip(5 * cosine, 0, 5)) for pair, cosine in zip(pairs, cosines, strict=True)}
