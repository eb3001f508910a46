"""The `deft` command: one command a verb, each a thin layer over one public function.

Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

import deft
from deft.errors import DeftError, InputError

app = typer.Typer(
    name="deft",
    help="Map French medical terms, lay or technical, to UMLS concepts, and score the DEFT 2020 tasks.",
    epilog="A first try: [bold]make repro[/bold], then [bold]deft map 'crise cardiaque'[/bold].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
index_app = typer.Typer(
    help="Build and check an index of a Metathesaurus.",
    epilog="Example: deft index build --umls data/umls --encoder data/encoder",
    no_args_is_help=True,
)
evaluate_app = typer.Typer(
    help="Score mappings against gold.",
    epilog="Example: deft evaluate mapping --gold data/sample/lexicon.csv",
    no_args_is_help=True,
)
score_app = typer.Typer(
    help="Score the DEFT 2020 tasks, with an encoder or from a file of predictions.",
    epilog="Example: deft score t2 --data data/sample/t2-test.xml --model data/encoder",
    no_args_is_help=True,
)
app.add_typer(index_app, name="index")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(score_app, name="score")

EXPERIMENTS = Path("experiments")
PREPARED = EXPERIMENTS / "prepared"
MODELS = EXPERIMENTS / "models"


class TableFormat(StrEnum):
    """How scores are printed."""

    table = "table"
    json = "json"


class MapFormat(StrEnum):
    """How mappings are printed."""

    table = "table"
    tsv = "tsv"
    jsonl = "jsonl"


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
Model = Annotated[Path | None, typer.Option(help="Encoder bundle.")]
DataKind = Annotated[
    Kind, typer.Option("--data-kind", help="What the scored file is: the leaderboard keeps the kinds apart.")
]
Resamples = Annotated[int, typer.Option(min=100, help="Bootstrap resamples behind each 95 % interval.")]
Seed = Annotated[int, typer.Option(help="Seed of the bootstrap.")]
Column = Annotated[str, typer.Option(help="Column of the texts.")]
Values = list[str] | None


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(deft.__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and every log message.")] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s: %(message)s", stream=sys.stderr)


@app.command()
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

    _print_record(asdict(run(Params.read(params).prepare, out, progress=True)))


@app.command()
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

    _print_record(asdict(run(prepared, out, Params.read(params).finetune, progress=True)))


@app.command()
def pretrain(
    *,
    params: Annotated[Path, typer.Option(help="Parameter file of the recipe.")] = (
        EXPERIMENTS / "encoder" / "params.yaml"
    ),
    work: Annotated[Path, typer.Option(help="Folder for checkpoints and what is slow to make again.")] = (
        EXPERIMENTS / "encoder" / "work"
    ),
    out: Annotated[Path, typer.Option(help="Model folder to write.")] = Path("data/encoder"),
) -> None:
    """Make the base encoder from an English teacher, French text, translations and names of concepts.

    It takes hours on a laptop.

    Example: deft pretrain --params experiments/encoder/params.yaml --out data/encoder
    """
    from deft.config import read_block
    from deft.encoder.recipe import RecipeParams
    from deft.encoder.recipe import pretrain as run

    logging.getLogger("deft").setLevel(logging.INFO)
    run(read_block(params, RecipeParams), work, out, progress=True)


@app.command()
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
    _print_record(
        {
            "dimension": info.dimension,
            "max_length": info.max_length,
            "precision": info.precision,
            "sha256": info.sha256,
        }
    )


@app.command()
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
    _print_record(comparison)


@app.command()
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
    _print_record(
        {
            "strings": len(stored.strings),
            "dimension": int(stored.vectors.shape[1]),
            "encoder": stored.fingerprint,
        }
    )


@index_app.command("build")
def index_build(
    *,
    encoder: Annotated[Path, typer.Option(help="Encoder bundle.")],
    umls: Annotated[
        Path | None,
        typer.Option(help="Folder with MRCONSO.RRF and MRSTY.RRF, in it or in its META; plain or .gz."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the index; replaced once the new index is complete.")
    ] = Path("umls_index"),
    language: Annotated[
        Values, typer.Option(help="Keep this language (FRE, ENG ...). May be repeated; default: all.")
    ] = None,
    source: Annotated[
        Values, typer.Option(help="Keep this source (SAB). May be repeated; default: all.")
    ] = None,
    term_type: Annotated[
        Values, typer.Option(help="Keep this term type (TTY). May be repeated; default: all.")
    ] = None,
    semantic_type: Annotated[
        Values, typer.Option(help="Keep this semantic type (TUI). May be repeated; default: all.")
    ] = None,
    semantic_group: Annotated[
        Values, typer.Option(help="Keep this semantic group (DISO, ANAT ...). May be repeated.")
    ] = None,
    suppressed: Annotated[bool, typer.Option("--suppressed", help="Keep suppressible atoms too.")] = False,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vectors that `deft encode` wrote: strings in it are not embedded again."),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="Take the filters, and --umls if not given, from the block `prepare` of this file."
        ),
    ] = None,
) -> None:
    """Build an index: every distinct string of the Metathesaurus is embedded once.

    Example: deft index build --umls data/umls --encoder data/encoder --out umls_index --language FRE
    """
    from deft.config import Params
    from deft.index.build import build_index
    from deft.terminology.rrf import AtomFilter

    keep = AtomFilter(
        languages=tuple(language or ()),
        sources=tuple(source or ()),
        term_types=tuple(term_type or ()),
        semantic_types=tuple(semantic_type or ()),
        semantic_groups=tuple(semantic_group or ()),
        suppressed=suppressed,
    )
    if params is not None:
        if keep != AtomFilter():
            raise InputError("the filters come from --params or from options, not from both.")
        block = Params.read(params).prepare
        umls, keep = umls or block.umls, block.atom_filter()
    if umls is None:
        raise InputError("give --umls or --params.")
    _print_record(build_index(umls, encoder, out, keep, vectors=vectors, progress=True).rows)


@index_app.command("verify")
def index_verify(index: Annotated[Path, typer.Argument(help="Folder of the index.")]) -> None:
    """Check that an index is whole: every file against its checksum.

    Example: deft index verify umls_index
    """
    from deft.index.manifest import Manifest

    Manifest.read(index).verify(index)
    typer.echo("The index is whole.")


@app.command("map")
def map_terms(
    terms: Annotated[
        Values, typer.Argument(help="Terms to map, each in quotes if it has spaces.", metavar="TERM...")
    ] = None,
    *,
    index: Index = Path("umls_index"),
    top_k: Annotated[int, typer.Option(min=1, help="Concepts a term.")] = 5,
    threshold: Annotated[
        float | None, typer.Option(min=-1.0, max=1.0, help="Smallest score of a candidate.")
    ] = None,
    output_format: Annotated[
        MapFormat | None, typer.Option("--format", help="Default: table for terms, tsv for a file.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--input", help="Table (CSV or TSV) of terms instead of TERM...")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the terms in --input.")] = "Terme",
    output: Annotated[Path | None, typer.Option(help="File to write instead of standard output.")] = None,
) -> None:
    """Map terms to concepts, the nearest first.

    Example: deft map "crise cardiaque" "vision double" --index umls_index

    Example: deft map --input lexicon.csv --column Terme --index umls_index --output mapping.tsv
    """
    from deft.mapping.mapper import TermMapper
    from deft.mapping.writers import write_mappings
    from deft.terminology.lexicon import read_terms
    from deft.text import clean

    if bool(terms) == (source is not None):
        raise InputError(
            "give terms or --input, one of the two.", remedy='For example: deft map "vision double"'
        )
    queries = [clean(term) for term in terms or ()] if source is None else read_terms(source, column)
    mapper = TermMapper.open(index)
    mappings = mapper.map(queries, k=top_k, threshold=threshold, progress=source is not None)
    chosen = output_format or (MapFormat.table if source is None else MapFormat.tsv)
    write_mappings(mappings, chosen.value, output)


@evaluate_app.command("mapping")
def evaluate_mapping(
    *,
    gold: Annotated[Path, typer.Option(help="Table of queries and CUIs (several CUIs separated by ;).")],
    index: Index = Path("umls_index"),
    query_column: Annotated[str, typer.Option(help="Column of the queries.")] = "Terme",
    cui_column: Annotated[str, typer.Option(help="Column of the CUIs.")] = "CUI",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Keep these rows of --gold. May be repeated."),
    ] = None,
    output_format: Format = TableFormat.table,
    baseline: Annotated[bool, typer.Option(help="Score character n-grams in the same run.")] = True,
    kind: DataKind = Kind.unspecified,
    output: Output = None,
    errors: Annotated[
        Path | None, typer.Option(help="Write the queries whose first concept is wrong to this CSV.")
    ] = None,
    curve: Annotated[Path | None, typer.Option(help="Write recall@k for every k to this CSV.")] = None,
    bootstrap: Resamples = 1000,
    seed: Seed = 13,
) -> None:
    """Score a mapping: recall@1, 5, 10, 64 and MRR.

    There is a score of all queries and one of those whose concept is in the index.

    Example: deft evaluate mapping --gold data/sample/lexicon.csv --index umls_index
    """
    from deft.evaluation.experiment import run_mapping
    from deft.evaluation.linking import write_misses
    from deft.files import atomic_write
    from deft.terminology.lexicon import read_gold

    kept = dict(_split_pair(item) for item in where or ())
    rows = read_gold(gold, query_column, cui_column, where=kept)
    run = run_mapping(
        index, rows, kind=kind.value, baseline=baseline, resamples=bootstrap, seed=seed, progress=True
    )
    if errors is not None:
        write_misses(errors, run.misses)
    if curve is not None:
        with atomic_write(curve) as stream:
            run.curve.to_csv(stream, index=False)
    _print_scores(run.scores, output_format, output)


@score_app.command("t1")
def score_t1(
    *,
    data: Annotated[Path, typer.Option(help="Task 1 file (XML) with gold.")],
    model: Model = None,
    train: Annotated[
        Path | None, typer.Option(help="Training part (XML) that the grade model is fitted on.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="TSV of identifier and grade, instead of --model.")
    ] = None,
    write_predictions: Annotated[Path | None, typer.Option(help="Write our grades to this TSV.")] = None,
    save_grade_model: Annotated[
        bool, typer.Option("--save-grade-model", help="Keep the fitted grade model in the model folder.")
    ] = False,
    output_format: Format = TableFormat.table,
    kind: DataKind = Kind.unspecified,
    output: Output = None,
    bootstrap: Resamples = 1000,
    seed: Seed = 13,
) -> None:
    """Score task 1: EDRM in both published readings, and Spearman.

    The grade of a pair is a regression on the encoder's cosine and a few lexical similarities, fitted on
    --train; without --train, the one that the model folder keeps, else the grade is five times the cosine.

    Example: deft score t1 --data data/sample/t1-test.xml --train data/sample/t1-train.xml --model
    data/encoder
    """
    from deft.corpora.deft2020 import write_grades
    from deft.evaluation.experiment import run_t1, score_predictions

    if predictions is not None:
        _only_predictions(model, write_predictions)
        scored = score_predictions("t1", data, predictions, resamples=bootstrap, seed=seed)
        _print_scores({"data": kind.value, "systems": {"predictions": scored}}, output_format, output)
        return
    run = run_t1(
        data,
        _required(model),
        train=train,
        keep_grade_model=save_grade_model,
        kind=kind.value,
        resamples=bootstrap,
        seed=seed,
    )
    if write_predictions is not None:
        write_grades(write_predictions, run.predictions)
    _print_scores(run.scores, output_format, output)


@score_app.command("t2")
def score_t2(
    *,
    data: Annotated[Path, typer.Option(help="Task 2 file (XML) with gold.")],
    model: Model = None,
    predictions: Annotated[
        Path | None, typer.Option(help="TSV of identifier and sentence number, instead of --model.")
    ] = None,
    write_predictions: Annotated[Path | None, typer.Option(help="Write our choices to this TSV.")] = None,
    output_format: Format = TableFormat.table,
    kind: DataKind = Kind.unspecified,
    output: Output = None,
    bootstrap: Resamples = 1000,
    seed: Seed = 13,
) -> None:
    """Score task 2: MAP of the ranking of the three sentences, and accuracy of the first.

    Example: deft score t2 --data data/sample/t2-test.xml --model data/encoder
    """
    from deft.corpora.deft2020 import write_choices
    from deft.evaluation.experiment import run_t2, score_predictions

    if predictions is not None:
        _only_predictions(model, write_predictions)
        scored = score_predictions("t2", data, predictions, resamples=bootstrap, seed=seed)
        _print_scores({"data": kind.value, "systems": {"predictions": scored}}, output_format, output)
        return
    run = run_t2(data, _required(model), kind=kind.value, resamples=bootstrap, seed=seed)
    if write_predictions is not None:
        write_choices(write_predictions, run.predictions)
    _print_scores(run.scores, output_format, output)


@app.command()
def speed(
    *,
    encoder: Annotated[
        list[str], typer.Option(help="NAME=FOLDER of an encoder bundle. May be repeated: they take turns.")
    ],
    texts: Annotated[Path, typer.Option("--input", help="Table (CSV, TSV or Parquet) of texts.")],
    column: Column = "string",
    count: Annotated[int, typer.Option(min=1, help="Number of texts.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Timed rounds.")] = 3,
    output: Output = None,
) -> None:
    """Measure encoders: texts a second, size of the graph, peak memory of a fresh process.

    Example: deft speed --encoder int8=data/encoder --input data/sample/lexicon.csv --column Terme
    """
    from deft.evaluation.speed import measure
    from deft.files import write_json
    from deft.index.vectors import read_texts

    bundles = {}
    for item in encoder:
        name, _, folder = item.partition("=")
        bundles[name] = Path(folder or name)
    results = measure(bundles, read_texts(texts, column)[:count], repeats=repeats)
    if output is not None:
        write_json(output, results)
    _print_record(results)


@app.command()
def report(
    *,
    folder: Annotated[Path, typer.Option(help="Folder with the metrics of the run.")] = EXPERIMENTS,
    params: ParamsFile = Path("params.yaml"),
    published: Annotated[Path, typer.Option(help="Published results, with their sources.")] = (
        EXPERIMENTS / "published.csv"
    ),
    out: Annotated[Path, typer.Option(help="HTML page to write.")] = EXPERIMENTS / "report.html",
) -> None:
    """Put our scores beside the published ones and draw the report, one self-contained page.

    Example: deft report --folder experiments --out experiments/report.html
    """
    from deft.evaluation.leaderboard import update_leaderboard
    from deft.evaluation.report import ReportInputs, build_report

    update_leaderboard(published, folder)
    build_report(ReportInputs.in_folder(folder, params=params), out)
    typer.echo(out)


def main() -> None:
    """Run the command; an error that a person can act on becomes one sentence and an exit code.

    The code is 2 for bad input, 1 for a failed gate.
    """
    try:
        app()
    except (DeftError, OSError, ModuleNotFoundError) as error:
        if "--debug" in sys.argv:
            raise
        typer.echo(f"deft: {_explain(error)}", err=True)
        sys.exit(error.exit_code if isinstance(error, DeftError) else InputError.exit_code)


def _explain(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"this needs {error.name}, which is not installed. Install it with: pip install 'deft[train]'"
    return str(error)


def _required(model: Path | None) -> Path:
    if model is None:
        raise InputError("give --model or --predictions.")
    return model


def _only_predictions(model: Path | None, write_predictions: Path | None) -> None:
    if model is not None or write_predictions is not None:
        raise InputError("--predictions stands for --model and --write-predictions: leave those out.")


def _split_pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InputError(f"expected NAME=VALUE, found {text!r}.")
    return name, value


def _print_record(record: dict[str, Any]) -> None:
    typer.echo(json.dumps(record, ensure_ascii=False, indent=2, default=str))


def _print_scores(scores: dict[str, Any], output_format: TableFormat, output: Path | None) -> None:
    from deft.evaluation.tables import score_table
    from deft.files import write_json

    if output is not None:
        write_json(output, scores)
    as_json = output_format is TableFormat.json
    typer.echo(json.dumps(scores, ensure_ascii=False, indent=2) if as_json else score_table(scores))


if __name__ == "__main__":
    main()
