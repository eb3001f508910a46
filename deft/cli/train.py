"""Make an encoder: prepare, fine-tune or pretrain, export, quantize, encode."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deft.cli.common import (
    EXPERIMENTS,
    MODELS,
    PREPARED,
    Column,
    ParamsFile,
    command_line,
    print_made,
    print_places,
    print_record,
    split_pair,
)


def inputs(
    *,
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder to write: a JSON file a stage.")] = EXPERIMENTS / "inputs",
) -> None:
    """Write the checksums of inputs of which there may be several or none, so that a pipeline can watch them.

    Example: deft inputs --params params.yaml
    """
    from deft.config import Params
    from deft.training.watched import write_checksums

    write_checksums(Params.read(params), out)


def prepare(
    *,
    params: ParamsFile = Path("params.yaml"),
    out: Annotated[Path, typer.Option(help="Folder to write.")] = PREPARED,
) -> None:
    """Read the Metathesaurus and the graded pairs, and write what the encoder is trained on.

    Example: deft prepare --params params.yaml
    """
    from deft.config import Params
    from deft.training.prepare import prepare as run

    print_made(asdict(run(Params.read(params).prepare, out, progress=True)), out)


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
    from deft.training.finetune import finetune as run

    print_made(asdict(run(prepared, out, Params.read(params).finetune, progress=True)), out)


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
    from deft.recipe.params import RecipeParams
    from deft.recipe.recipe import pretrain as run

    logging.getLogger("deft").setLevel(logging.INFO)
    block = read_block(params, RecipeParams, dict(split_pair(item) for item in changes or ()))
    run(block, work, out, progress=True)
    print_places(out)


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
    from deft.training.export import export as run

    block = Params.read(params).export if params.exists() else ExportParams()
    info = run(model, out, block)
    names = ("dimension", "max_length", "precision", "base", "licence", "sha256")
    print_made({name: getattr(info, name) for name in names}, out)


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
    from deft.compress.gate import quantize_and_compare
    from deft.config import Params

    comparison = quantize_and_compare(Params.read(params), fp32, model, prepared, out, output, progress=True)
    print_made(comparison, out, output)


def tune(
    *,
    encoder: Annotated[
        Path | None, typer.Option(help="Encoder bundle to tune; its default settings are what trials beat.")
    ] = None,
    candidate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=BUNDLE", help="Try this bundle of the same model too. May be repeated."),
    ] = None,
    fp32: Annotated[
        Path | None,
        typer.Option(help="fp32 bundle: the reference, and quantized anew with each engine and granularity."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="With --fp32: the sentence-transformers folder, for the engine that needs it."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Bundle whose vectors count as right; by default --fp32, else the first bundle."),
    ] = None,
    source: Annotated[
        Path, typer.Option("--input", help="Table (CSV, TSV or Parquet) of texts like those to come.")
    ],
    column: Column = "string",
    count: Annotated[int, typer.Option(min=1, help="Number of texts, the first of the table.")] = 512,
    trials: Annotated[int, typer.Option(min=1, help="Trials; those of a run that was stopped count.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, help="Times that each trial and the default are timed.")] = 3,
    mean_cosine: Annotated[
        float, typer.Option(max=1, help="Mean cosine to the reference that a trial must reach.")
    ] = 0.99,
    least_cosine: Annotated[
        float, typer.Option(max=1, help="Cosine to the reference that every text must reach.")
    ] = 0.9,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads at most; by default one a processor.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle to write; by default --encoder gets its settings. Needed with candidates."),
    ] = None,
    work: Annotated[
        Path, typer.Option(help="Folder of the trials: table, page, and what a stopped run goes on from.")
    ] = EXPERIMENTS / "tune",
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 13,
) -> None:
    """Search how an encoder runs fastest on this machine, and store that with the model.

    Trials vary execution provider, graph optimization, threads, blocks and, where several are given, bundles.
    One whose vectors are far from the reference never wins. `runtime.json` keeps the result by what the
    processor offers (avx512_vnni, avx2, plain); vectors and fingerprint stay what they are.

    Example: deft tune --encoder data/encoder --input data/sample/lexicon.csv --column Terme
    """
    from deft.bench import tune as search
    from deft.bench.page import write_tuning
    from deft.errors import InputError
    from deft.index.vectors import read_texts

    bundles = {} if encoder is None else {"encoder": encoder}
    bundles |= {name: Path(folder) for name, folder in map(split_pair, candidate or ())}
    if fp32 is not None:
        bundles |= search.candidates(fp32, work / "candidates", model=model)
    if not bundles:
        raise InputError("give a bundle to tune.", remedy="For example: --encoder data/encoder.")
    if out is None and (encoder is None or len(bundles) > 1):
        raise InputError(
            "several bundles were given, and no folder for the best.", remedy="Name it by --out."
        )
    params = search.TuneParams(trials, repeats, mean_cosine, least_cosine, threads, seed)
    texts = read_texts(source, column)[:count]
    tuned = search.tune(bundles, texts, work, params, reference=reference or fp32, progress=True)
    search.store(tuned, bundles[tuned.bundle], out or bundles[tuned.bundle])
    write_tuning(tuned, work / "tune.html", command=command_line())
    print_record({name: value for name, value in asdict(tuned).items() if name != "trials"})


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
    record = {"strings": len(stored.strings), "dimension": int(stored.vectors.shape[1])}
    print_made(record | {"encoder": stored.fingerprint}, out)
