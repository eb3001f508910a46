"""The quantization stage: a bundle a variant, each compared with fp32, and a gate for the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deft.compress.registry import make_variant
from deft.config import Params, QuantizeParams
from deft.corpora.deft2020 import SentencePair, SentenceSet, read_t1, read_t2
from deft.encoder.runtime import Encoder
from deft.errors import GateError
from deft.evaluation.quality import Measured, Retrieval, graded_similarity, parallel_sentences, retrieval
from deft.files import write_json
from deft.mapping.grades import GRADES, GradeModel, TextEncoder
from deft.progress import Progress


def quantize_and_compare(
    params: Params,
    fp32: Path,
    model: Path,
    prepared: Path,
    out: Path,
    output: Path,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Make every variant of the parameters and compare each with fp32, on training parts.

    Parameters
    ----------
    params
        The variants, the one that later stages use, and the tolerance of each metric.
    fp32, model
        The bundle in full precision and the sentence-transformers folder that it was exported from.
    prepared
        Folder of the stage `prepare`.
    out
        Folder that gets a bundle a variant.
    output
        JSON file of the comparison.
    progress
        Show progress on standard error.

    Raises
    ------
    GateError
        The chosen variant loses more than the tolerance on some metric. The comparison is written all the
        same.
    """
    block = params.quantize
    items = QualityItems.read(block, prepared, seed=params.score.seed)
    reference = quality(items, Encoder.open(fp32))
    engines: dict[str, Any] = {}
    for name in Progress(
        dict.fromkeys((block.engine, *block.engines)), desc="quantize", unit="variant", disable=not progress
    ):
        make_variant(fp32, out / name, name, model=model)
        encoder = Encoder.open(out / name)
        if items.pairs:  # so that the folder can grade pairs by itself
            GradeModel.fit(items.pairs, encoder).save(out / name / GRADES)
        metrics = compare(
            reference, quality(items, encoder), resamples=params.score.bootstrap, seed=params.score.seed
        )
        failures = falls(metrics, block.tolerance.model_dump())
        engines[name] = {"passed": not failures, "metrics": metrics}
    comparison = {"engine": block.engine, "engines": engines}
    write_json(output, comparison)
    gate(engines[block.engine]["metrics"], block.tolerance.model_dump())
    return comparison


def gate(metrics: Mapping[str, Mapping[str, Any]], tolerance: Mapping[str, float]) -> None:
    """Refuse an encoder that is much worse than the fp32 one; parameters as `falls`.

    Raises
    ------
    GateError
        A metric fell by more than its tolerance, or is not a number; the message lists all of them.
    """
    if failures := falls(metrics, tolerance):
        raise GateError("The quality gate is closed: " + "; ".join(failures) + ".")


def falls(metrics: Mapping[str, Mapping[str, Any]], tolerance: Mapping[str, float]) -> list[str]:
    """Return a line for each metric that fell by more than its tolerance, or is not a number.

    Parameters
    ----------
    metrics
        Values under ``fp32`` and ``int8`` by metric, of those that were measured; more is better.
    tolerance
        The largest fall of each metric that is let through.
    """
    return [
        f"{name} fell from {found['fp32']:.4f} to {found['int8']:.4f} ({tolerance[name]:.4f} is allowed)"
        for name, found in metrics.items()
        if not found["fp32"] - found["int8"] <= tolerance[name]
    ]


@dataclass(frozen=True)
class QualityItems:
    """What the quality of an encoder is measured on, item by item: two encoders can be compared in pairs.

    Attributes
    ----------
    pairs
        Graded sentence pairs.
    sets
        Sentence sets.
    queries
        Names of dev concepts, by CUI: columns `cui`, `left`.
    names
        What each of them must find another name of its concept among: columns `cui`, `string`.
    """

    pairs: Sequence[SentencePair]
    sets: Sequence[SentenceSet]
    queries: pd.DataFrame
    names: pd.DataFrame

    @classmethod
    def read(
        cls, params: QuantizeParams, prepared: Path, *, most: int = 5000, seed: int = 13
    ) -> QualityItems:
        """Read the training parts that the parameters name, and the names of dev concepts.

        The names stand among those of at most `most` other strings of the index.
        """
        queries = pd.read_parquet(prepared / "synonyms_dev.parquet").drop_duplicates("left")
        names = pd.read_parquet(prepared / "atoms.parquet")
        own = names["cui"].isin(queries["cui"])
        others = names[~own].sample(min(most, int((~own).sum())), random_state=seed)
        return cls(
            [] if params.t1 is None else read_t1(params.t1),
            [] if params.t2 is None else read_t2(params.t2),
            queries[["cui", "left"]],
            pd.concat([names[own], others]),
        )

    @property
    def retrieval(self) -> Retrieval:
        """The queries, each of which looks for another name of its concept among all strings but itself."""
        codes, strings = pd.factorize(self.names["string"])
        place = {string: row for row, string in enumerate(strings)}
        rows_of = pd.Series(codes).groupby(self.names["cui"].to_numpy()).agg(set)
        queries, cuis = self.queries["left"].to_list(), self.queries["cui"].to_list()
        own = [{place[query]} if query in place else set() for query in queries]
        relevant = [rows_of[cui] - ignored for cui, ignored in zip(cuis, own, strict=True)]
        return Retrieval.of(queries, list(strings), relevant, own, cuis)


def quality(items: QualityItems, encoder: TextEncoder) -> dict[str, Measured]:
    """Measure an encoder: the metrics by name; one without items is left out.

    ``spearman`` of the cosine of graded pairs, ``accuracy`` of task 2 and ``recall_at_1`` of synonym
    retrieval. Pairs and sets of one source sentence depend on one another, and so do the
    names of one concept.
    """
    found: dict[str, Measured] = {}
    if items.pairs:
        found["spearman"] = graded_similarity(items.pairs, encoder)
    if items.sets:
        found["accuracy"] = parallel_sentences(items.sets, encoder)
    if len(items.queries):
        found["recall_at_1"] = retrieval(items.retrieval, encoder)
    return found


def compare(
    fp32: Mapping[str, Measured], int8: Mapping[str, Measured], *, resamples: int = 1000, seed: int = 13
) -> dict[str, dict[str, Any]]:
    """Return, for each metric, its value with each encoder and the interval of int8 less fp32."""
    return {
        name: {
            "fp32": before.value,
            "int8": int8[name].value,
            "difference": before.change_to(int8[name], resamples=resamples, seed=seed).to_dict(),
        }
        for name, before in fp32.items()
    }
