"""The parameters of an experiment (`params.yaml`): one model a pipeline stage."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from deft.errors import InputError
from deft.files import read_text
from deft.variants import COMPARED, known_variant

DataKind = Literal["official", "stand-in", "sample"]
ScoredData = Literal["official", "stand-in", "sample", "unspecified"]  # what a scored file is said to be
VariantName = Annotated[str, AfterValidator(known_variant)]
Whole = Annotated[int, Field(strict=True)]  # YAML's yes and 1.0 are no whole numbers
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


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
    max_pairs_per_concept: Whole = Field(default=8, ge=1)
    seed: Seed = 13

    def atom_filters(self) -> dict[str, Any]:
        """Return what `deft.terminology.rrf.AtomFilter` takes, by name."""
        names = {"languages", "sources", "term_types", "semantic_types", "semantic_groups", "suppressed"}
        return self.model_dump(include=names)


class FinetuneParams(Block):
    """Training of the encoder."""

    base: str = "data/encoder"
    max_length: Whole = Field(default=64, ge=8)
    epochs: Whole = Field(default=2, ge=1)
    batch_size: Whole = Field(default=64, ge=2)
    learning_rate: float = Field(default=2e-5, gt=0)
    warmup_ratio: float = Field(default=0.1, ge=0, lt=1)
    temperature: float = Field(default=0.05, gt=0)
    graded_weight: float = Field(default=1.0, ge=0)
    hard_negatives: Whole = Field(default=1, ge=0)
    evaluations_per_epoch: Whole = Field(default=2, ge=1)
    patience: Whole = Field(default=3, ge=1)
    seed: Seed = 13


class ExportParams(Block):
    """Export to ONNX."""

    max_length: Whole = Field(default=512, ge=8)
    opset: Whole = Field(default=20, ge=18)
    tolerance: float = Field(default=1e-4, gt=0)


class Tolerance(Block):
    """Largest fall of each metric from fp32 to int8 that the gate lets through."""

    spearman: float = Field(default=0.01, ge=0)
    accuracy: float = Field(default=0.01, ge=0)
    recall_at_1: float = Field(default=0.01, ge=0)


class QuantizeParams(Block):
    """The variants that are made of the encoder, the one that is used, and the quality gate."""

    engines: tuple[VariantName, ...] = COMPARED
    engine: VariantName = COMPARED[0]
    tolerance: Tolerance = Tolerance()
    t1: Path | None = None
    t2: Path | None = None


class IndexParams(Block):
    """The vector index, exact (`flat`), by cells (`ivf`) or by size (`auto`); lay phrases; mapping model."""

    kind: Literal["auto", "flat", "ivf"] = "auto"
    lay: bool = True
    held_out_synonyms: Whole = Field(default=0, ge=0)


class MapParams(Block):
    """Mapping of a lexicon."""

    lexicon: Path
    column: str = "Terme"
    context_column: str = ""
    top_k: Whole = Field(default=5, ge=1)
    min_confidence: float = Field(default=0.0, ge=0, le=1)


class ScoreParams(Block):
    """Evaluation sets."""

    t1_train: Path
    t1_test: Path
    t2_test: Path
    data: DataKind
    gold: Path
    query_column: str = "Terme"
    context_column: str = ""
    cui_column: str = "CUI"
    bootstrap: Whole = Field(default=1000, ge=100)
    seed: Seed = 13


class SpeedParams(Block):
    """Speed and memory measurement."""

    texts: Whole = Field(default=512, ge=1)
    repeats: Whole = Field(default=3, ge=1)


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
        values = yaml.load(read_text(path), _Loader)  # noqa: S506 - made of the safe loader
        for name, value in (changes or {}).items():
            *blocks, last = name.split(".")
            inner = values
            for part in blocks:
                inner = inner.setdefault(part, {}) if isinstance(inner, dict) else None
            if not isinstance(inner, dict):
                raise InputError(
                    f"{name} names no parameter.", path=path, field=blocks[-1] if blocks else None
                )
            inner[last] = yaml.load(value, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = None if mark is None else mark.line + 1
        problem = getattr(error, "problem", None) or getattr(error, "reason", "unreadable")
        raise InputError(f"is not valid YAML ({_short(problem)}).", path=path, line=line) from error
    try:
        return block.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(_short(part) for part in first["loc"]) or None
        raise InputError(f"{_expected(first)}.", path=path, field=field) from error


_DEPTH, _SHOWN = 20, 100
_UNUSABLE = re.compile("[\0\ud800-\udfff]")  # no path and no console takes them
# What pydantic calls the types of Python, in the words of a YAML file.
_KINDS = {
    "tuple_type": "expected a list",
    "model_type": "expected a block of parameters",
    "model_attributes_type": "expected a block of parameters",
    "dict_type": "expected a block of values by name",
    "path_type": "expected a path",
    "string_type": "expected a text",
    "invalid_key": "expected a text as the name",
}


class _Loader(yaml.SafeLoader):
    """The safe loader, for files of any origin: what is wrong in them is a `yaml.YAMLError` with its line.

    Aliases are refused: a few lines of them stand for gigabytes.
    """

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, unless it is an alias or stands too deep."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not supported", problem_mark=mark)
        if self.depth == _DEPTH:
            raise yaml.MarkedYAMLError(problem="it is nested too deeply", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: ANN401, FBT001
        """Return the value of a node."""
        try:
            value = super().construct_object(node, deep=deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            problem = f"no value of type {kind}: {_short(node.value)}"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        if isinstance(value, int) and value.bit_length() > 63:
            raise yaml.MarkedYAMLError(problem="a number is too large", problem_mark=node.start_mark)
        if isinstance(value, str) and _UNUSABLE.search(value):
            problem = "a text holds characters that are none"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
        return value


def _expected(error: Mapping[str, Any]) -> str:
    """Say what was expected and what was found, in one line."""
    kind, value = error["type"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])
    message: str = _KINDS.get(kind, error["msg"])
    if kind == "missing":
        return message
    kinds = {list: "a list", dict: "a block", type(None): "nothing"}
    return f"{message}, found {kinds.get(type(value)) or _short(repr(value))}"


def _short(text: object) -> str:
    """Return a text in one line that is not too long."""
    line = "".join(character if character.isprintable() else "?" for character in str(text))
    return line if len(line) <= _SHOWN else f"{line[:_SHOWN]}..."
