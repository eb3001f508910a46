"""The verbs of the `deft` command, each a thin layer over one public function.

Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

import deft
from deft.cli import bench, evaluate, index, lay, mapping, train
from deft.cli.common import quiet_libraries

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
    epilog="Example: deft index build --umls data/umls --language FRE",
    no_args_is_help=True,
)
lay_app = typer.Typer(
    help="What laypeople say: look at the vocabulary that comes with deft, check and add your own.",
    epilog="Example: deft lay export lay_fr.tsv",
    no_args_is_help=True,
)
review_app = typer.Typer(
    help="Let people decide: read a review sheet back.",
    epilog="Example: deft review apply review.xlsx --curated curated.tsv",
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
bench_app = typer.Typer(
    help="Measure encoders and indexes, and make releases of any size to measure with.",
    epilog="Example: deft bench encoders --model data/encoder",
    no_args_is_help=True,
)

for command in (
    train.inputs,
    train.prepare,
    train.finetune,
    train.pretrain,
    train.export,
    train.quantize,
    train.tune,
    train.encode,
):
    app.command()(command)
app.add_typer(index_app, name="index")
index_app.command("build")(index.index_build)
index_app.command("add")(index.index_add)
index_app.command("remove")(index.index_remove)
index_app.command("verify")(index.index_verify)
app.command("map", cls=mapping.TermCommand)(mapping.map_terms)
app.command("explain", cls=mapping.TermCommand)(mapping.explain_term)
app.add_typer(lay_app, name="lay")
lay_app.command("export")(lay.lay_export)
lay_app.command("check")(lay.lay_check)
lay_app.command("add")(lay.lay_add)
app.add_typer(review_app, name="review")
review_app.command("apply")(mapping.review_apply)
app.command("fit")(mapping.fit_model)
app.add_typer(evaluate_app, name="evaluate")
evaluate_app.command("mapping")(evaluate.evaluate_mapping)
evaluate_app.command("encoders")(evaluate.evaluate_encoders)
app.add_typer(score_app, name="score")
score_app.command("t1")(evaluate.score_t1)
score_app.command("t2")(evaluate.score_t2)
app.command()(evaluate.speed)
app.add_typer(bench_app, name="bench")
bench_app.command("encoders")(bench.bench_encoders)
bench_app.command("make-umls")(bench.bench_make_umls)
bench_app.command("index")(bench.bench_index)
app.command()(evaluate.report)


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
    if not debug:
        quiet_libraries()
