"""Results of the benchmarks as a table for the terminal and as a self-contained page with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import accumulate
from pathlib import Path
from typing import Any

from deft.bench.machine import hardware, versions
from deft.bench.systems import CAREFUL, PUBLISHED
from deft.bench.tune import Trial, Tuned
from deft.evaluation.plots import Column, Scale, growth_plot, search_plot, short, systems_plot
from deft.files import atomic_write

_TITLES = {
    "build_seconds": "Build, s",
    "build_peak_memory_mib": "Peak memory of the build, MiB",
    "disk_mib": "Disk, MiB",
    "open_seconds": "Open, s",
    "first_query_milliseconds": "First query, ms",
    "query_p50_milliseconds": "A query, median, ms",
    "query_p99_milliseconds": "A query, 99th percentile, ms",
    "query_memory_mib": "Resident after the queries, MiB",
}
_MORE = {
    "made_strings_per_second": "Made, strings/s",
    "parse_atoms_per_second": "Parsed, atoms/s",
    "table_atoms_per_second": "Made into tables, atoms/s",
    "embed_strings_per_second": "Embedded, strings/s",
    "recall_at_10_of_exact": "Of the ten nearest, found",
}


@dataclass(frozen=True)
class Row:
    """A system on a workload; its figures are spreads, or single values as ``{"value": x}``."""

    model: str
    workload: str
    system: str
    figures: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class _Column:
    """A column of the table of encoders, and how it is plotted."""

    name: str
    title: str
    scale: Scale | None = None
    digits: int = 0


_COLUMNS = (
    _Column("rate", "Texts/s", "log"),
    _Column("process", "Whole process, s", "log", 2),
    _Column("memory", "Peak memory, MiB", "bar"),
    _Column("file", "Files, MiB", "bar"),
    _Column("cosine", "Cosine to fp32", "quality", 4),
    _Column("published", "x published", digits=1),
    _Column("careful", "x sent.-transf.", digits=1),
    _Column("saved", "Memory saved, %"),
    _Column("share", "% of limit"),
    _Column("recall", "Recall@1", digits=3),
    _Column("spearman", "Spearman", digits=3),
)


def rows_of(results: Mapping[str, Any]) -> list[Row]:
    """Return the rows of the table of encoders."""
    rows = []
    for model, found in results["models"].items():
        scores = found.get("quality", {}).get("systems", {})
        for workload, measured in found["workloads"].items():
            for system, values in measured["systems"].items():
                rows.append(Row(model, workload, system, _figures(values, scores.get(system, {}))))
    return rows


def encoder_table(results: Mapping[str, Any]) -> str:
    """Return the results of `bench_encoders` as text: a row a system, medians over the rounds."""
    header = f"{'':<26}" + "".join(f"{column.title:>17}" for column in _COLUMNS)
    lines: list[str] = []
    block = None
    for row in rows_of(results):
        if (row.model, row.workload) != block:
            block = (row.model, row.workload)
            about = results["models"][row.model]["workloads"][row.workload]
            weights = results["models"][row.model]["weights"]
            title = f"{row.model} ({weights} weights), {row.workload}"
            lines += ["", f"{title}: {about['texts']} texts, {about['mean_tokens']} tokens each", header]
        cells = "".join(f"{_cell(row, column):>17}" for column in _COLUMNS)
        lines.append(f"{row.system[:25]:<26}{cells}")
    return "\n".join([*lines[1:], "", _peak_line(results)])


def index_table(results: Mapping[str, Any]) -> str:
    """Return the results of `bench_index` as text: a row a quantity, a column a size."""
    points, projection = results["points"], results["projection"]
    sizes = "".join(f"{point['strings']:>14,}" for point in points)
    last = f"{projection['strings']:>14,} (projected)" if projection else ""
    lines = [f"{'strings':<34}{sizes}{last}"]
    for name, title in (_MORE | _TITLES).items():
        values = "".join(f"{short(point[name]):>14}" for point in points)
        guess = projection["values"].get(name) if projection else None
        lines.append(f"{title:<34}{values}" + (f"{short(guess['value']):>14}" if guess else ""))
    return "\n".join(lines + ([f"Projection: {projection['method']}."] if projection else []))


def write_page(results: Mapping[str, Any], out: Path, *, command: str = "") -> None:
    """Write the page of either benchmark; it needs nothing from the network.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    content = _encoder_content(results) if "models" in results else _index_content(results)
    about = {"command": command, "hardware": results["hardware"], "versions": results["versions"]}
    _render("bench.html.j2", content | about, out)


def write_tuning(tuned: Tuned, out: Path, *, command: str = "") -> None:
    """Write the page of a search for settings: its trials as a plot and as a table.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    about = {"command": command, "hardware": hardware(), "versions": versions()}
    _render("tune.html.j2", _tuning_content(tuned) | about, out)


def _render(template: str, content: Mapping[str, Any], out: Path) -> None:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("deft.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"short": short}
    page = environment.get_template(template).render(content)
    with atomic_write(out) as stream:
        stream.write(page)


def _figures(values: Mapping[str, Any], scores: Mapping[str, float]) -> dict[str, Mapping[str, float]]:
    percent = {name: 100 * value for name, value in values["limit"]["share"].items()}
    careful = values["times"][CAREFUL]
    saved = {name: 100 * value for name, value in careful["memory_saved"].items()}
    found: dict[str, Mapping[str, float]] = {
        "rate": values["texts_per_second"],
        "process": values["whole_process_seconds"],
        "memory": values["peak_memory_mib"],
        "file": {"value": values["file_mib"]},
        "cosine": {"value": values["cosine_to_fp32"]["mean"]},
        "published": values["times"][PUBLISHED]["texts_per_second"],
        "careful": careful["texts_per_second"],
        "saved": saved,
        "share": percent,
    }
    gold = {"recall": "recall_at_1", "spearman": "spearman"}
    return found | {name: {"value": scores[key]} for name, key in gold.items() if key in scores}


def _cell(row: Row, column: _Column) -> str:
    figure = row.figures.get(column.name)
    return "-" if figure is None else f"{figure['value']:,.{column.digits}f}"


def _peak_line(results: Mapping[str, Any]) -> str:
    fp32, int8 = (results["peak"][name]["billion_per_second"]["value"] for name in ("fp32", "int8"))
    return (
        f"Peak of a matrix product: {short(fp32)} billion operations a second in fp32, {short(int8)} in "
        "int8. The limit of a system is what its products alone would take at the best of these."
    )


def _encoder_content(results: Mapping[str, Any]) -> dict[str, Any]:
    rows = rows_of(results)
    return {
        "title": "Encoders side by side",
        "figures": [
            (f"{model}, {found['weights']} weights", _drawing([row for row in rows if row.model == model]))
            for model, found in results["models"].items()
        ],
        "growth": [],
        "columns": ["Model", "Workload", "System", *(column.title for column in _COLUMNS)],
        "lines": [
            [row.model, row.workload, row.system, *(_with_spread(row, column) for column in _COLUMNS)]
            for row in rows
        ],
        "note": f"Medians over {results['params']['rounds']} rounds that interleave the systems, with the "
        "slowest and fastest round; each measurement is a process of its own, its whole time from start, "
        "imports and loading included, to the first pass over the texts. " + _peak_line(results),
        "random": [name for name, found in results["models"].items() if found["weights"] == "random"],
    }


def _with_spread(row: Row, column: _Column) -> str:
    figure = row.figures.get(column.name, {})
    if "low" not in figure:
        return _cell(row, column)
    return f"{_cell(row, column)} [{figure['low']:,.{column.digits}f}, {figure['high']:,.{column.digits}f}]"


def _drawing(rows: Sequence[Row]) -> str:
    labels: list[tuple[str, bool]] = []
    figures: list[Mapping[str, Mapping[str, float]]] = []
    for row in rows:
        if (row.workload, False) not in labels:
            labels.append((row.workload, False))
            figures.append({})
        labels.append((row.system, _ours(row)))
        figures.append(row.figures)
    plotted = [
        Column(column.title, column.scale, [figure.get(column.name, {}) for figure in figures])
        for column in _COLUMNS
        if column.scale is not None
    ]
    return systems_plot(labels, plotted)


def _ours(row: Row) -> bool:
    return row.system.startswith("deft")


def _index_content(results: Mapping[str, Any]) -> dict[str, Any]:
    points, projection = results["points"], results["projection"]
    names = _MORE | _TITLES
    words = "" if projection is None else f" Dashed: {projection['method']}."
    return {
        "title": "What an index costs as it grows",
        "figures": [],
        "growth": [(title, _growth(name, points, projection)) for name, title in _TITLES.items()],
        "columns": ["Strings", "Atoms", "Kind", *names.values()],
        "lines": [
            [
                f"{point['strings']:,}",
                f"{point['atoms']:,}",
                point["kind"],
                *(short(point[name]) for name in names),
            ]
            for point in points
        ],
        "note": f"Made-up releases; {results['params']['queries']:,} single queries after the first; "
        f"embedding is timed on at most {results['params']['embedded']:,} strings. Each step is a process of "
        f"its own; resident memory counts the mapped pages of the index.{words}",
        "random": [],
    }


def _growth(name: str, points: Sequence[Mapping[str, Any]], projection: Mapping[str, Any] | None) -> str:
    line = None
    if projection:
        found = projection["values"][name]
        line = (found["intercept"], projection["strings"], found["value"])
    return growth_plot([(point["strings"], point[name]) for point in points], line, short(points[-1][name]))


def _tuning_content(tuned: Tuned) -> dict[str, Any]:
    trials = tuned.trials
    best = list(accumulate((trial.times if trial.feasible else 0.0 for trial in trials), max))
    return {
        "tuned": tuned,
        "drawing": search_plot([trial.times for trial in trials], [trial.feasible for trial in trials], best),
        "columns": [field.name.replace("_", " ") for field in fields(Trial)],
        "lines": [astuple(trial) for trial in trials],
    }
