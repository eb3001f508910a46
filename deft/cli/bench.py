"""Benchmarks: encoders side by side, made-up releases, and what an index costs as it grows."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deft.cli.common import EXPERIMENTS, Encoder, Values, command_line, print_record, split_pair

SAMPLE = Path("data/sample")
BENCH = EXPERIMENTS / "bench"

Vocabulary = Annotated[
    Path, typer.Option(help="Metathesaurus whose French and English words the strings are made of.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of a system; by default one a processor.")]
Seed = Annotated[int, typer.Option(help="Seed of what is drawn.")]
Out = Annotated[Path, typer.Option(help="Folder that gets the results as JSON and the page with the plots.")]


def bench_encoders(
    *,
    model: Annotated[
        Path, typer.Option(help="Model folder with PyTorch weights; it is exported and quantized anew.")
    ] = Path("data/encoder"),
    shape: Annotated[
        Values, typer.Option(help="Measure this shape too, with random weights: camembert-base. Repeatable.")
    ] = None,
    lay: Annotated[Path, typer.Option(help="Table of lay terms and their CUIs.")] = SAMPLE / "lexicon.csv",
    lay_column: Annotated[str, typer.Option(help="Column of the lay terms.")] = "Terme",
    cui_column: Annotated[str, typer.Option(help="Column of their CUIs.")] = "CUI",
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Keep these rows of --lay. May be repeated."),
    ] = None,
    umls: Annotated[Path, typer.Option(help="Metathesaurus that strings are drawn from.")] = SAMPLE / "umls",
    sentences: Annotated[Path, typer.Option(help="Task 1 file (XML) that sentences are drawn from.")] = (
        SAMPLE / "t1-test.xml"
    ),
    count: Annotated[int, typer.Option(min=1, help="Texts of a workload.")] = 256,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; each measures every system once.")] = 3,
    seconds: Annotated[float, typer.Option(min=0.01, help="Least time of a warm measurement.")] = 1.0,
    names: Annotated[
        int, typer.Option(min=0, help="Strings of other concepts that recall@1 is measured among.")
    ] = 2000,
    threads: Threads = None,
    out: Out = BENCH,
    seed: Seed = 13,
) -> None:
    """Measure the published loop, sentence-transformers and ours on the same texts, in turn.

    Speed, time of the whole process, peak memory, size, quality, and the hardware's limit.

    Example: deft bench encoders --model data/encoder --shape camembert-base --count 128
    """
    from deft.bench import encoders, page
    from deft.files import write_json

    params = encoders.BenchParams(
        count=count, rounds=rounds, seconds=seconds, threads=threads, names=names, seed=seed
    )
    data = encoders.BenchData.read(
        lay,
        umls,
        sentences,
        params,
        lay_column=lay_column,
        cui_column=cui_column,
        where=dict(split_pair(item) for item in where or ()),
    )
    results = encoders.bench_encoders(model, data, params, shapes=shape or (), progress=True)
    write_json(out / "encoders.json", {"command": command_line()} | results)
    page.write_page(results, out / "encoders.html", command=command_line())
    typer.echo(page.encoder_table(results))


def bench_make_umls(
    *,
    strings: Annotated[int, typer.Option(min=1, help="Number of distinct strings.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    vocabulary: Vocabulary = SAMPLE / "umls",
    gzip: Annotated[bool, typer.Option("--gzip", help="Write .gz files.")] = False,
    seed: Seed = 13,
) -> None:
    """Write a made-up Metathesaurus in the true format: MRCONSO, MRSTY and MRDEF.

    Example: deft bench make-umls --strings 4000000 --out made_umls
    """
    from deft.bench.make_umls import make_umls

    made = make_umls(strings, out, vocabulary=vocabulary, compressed=gzip, seed=seed, progress=True)
    print_record(asdict(made))


def bench_index(
    *,
    encoder: Encoder = Path("shipped"),
    size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Number of strings. Repeatable; default: 100 thousand, 1 and 4 million."),
    ] = None,
    vocabulary: Vocabulary = SAMPLE / "umls",
    queries: Annotated[int, typer.Option(min=1, help="Single queries after the first.")] = 1000,
    embedded: Annotated[int, typer.Option(min=1, help="Strings that embedding is timed on.")] = 20_000,
    projected: Annotated[int, typer.Option(min=1, help="Size that the cost is projected to.")] = 15_000_000,
    threads: Threads = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder with room for the releases and indexes.", exists=True)
    ] = None,
    out: Out = BENCH,
    seed: Seed = 13,
) -> None:
    """Measure parsing, embedding, building, opening and asking an index of each size.

    Results are written after each size. Sizes that were measured before with the same encoder, settings,
    machine and versions stay in them.

    Example: deft bench index --size 100000 --size 1000000 --size 4000000
    """
    from deft.bench import index, page
    from deft.files import read_json, write_json

    path = out / "index.json"
    params = index.IndexBenchParams(
        queries=queries, embedded=embedded, projected=projected, threads=threads, seed=seed
    )
    known = read_json(path) if path.exists() else None
    sizes = size or [100_000, 1_000_000, 4_000_000]
    for results in index.bench_index(
        encoder, vocabulary, sizes, params, work=work, known=known, progress=True
    ):
        write_json(path, {"command": command_line()} | results)
        page.write_page(results, out / "index.html", command=command_line())
    typer.echo(page.index_table(results))
