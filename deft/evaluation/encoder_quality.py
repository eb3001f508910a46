"""Encoders side by side on the same data: mapping by meaning alone, graded similarity, parallel sentences."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from deft.config import Block
from deft.corpora.deft2020 import read_t2
from deft.corpora.pairs import read_pairs
from deft.encoder.runtime import Encoder
from deft.evaluation.baseline import NgramEncoder
from deft.evaluation.linking import clusters_of, first_ranks
from deft.evaluation.metrics import recall_at_k
from deft.evaluation.quality import Measured, graded_similarity, parallel_sentences
from deft.evaluation.trial import MappingDetail, MappingTrial
from deft.index.build import build_index
from deft.mapping.grades import TextEncoder
from deft.mapping.mapper import TermMapper
from deft.terminology.lexicon import read_gold
from deft.terminology.rrf import AtomFilter

DEPTHS = (1, 8, 64)
NGRAMS = "ngrams"

_Measures = dict[str, Measured]


class GoldSet(Block):
    """Queries with their right concepts; those without one in the index are left out.

    Intervals resample the distinct queries, or the values of the column `cluster`.
    """

    path: Path
    query: str
    cui: str
    where: dict[str, str] = Field(default_factory=dict)
    cluster: str | None = None


class EncoderEvaluation(Block):
    """What encoders are evaluated on.

    Attributes
    ----------
    umls, languages
        Terminology to index, and the languages that are kept.
    mapping
        Gold mappings by name.
    graded
        CSV files of graded pairs (`sentence1`, `sentence2`, `score`) by name: Spearman of the cosine.
    sets
        DEFT 2020 task 2 files by name: accuracy of the nearest sentence.
    """

    umls: Path
    languages: tuple[str, ...] = ()
    mapping: dict[str, GoldSet]
    graded: dict[str, Path] = Field(default_factory=dict)
    sets: dict[str, Path] = Field(default_factory=dict)


def evaluate_encoders(
    encoders: Mapping[str, Path],
    data: EncoderEvaluation,
    *,
    resamples: int = 1000,
    seed: int = 13,
    progress: bool = False,
) -> dict[str, Any]:
    """Score encoders and character n-grams, and compare each encoder with the first on the same items.

    Returns
    -------
    dict
        ``{"systems": {name: {measure: interval}}, "differences": {name: {measure: interval}}}``: the
        differences are those of an encoder to the first of `encoders`.

    Raises
    ------
    InputError
        A file or an encoder cannot be read.
    """
    measured: dict[str, _Measures] = {NGRAMS: {}}
    for name, folder in encoders.items():
        with tempfile.TemporaryDirectory() as scratch:
            index = Path(scratch) / "index"
            keep = AtomFilter(languages=data.languages)
            build_index(data.umls, folder, index, keep, lay=None, progress=progress)  # names alone
            trials = _trials(TermMapper.open(index), data, progress=progress)
            measure = partial(_mapping, data, trials)
            measured[name] = measure({key: trial.rankings for key, trial in trials.items()})
            if name == next(iter(encoders)):  # the baseline needs no encoder, and once is enough
                measured[NGRAMS] = measure({key: trial.ngram_rankings() for key, trial in trials.items()})
        measured[name] |= _sentences(data, Encoder.open(folder))
    measured[NGRAMS] |= _sentences(data, None)
    first = measured[next(iter(encoders))]
    return {
        "systems": {
            name: {key: asdict(found.interval(resamples=resamples, seed=seed)) for key, found in own.items()}
            for name, own in measured.items()
        },
        "differences": {
            name: {
                key: asdict(found.change_to(measured[name][key], resamples=resamples, seed=seed))
                for key, found in first.items()
            }
            for name in list(encoders)[1:]
        },
    }


def _trials(mapper: TermMapper, data: EncoderEvaluation, *, progress: bool) -> dict[str, MappingTrial]:
    detail = MappingDetail(channel="dense")
    trials = {}
    for name, block in data.mapping.items():
        columns = () if block.cluster is None else (block.cluster,)
        gold = read_gold(block.path, block.query, block.cui, where=block.where, columns=columns)
        kept = [item for item in gold if item.cuis & mapper.concepts.cuis]
        trials[name] = MappingTrial(mapper, kept, detail, progress=progress)
    return trials


def _mapping(
    data: EncoderEvaluation, trials: Mapping[str, MappingTrial], rankings: Mapping[str, Any]
) -> _Measures:
    return {
        f"{name} recall@{k}": Measured(
            partial(recall_at_k, k=k),
            (first_ranks(trial.gold, rankings[name]),),
            clusters_of(trial.gold, data.mapping[name].cluster),
        )
        for name, trial in trials.items()
        for k in DEPTHS
    }


def _sentences(data: EncoderEvaluation, encoder: TextEncoder | None) -> _Measures:
    """Score an encoder, or if None character n-grams, on sentences."""
    measured: _Measures = {}
    for name, path in data.graded.items():
        pairs = read_pairs(path, grade="score")
        texts = [text for pair in pairs for text in (pair.source, pair.target)]
        measured[f"{name} Spearman"] = graded_similarity(pairs, encoder or NgramEncoder.fit(texts))
    for name, path in data.sets.items():
        sets = read_t2(path)
        texts = [text for item in sets for text in (item.source, *item.targets)]
        measured[f"{name} accuracy"] = parallel_sentences(sets, encoder or NgramEncoder.fit(texts))
    return measured
