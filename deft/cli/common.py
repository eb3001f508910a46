"""What the commands share: options, formats, and how results are printed."""

from __future__ import annotations

import json
import logging
import os
import shlex
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from deft.errors import InputError

EXPERIMENTS = Path("experiments")
PREPARED = EXPERIMENTS / "prepared"
MODELS = EXPERIMENTS / "models"


class TableFormat(StrEnum):
    """How scores are printed."""

    table = "table"
    json = "json"


class ChannelName(StrEnum):
    """What ranks concepts."""

    fused = "fused"
    dense = "dense"
    lexical = "lexical"


class Kind(StrEnum):
    """Kind of evaluation data: scores on one kind are never compared with scores on another."""

    unspecified = "unspecified"
    official = "official"
    stand_in = "stand-in"
    sample = "sample"


ParamsFile = Annotated[Path, typer.Option(help="Parameter file.")]
Index = Annotated[Path, typer.Option(help="Folder of the index.")]
Format = Annotated[TableFormat, typer.Option("--format", help="How the scores are printed.")]
Output = Annotated[Path | None, typer.Option(help="Write the scores to this file too, as JSON.")]
Encoder = Annotated[Path, typer.Option(help="Encoder bundle; by default the one that comes with deft.")]
Model = Annotated[Path | None, typer.Option(help="Encoder bundle.")]
DataKind = Annotated[
    Kind, typer.Option("--data-kind", help="What the scored file is: the leaderboard keeps the kinds apart.")
]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples behind each 95 % interval.")]
Seed = Annotated[int, typer.Option(help="Seed of the bootstrap.")]
Column = Annotated[str, typer.Option(help="Column of the texts.")]
Channel = Annotated[
    ChannelName, typer.Option(help="What ranks: meaning (dense), spelling (lexical), or all signals (fused).")
]
ExpectedPresent = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=0.99,
        help="Share of the terms that should have their concept in the index: confidence depends on it.",
    ),
]
Values = list[str] | None


def quiet_libraries() -> None:
    """Keep libraries that are imported later, here or in a child, from writing of their own affairs."""
    quiet = {"TORCH_LOGS": "-all", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    for name in ("datasets", "neural_compressor", "onnxscript", "sentence_transformers", "torchao"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # deft itself warns by its log


def split_pair(text: str) -> tuple[str, str]:
    """Return the two sides of ``NAME=VALUE``."""
    name, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"expected NAME=VALUE, found {text!r}.")
    return name, value


def command_line() -> str:
    """Return the command line, for the record."""
    return shlex.join(["deft", *sys.argv[1:]])


def print_record(record: dict[str, Any]) -> None:
    """Print a result as JSON."""
    typer.echo(json.dumps(record, ensure_ascii=False, indent=2, default=str))


def print_made(record: dict[str, Any], *places: Path) -> None:
    """Print a result as JSON, and to a person where what was made lies."""
    print_record(record)
    print_places(*places)


def print_places(*places: Path) -> None:
    """Tell a person what was written."""
    typer.echo(f"Written: {', '.join(map(str, places))}", err=True)


def print_scores(scores: dict[str, Any], output_format: TableFormat, output: Path | None) -> None:
    """Print scores as they are asked for, and write them to `output` as JSON."""
    from deft.evaluation.score_table import score_table
    from deft.files import write_json

    if output is not None:
        write_json(output, scores)
    as_json = output_format is TableFormat.json
    typer.echo(json.dumps(scores, ensure_ascii=False, indent=2) if as_json else score_table(scores))
