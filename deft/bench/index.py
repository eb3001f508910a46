"""What an index costs as it grows: time, memory, disk and answers, on made-up releases of several sizes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from deft.bench.machine import MIB, hardware, versions
from deft.bench.make_umls import made_strings, make_umls
from deft.bench.process import measure
from deft.encoder.settings import usable_cores
from deft.errors import InputError
from deft.progress import Progress

# What grows with the index, and is projected to a size that was not measured.
GROWING = (
    "build_seconds",
    "build_peak_memory_mib",
    "disk_mib",
    "open_seconds",
    "first_query_milliseconds",
    "query_p50_milliseconds",
    "query_p99_milliseconds",
    "query_memory_mib",
)

_NEAREST = 10
_HERE = "deft.bench.index"


@dataclass(frozen=True)
class IndexBenchParams:
    """How an index is measured.

    Attributes
    ----------
    queries
        Single queries after the first; they are made-up strings too, most of which are not in the index.
    embedded
        Strings that the speed of embedding is measured on.
    compared
        Queries whose ten nearest strings are compared with those of an exact search.
    projected
        Size, in strings, that the cost is projected to.
    threads
        Threads of the encoder; the number of processors that this process may use if None.
    seed
        Of the made-up strings.
    """

    queries: int = 1000
    embedded: int = 20_000
    compared: int = 200
    projected: int = 15_000_000
    threads: int | None = None
    seed: int = 13


def bench_index(
    encoder: Path,
    vocabulary: Path,
    sizes: Sequence[int],
    params: IndexBenchParams | None = None,
    *,
    work: Path | None = None,
    known: Mapping[str, Any] | None = None,
    progress: bool = False,
) -> Iterator[dict[str, Any]]:
    """Build and query an index of each size; yield all results so far after each.

    Every step is a process of its own, on a disk that is warm from the step before.

    Parameters
    ----------
    encoder
        Encoder bundle.
    vocabulary
        Folder of the Metathesaurus whose words the made-up strings are made of.
    sizes
        Numbers of distinct strings.
    params
        How it is measured.
    work
        Folder with room for the release and the index; the system's temporary one by default.
    known
        Results of an earlier call: sizes measured with the same encoder, parameters, machine and versions
        stay.
    progress
        Show progress on standard error.

    Yields
    ------
    dict
        ``points`` (by size, ascending), ``projection`` (a straight line through the points), ``encoder``,
        ``params``, ``hardware`` and ``versions``.

    Raises
    ------
    InputError
        A size is less than 1, or the encoder or the vocabulary is not what it should be.
    DeftError
        A process failed.
    """
    from deft.encoder.bundle import read_info

    params = params or IndexBenchParams()
    if not sizes or min(sizes) < 1:
        raise InputError("give one or more sizes of 1 or more.")
    about = {
        "encoder": read_info(encoder).fingerprint,
        "params": asdict(params) | {"threads": params.threads or usable_cores()},
        "hardware": hardware(),
        "versions": versions(),
    }
    same = known is not None and all(known.get(name) == value for name, value in about.items())
    points = {point["strings"]: point for point in known["points"]} if known is not None and same else {}
    for size in Progress(sorted(set(sizes)), disable=not progress, unit="size", desc="bench"):
        with TemporaryDirectory(prefix="deft-bench-", dir=work) as folder:
            points[size] = _point(size, encoder, vocabulary, params, Path(folder))
        ordered = [points[each] for each in sorted(points)]
        yield {"points": ordered, "projection": project(ordered, params.projected)} | about


def project(points: Sequence[Mapping[str, Any]], strings: int) -> dict[str, Any] | None:
    """Fit a straight line through the measured points and return its value at a size; None for one point.

    Returns
    -------
    ``strings``, ``method``, and ``values``: by quantity, ``slope`` (per million strings), ``intercept`` and
    ``value``.
    """
    if len(points) < 2:
        return None
    sizes = np.array([point["strings"] for point in points]) / 1e6
    values = {}
    for name in GROWING:
        slope, intercept = np.polyfit(sizes, [point[name] for point in points], 1)
        values[name] = {
            "slope": float(f"{slope:.4g}"),
            "intercept": float(f"{intercept:.4g}"),
            "value": float(f"{intercept + slope * strings / 1e6:.4g}"),
        }
    method = f"least squares, a straight line through {len(points)} measured points; not measured itself"
    return {"strings": strings, "method": method, "values": values}


def _point(
    size: int, encoder: Path, vocabulary: Path, params: IndexBenchParams, work: Path
) -> dict[str, Any]:
    umls, index = work / "umls", work / "index"
    made = make_umls(size, umls, vocabulary=vocabulary, seed=params.seed)
    threads = params.threads or usable_cores()

    def run(task: Callable[..., object], **request: Any) -> tuple[dict[str, Any], float]:  # noqa: ANN401
        measured = measure(f"{_HERE}:{task.__name__}", request, threads=threads)
        return measured.answer, measured.peak_memory / MIB

    parsed, _ = run(parse, umls=str(umls))
    texts = made_strings(min(size, params.embedded), vocabulary, seed=params.seed)
    embedded, _ = run(embed, encoder=str(encoder), texts=texts, threads=threads)
    built, build_memory = run(build, umls=str(umls), encoder=str(encoder), out=str(index))
    queries = made_strings(params.queries + 1, vocabulary, seed=params.seed + 1)
    answered, _ = run(query, index=str(index), queries=queries, threads=threads)
    compared, _ = run(compare, index=str(index), queries=queries[: params.compared], threads=threads)
    disk = sum(path.stat().st_size for path in index.rglob("*") if path.is_file())
    return {
        "strings": size,
        "atoms": made.atoms,
        "concepts": made.concepts,
        "made_strings_per_second": round(size / made.seconds),
        "parse_atoms_per_second": round(parsed["atoms"] / parsed["seconds"]),
        "table_atoms_per_second": round(parsed["atoms"] / parsed["table_seconds"]),
        "embed_strings_per_second": round(len(texts) / embedded["seconds"], 1),
        "build_seconds": round(built["seconds"], 2),
        "build_peak_memory_mib": round(build_memory, 1),
        "kind": built["kind"],
        "search": built["search"],
        "disk_mib": round(disk / MIB, 2),
        **answered,
        **compared,
    }


def parse(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Read the atoms of a release; then make the tables of it."""
    from deft.terminology.rrf import AtomFilter, stream_atoms
    from deft.terminology.table_maker import read_concepts

    ready()
    start = time.perf_counter()
    atoms = sum(batch.num_rows for batch in stream_atoms(Path(request["umls"])))
    parsed = time.perf_counter()
    read_concepts(Path(request["umls"]), AtomFilter())
    return {"atoms": atoms, "seconds": parsed - start, "table_seconds": time.perf_counter() - parsed}


def embed(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Encode strings, after a few that warm up."""
    from deft.encoder.runtime import Encoder

    encoder = Encoder.open(Path(request["encoder"]), threads=request["threads"])
    encoder.encode(request["texts"][:64])
    ready()
    start = time.perf_counter()
    encoder.encode(request["texts"])
    return {"seconds": time.perf_counter() - start}


def build(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Build an index."""
    from deft.index.build import build_index

    ready()
    start = time.perf_counter()
    manifest = build_index(request["umls"], request["encoder"], request["out"], lay=None)
    return {"seconds": time.perf_counter() - start, "kind": manifest.kind, "search": manifest.search}


def query(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Open an index and ask it one query after the other."""
    from deft.bench.machine import own_memory
    from deft.mapping.mapper import TermMapper

    ready()
    start = time.perf_counter()
    mapper = TermMapper.open(request["index"], threads=request["threads"])
    opened = time.perf_counter() - start
    seconds = []
    for text in request["queries"]:
        start = time.perf_counter()
        mapper.map([text])
        seconds.append(time.perf_counter() - start)
    first, *rest = (1000 * each for each in seconds)
    return {
        "open_seconds": round(opened, 3),
        "first_query_milliseconds": round(first, 2),
        "query_p50_milliseconds": round(float(np.quantile(rest, 0.5)), 2),
        "query_p99_milliseconds": round(float(np.quantile(rest, 0.99)), 2),
        "query_memory_mib": round(own_memory() / MIB, 1),
    }


def compare(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Compare the nearest strings that are found with those of an exact search."""
    from deft.encoder.runtime import Encoder
    from deft.index.dense import DenseIndex, open_vectors
    from deft.index.manifest import ENCODER
    from deft.index.releases import current_release

    folder = current_release(request["index"])
    queries = Encoder.open(folder / ENCODER, threads=request["threads"]).encode(request["queries"])
    ready()
    found, _ = DenseIndex.open(folder).search(queries, _NEAREST)
    exact, _ = DenseIndex(open_vectors(folder)).search(queries, _NEAREST)
    shared = [len(set(one) & set(other)) for one, other in zip(found, exact, strict=True)]
    return {f"recall_at_{_NEAREST}_of_exact": round(float(np.mean(shared)) / exact.shape[1], 4)}
