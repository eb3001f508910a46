"""The quantization stage: a bundle a variant, each compared with fp32, and a gate for the chosen one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from deft.compress.registry import make_variant
from deft.config import Params, QuantizeParams
from deft.corpora.deft2020 import SentencePair, SentenceSet, read_t1, read_t2
from deft.encoder.runtime import Encoder
from deft.errors import GateError
from deft.evaluation.deft_tasks import answer_ranks, rank_targets
from deft.evaluation.metrics import Statistic, difference, recall_at_k, spearman_rho
from deft.files import write_json
from deft.mapping.grades import GRADES, GradeModel, TextEncoder, gold_grades, similarities
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


class Measured(NamedTuple):
    """A metric, the columns it is computed from, a row an item, and what is independent, a label an item."""

    statistic: Statistic
    columns: tuple[np.ndarray, ...]
    clusters: list[str]

    @property
    def value(self) -> float:
        """The metric of all items."""
        return float(self.statistic(*self.columns))


def quality(items: QualityItems, encoder: TextEncoder) -> dict[str, Measured]:
    """Measure an encoder: the metrics by name; one without items is left out.

    ``spearman`` of the cosine of graded pairs, ``accuracy`` of task 2 and ``recall_at_1`` of synonym
    retrieval. Pairs and sets of one source sentence depend on one another, and so do the
    names of one concept.
    """
    found: dict[str, Measured] = {}
    first = partial(recall_at_k, k=1)
    if items.pairs:
        cosines = similarities(items.pairs, encoder, ("cosine",))[:, 0]
        columns = gold_grades(items.pairs), np.round(cosines, 6)
        found["spearman"] = Measured(spearman_rho, columns, [pair.source for pair in items.pairs])
    if items.sets:
        ranks = answer_ranks(items.sets, rank_targets(items.sets, encoder))
        found["accuracy"] = Measured(first, (ranks,), [item.source for item in items.sets])
    if len(items.queries):
        ranks = _synonym_ranks(items, encoder)
        found["recall_at_1"] = Measured(first, (ranks,), items.queries["cui"].to_list())
    return found


def compare(
    fp32: Mapping[str, Measured], int8: Mapping[str, Measured], *, resamples: int = 1000, seed: int = 13
) -> dict[str, dict[str, Any]]:
    """Return, for each metric, its value with each encoder and the interval of int8 less fp32."""
    return {
        name: {
            "fp32": before.value,
            "int8": int8[name].value,
            "difference": difference(
                before.statistic,
                before.columns,
                int8[name].columns,
                clusters=before.clusters,
                resamples=resamples,
                seed=seed,
            ).to_dict(),
        }
        for name, before in fp32.items()
    }


def _synonym_ranks(items: QualityItems, encoder: TextEncoder) -> np.ndarray:
    """Rank of the nearest other name of each query's concept among all strings but the query itself."""
    codes, strings = pd.factorize(items.names["string"])
    vectors = encoder.encode(list(strings))
    place = {string: row for row, string in enumerate(strings)}
    rows_of = pd.Series(codes).groupby(items.names["cui"].to_numpy()).agg(list)
    queries = items.queries["left"].to_list()
    ranks = np.zeros(len(queries), dtype=np.intp)
    for row, (query, cui, vector) in enumerate(
        zip(queries, items.queries["cui"], encoder.encode(queries), strict=True)
    ):
        cosines = np.round(vectors @ vector, 6)
        if query in place:
            cosines[place[query]] = -2.0
        ranks[row] = 1 + int((cosines > cosines[rows_of[cui]].max()).sum())
    return ranks
