"""The parameters of an experiment (`params.yaml`): one model a pipeline stage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deft.errors import InputError
from deft.files import read_text

Engine = Literal["onnxruntime", "inc"]
DataKind = Literal["official", "stand-in", "sample"]
ScoredData = Literal["official", "stand-in", "sample", "unspecified"]  # what a scored file is said to be


class Block(BaseModel):
    """A block of `params.yaml`: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PrepareParams(Block):
    """Inputs, filters and training pairs."""

    umls: Path
    languages: tuple[str, ...] = ("FRE", "ENG")
    sources: tuple[str, ...] = ()
    term_types: tuple[str, ...] = ()
    semantic_types: tuple[str, ...] = ()
    semantic_groups: tuple[str, ...] = ()
    suppressed: bool = False
    t1_train: Path | None = None
    held_out: tuple[Path, ...] = ()
    held_out_cui_column: str = "CUI"
    dev_fraction: float = Field(default=0.1, gt=0, lt=1)
    max_pairs_per_concept: int = Field(default=8, ge=1)
    seed: int = 13

    def atom_filters(self) -> dict[str, Any]:
        """Return what `deft.terminology.rrf.AtomFilter` takes, by name."""
        names = {"languages", "sources", "term_types", "semantic_types", "semantic_groups", "suppressed"}
        return self.model_dump(include=names)


class FinetuneParams(Block):
    """Training of the encoder."""

    base: str = "data/encoder"
    max_length: int = Field(default=64, ge=8)
    epochs: int = Field(default=2, ge=1)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-5, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    temperature: float = Field(default=0.05, gt=0)
    graded_weight: float = Field(default=1.0, ge=0)
    hard_negatives: int = Field(default=1, ge=0)
    evaluations_per_epoch: int = Field(default=2, ge=1)
    patience: int = Field(default=3, ge=1)
    seed: int = 13


class ExportParams(Block):
    """Export to ONNX."""

    max_length: int = Field(default=512, ge=8)
    opset: int = Field(default=20, ge=18)
    tolerance: float = Field(default=1e-4, gt=0)


class Tolerance(Block):
    """Largest fall of each metric from fp32 to int8 that the gate lets through."""

    spearman: float = Field(default=0.01, ge=0)
    accuracy: float = Field(default=0.01, ge=0)
    recall_at_1: float = Field(default=0.01, ge=0)


class QuantizeParams(Block):
    """Dynamic int8 quantization and its quality gate."""

    engines: tuple[Engine, ...] = ("onnxruntime", "inc")
    engine: Engine = "onnxruntime"
    tolerance: Tolerance = Tolerance()
    t1: Path | None = None
    t2: Path | None = None


class IndexParams(Block):
    """The vector index: exact (`flat`), by cells of codes (`ivf`), or by size (`auto`); its mapping model."""

    kind: Literal["auto", "flat", "ivf"] = "auto"
    held_out_synonyms: int = Field(default=0, ge=0)


class MapParams(Block):
    """Mapping of a lexicon."""

    lexicon: Path
    column: str = "Terme"
    top_k: int = Field(default=5, ge=1)
    threshold: float = Field(default=0.0, ge=-1, le=1)


class ScoreParams(Block):
    """Evaluation sets."""

    t1_train: Path
    t1_test: Path
    t2_test: Path
    data: DataKind
    gold: Path
    query_column: str = "Terme"
    cui_column: str = "CUI"
    bootstrap: int = Field(default=1000, ge=100)
    seed: int = 13


class SpeedParams(Block):
    """Speed and memory measurement."""

    texts: int = Field(default=512, ge=1)
    repeats: int = Field(default=3, ge=1)


class Params(Block):
    """All of `params.yaml`."""

    prepare: PrepareParams
    finetune: FinetuneParams = FinetuneParams()
    export: ExportParams = ExportParams()
    quantize: QuantizeParams = QuantizeParams()
    index: IndexParams = IndexParams()
    map: MapParams
    score: ScoreParams
    speed: SpeedParams = SpeedParams()

    @classmethod
    def read(cls, path: Path) -> Params:
        """Read a parameter file; errors as `read_block`."""
        return read_block(path, cls)


B = TypeVar("B", bound=Block)


def read_block(path: Path, block: type[B], changes: Mapping[str, str] | None = None) -> B:
    """Read a YAML file as a block of parameters.

    Parameters
    ----------
    path
        The file.
    block
        What it holds.
    changes
        Values in YAML that replace those of the file, by dotted name: ``{"training.steps": "150"}``.

    Raises
    ------
    InputError
        The file is missing, is not YAML, or a parameter is unknown, missing or out of range.
    """
    try:
        values = yaml.safe_load(read_text(path))
        for name, value in (changes or {}).items():
            *blocks, last = name.split(".")
            inner = values
            for part in blocks:
                inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
            if not isinstance(inner, dict):
                raise InputError(
                    f"{name} names no parameter.", path=path, field=blocks[-1] if blocks else None
                )
            inner[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        raise InputError(f"is not valid YAML ({problem}).", path=path, line=line) from error
    try:
        return block.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        found = f", found {first['input']!r}" if isinstance(first["input"], str | int | float) else ""
        raise InputError(f"{first['msg']}{found}.", path=path, field=field) from error
