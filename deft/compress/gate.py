"""The quantization stage: a bundle an engine, each compared with fp32, and the gate it must pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from deft.compress.quantize import gate, quantize
from deft.config import Params
from deft.encoder.runtime import Encoder
from deft.errors import GateError
from deft.evaluation.experiment import QualityItems, compare_precisions
from deft.files import write_json
from deft.mapping.grades import GRADES, GradeModel


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
    """Quantize with every engine of the parameters and compare each with fp32, on training parts.

    Parameters
    ----------
    params
        The engines, the one that later stages use, and the tolerance of each metric.
    fp32, model
        The bundle in full precision and the sentence-transformers folder that it was exported from.
    prepared
        Folder of the stage `prepare`.
    out
        Folder that gets a bundle an engine.
    output
        JSON file of the comparison.
    progress
        Show progress on standard error.

    Raises
    ------
    GateError
        The chosen engine loses more than the tolerance on some metric. The comparison is written all the
        same.
    """
    block = params.quantize
    items = QualityItems.read(block, prepared, seed=params.score.seed)
    reference = Encoder.open(fp32)
    engines: dict[str, Any] = {}
    failure: GateError | None = None
    for engine in tqdm(dict.fromkeys((block.engine, *block.engines)), desc="quantize", disable=not progress):
        quantize(fp32, out / engine, engine, model_dir=model)
        encoder = Encoder.open(out / engine)
        if items.pairs:  # so that the folder can grade pairs by itself
            GradeModel.fit(items.pairs, encoder).save(out / engine / GRADES)
        metrics = compare_precisions(
            items,
            reference,
            encoder,
            resamples=params.score.bootstrap,
            seed=params.score.seed,
        )
        error = _gate_error(metrics, block.tolerance.model_dump())
        engines[engine] = {"passed": error is None, "metrics": metrics}
        failure = failure or (error if engine == block.engine else None)
    comparison = {"engine": block.engine, "engines": engines}
    write_json(output, comparison)
    if failure is not None:
        raise failure
    return comparison


def _gate_error(metrics: dict[str, dict[str, Any]], tolerance: dict[str, float]) -> GateError | None:
    before = {name: values["fp32"] for name, values in metrics.items()}
    after = {name: values["int8"] for name, values in metrics.items()}
    try:
        gate(before, after, {name: tolerance[name] for name in metrics})
    except GateError as error:
        return error
    return None
