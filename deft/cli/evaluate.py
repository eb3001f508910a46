"""Score mappings and the DEFT 2020 tasks, measure speed, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from deft.cli.common import (
    EXPERIMENTS,
    Channel,
    ChannelName,
    Column,
    DataKind,
    ExpectedPresent,
    Format,
    Index,
    Kind,
    Model,
    Output,
    ParamsFile,
    Resamples,
    Seed,
    TableFormat,
    print_record,
    print_scores,
    split_pair,
)
from deft.errors import InputError


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
    channel: Channel = ChannelName.fused,
    compare: Annotated[
        str | None,
        typer.Option(help="Channels to compare with --channel on the same queries: dense,lexical,fused."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another index to compare with on the same queries.")
    ] = None,
    by: Annotated[
        list[str] | None, typer.Option(help="Score the values of this column of --gold apart. Repeatable.")
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column of --gold with the semantic group that answers must have.")
    ] = None,
    context_column: Annotated[
        str | None, typer.Option(help="Column of --gold with what stands beside each query.")
    ] = None,
    seen: Annotated[
        Path | None, typer.Option(help="Table of mentions that training saw: they are scored apart.")
    ] = None,
    seen_column: Annotated[
        str | None, typer.Option(help="Column of --seen; by default as --query-column.")
    ] = None,
    cluster_column: Annotated[
        str | None,
        typer.Option(
            help="Column of --gold whose values intervals resample, such as the document; by default they "
            "resample the distinct queries."
        ),
    ] = None,
    no_match: Annotated[
        bool,
        typer.Option("--no-match", help="Measure how well queries whose concept is missing are recognised."),
    ] = False,
    noise: Annotated[
        bool,
        typer.Option("--noise", help="Score the queries as people write them too: slips, cut words, damage."),
    ] = False,
    expected_present: ExpectedPresent = 0.7,
    errors: Annotated[
        Path | None, typer.Option(help="Write the queries whose first concept is wrong to this CSV.")
    ] = None,
    curve: Annotated[Path | None, typer.Option(help="Write recall@k for every k to this CSV.")] = None,
    bootstrap: Resamples = 1000,
    seed: Seed = 13,
) -> None:
    """Score a mapping: recall@1, 5, 8, 10, 64, MRR, and how far its confidence can be trusted.

    There is a score of all queries and one of those whose concept is in the index.

    Example: deft evaluate mapping --gold data/sample/lexicon.csv --index umls_index
    """
    from deft.evaluation.experiment import run_mapping
    from deft.evaluation.linking import write_misses
    from deft.evaluation.trial import MappingDetail
    from deft.files import atomic_write
    from deft.terminology.lexicon import read_gold, read_terms

    kept = dict(split_pair(item) for item in where or ())
    detail = MappingDetail(
        channel=channel.value,
        group_column=group_column,
        context_column=context_column or None,
        by=tuple(by or ()),
        cluster_column=cluster_column,
        seen=None if seen is None else read_terms(seen, seen_column or query_column),
        compare=tuple(cast("Any", compare.split(","))) if compare else (),
        against=against,
        no_match=no_match,
        noise=noise,
        expected_present=expected_present,
    )
    rows = read_gold(gold, query_column, cui_column, where=kept, columns=detail.columns)
    run = run_mapping(
        index, rows, detail, kind=kind.value, baseline=baseline, resamples=bootstrap, seed=seed, progress=True
    )
    if errors is not None:
        write_misses(errors, run.misses)
    if curve is not None:
        with atomic_write(curve) as stream:
            run.curve.to_csv(stream, index=False)
    print_scores(run.scores, output_format, output)


def evaluate_encoders(
    *,
    encoder: Annotated[
        list[str],
        typer.Option(
            help="NAME=FOLDER of an encoder bundle. Repeatable: the first is what others differ from."
        ),
    ],
    params: Annotated[Path, typer.Option(help="What they are evaluated on.")] = (
        EXPERIMENTS / "encoder" / "evaluation.yaml"
    ),
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Change a parameter. Repeatable.")
    ] = None,
    output: Output = None,
    bootstrap: Resamples = 1000,
    seed: Seed = 13,
) -> None:
    """Score encoders by meaning alone, side by side with character n-grams, on mappings and sentences.

    Example: deft evaluate encoders --encoder fp32=my-fp32 --encoder int8=data/encoder
    """
    from deft.config import read_block
    from deft.evaluation.encoder_quality import EncoderEvaluation
    from deft.evaluation.encoder_quality import evaluate_encoders as run
    from deft.files import write_json

    data = read_block(params, EncoderEvaluation, dict(split_pair(item) for item in changes or ()))
    folders = {name: Path(folder) for name, folder in map(split_pair, encoder)}
    scores = run(folders, data, resamples=bootstrap, seed=seed, progress=True)
    if output is not None:
        write_json(output, scores)
    print_record(scores)


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
        print_scores({"data": kind.value, "systems": {"predictions": scored}}, output_format, output)
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
    print_scores(run.scores, output_format, output)


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
        print_scores({"data": kind.value, "systems": {"predictions": scored}}, output_format, output)
        return
    run = run_t2(data, _required(model), kind=kind.value, resamples=bootstrap, seed=seed)
    if write_predictions is not None:
        write_choices(write_predictions, run.predictions)
    print_scores(run.scores, output_format, output)


def speed(
    *,
    encoder: Annotated[
        list[str],
        typer.Option(
            help="NAME=FOLDER of an encoder bundle, or a folder of bundles. Repeatable: they take turns."
        ),
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
    from deft.bench.speed import measure_bundles
    from deft.encoder.bundle import INFO
    from deft.files import write_json
    from deft.index.vectors import read_texts

    bundles: dict[str, Path] = {}
    for item in encoder:
        name, _, folder = item.partition("=")
        inner = {path.parent.name: path.parent for path in sorted(Path(folder or name).glob(f"*/{INFO}"))}
        bundles |= inner or {name: Path(folder or name)}
    results = measure_bundles(bundles, read_texts(texts, column)[:count], repeats=repeats)
    if output is not None:
        write_json(output, results)
    print_record(results)


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


def _required(model: Path | None) -> Path:
    if model is None:
        raise InputError("give --model or --predictions.")
    return model


def _only_predictions(model: Path | None, write_predictions: Path | None) -> None:
    if model is not None or write_predictions is not None:
        raise InputError("--predictions stands for --model and --write-predictions: leave those out.")
