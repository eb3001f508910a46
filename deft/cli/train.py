"""Make an encoder: prepare, fine-tune or pretrain, export, quantize, encode."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deft.cli.common import EXPERIMENTS, MODELS, PREPARED, Column, ParamsFile, print_record, split_pair


def prepare(
    *,
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder to write.")] = PREPARED,
) -> None:
    """Read the Metathesaurus and the graded pairs, and write what the encoder is trained on.

    Example: deft prepare --params params.yaml
    """
    from deft.config import Params
    from deft.encoder.prepare import prepare as run

    print_record(asdict(run(Params.read(params).prepare, out, progress=True)))


def finetune(
    *,
    params: ParamsFile = Path("params.yaml"),
    prepared: Annotated[Path, typer.Option(help="Folder that `deft prepare` wrote.")] = PREPARED,
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = MODELS / "finetuned",
) -> None:
    """Fine-tune the encoder on synonyms and graded pairs; a killed run goes on from its last checkpoint.

    Example: deft finetune --params params.yaml
    """
    from deft.config import Params
    from deft.encoder.finetune import finetune as run

    print_record(asdict(run(prepared, out, Params.read(params).finetune, progress=True)))


def pretrain(
    *,
    params: Annotated[Path, typer.Option(help="Parameter file of the recipe.")] = (
        EXPERIMENTS / "encoder" / "params.yaml"
    ),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints and what is slow to make again.")] = (
        EXPERIMENTS / "encoder" / "work"
    ),
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("data/encoder"),
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="Change a parameter: training.steps=150. Repeatable."
        ),
    ] = None,
) -> None:
    """Make the base encoder from an English teacher, French text, translations and names of concepts.

    It takes hours on a laptop.

    Example: deft pretrain --params experiments/encoder/params.yaml --out data/encoder
    """
    from deft.config import read_block
    from deft.encoder.recipe import RecipeParams
    from deft.encoder.recipe import pretrain as run

    logging.getLogger("deft").setLevel(logging.INFO)
    block = read_block(params, RecipeParams, dict(split_pair(item) for item in changes or ()))
    run(block, work, out, progress=True)


def export(
    *,
    params: ParamsFile = Path("params.yaml"),
    model: Annotated[Path, typer.Option(help="sentence-transformers folder.")] = MODELS / "finetuned",
    out: Annotated[Path, typer.Option(help="Encoder bundle to write.")] = MODELS / "fp32",
) -> None:
    """Export an encoder to ONNX, pooling and normalisation in the graph, and check it against PyTorch.

    Example: deft export --model data/encoder --out my-encoder
    """
    from deft.config import ExportParams, Params
    from deft.encoder.export import export as run

    block = Params.read(params).export if params.exists() else ExportParams()
    info = run(model, out, block)
    print_record(
        {
            "dimension": info.dimension,
            "max_length": info.max_length,
            "precision": info.precision,
            "sha256": info.sha256,
        }
    )


def quantize(
    *,
    params: ParamsFile = Path("params.yaml"),
    fp32: Annotated[Path, typer.Option(help="Encoder bundle that `deft export` wrote.")] = MODELS / "fp32",
    model: Annotated[Path, typer.Option(help="The sentence-transformers folder it was exported from.")] = (
        MODELS / "finetuned"
    ),
    prepared: Annotated[Path, typer.Option(help="Folder that `deft prepare` wrote.")] = PREPARED,
    out: Annotated[Path, typer.Option(help="Folder to write: a bundle an engine in it.")] = MODELS / "int8",
    output: Annotated[Path, typer.Option(help="JSON file of the comparison.")] = (
        EXPERIMENTS / "quantization.json"
    ),
) -> None:
    """Quantize an encoder to int8 with each engine and compare it with fp32.

    The exit code is 1 if the chosen engine loses more than the tolerance on some metric.

    Example: deft quantize --params params.yaml
    """
    from deft.config import Params
    from deft.evaluation.precision import quantize_and_compare

    comparison = quantize_and_compare(Params.read(params), fp32, model, prepared, out, output, progress=True)
    print_record(comparison)


def encode(
    *,
    source: Annotated[Path, typer.Option("--input", help="Table (CSV, TSV or Parquet) of texts.")],
    encoder: Annotated[Path, typer.Option(help="Encoder bundle.")],
    out: Annotated[Path, typer.Option(help="Folder of vectors to write.")],
    column: Column = "string",
) -> None:
    """Embed the distinct texts of a column; `deft index build --vectors` uses the result.

    Example: deft encode --input lexicon.csv --column Terme --encoder data/encoder --out vectors
    """
    from deft.encoder.runtime import Encoder
    from deft.index.vectors import encode_to_folder, read_texts

    texts = read_texts(source, column)
    stored = encode_to_folder(texts, Encoder.open(encoder), out, progress=True)
    print_record(
        {
            "strings": len(stored.strings),
            "dimension": int(stored.vectors.shape[1]),
            "encoder": stored.fingerprint,
        }
    )
