"""One self-contained HTML page about an experiment.

The page asks nothing of the network: its style and plots are inside it. Input files are the metrics that the
stages wrote; a section whose file does not exist is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from deft import __version__
from deft.config import DataKind
from deft.errors import InputError
from deft.evaluation.calibration import Bin, Point
from deft.evaluation.leaderboard import KINDS, TEST_PART, Row, read_leaderboard
from deft.evaluation.linking import read_misses
from deft.evaluation.plots import coverage_plot, recall_plot, reliability_plot, short
from deft.files import atomic_write, read_json
from deft.variants import VARIANTS

SHOWN_MISSES = 25

_METRICS = {
    "edrm": "EDRM (gold)",
    "edrm_prediction": "EDRM (prediction)",
    "spearman": "Spearman",
    "map": "MAP",
    "accuracy": "Accuracy",
    "mrr": "MRR",
}
_TASKS = {"t1": "Task 1", "t2": "Task 2"}
_SYSTEMS = {
    "deft": "deft",
    "ngrams": "Character n-grams",
    "fused": "Fused",
    "dense": "Dense",
    "lexical": "Lexical",
    "fp32": "fp32",
    **{name: variant.title for name, variant in VARIANTS.items()},
}
_DATA = {
    "official": "the official DEFT 2020 files",
    "stand-in": "a stand-in for the DEFT 2020 files",
    "sample": "the sample in the repository",
    "unspecified": "data of an unspecified kind",
}

_PARTS = {"in_index": "concept in the index", "all": "all queries"}
_NO_MATCH = {
    "removed": "right concepts of half the queries taken out of the index",
    "absent": "gold concepts that are not in the index",
}

T = TypeVar("T")


@dataclass(frozen=True)
class ReportInputs:
    """The files that a report is made of; None, or a path where there is no file, leaves a section out.

    Attributes
    ----------
    t1, t2
        ``{"data": kind, "systems": {name: scores}}`` with the scores of `score_t1` and `score_t2`, our system
        first.
    mapping
        The same with the scores of `evaluate_mapping`, and what else `run_mapping` measures.
    errors
        CSV of `write_misses`.
    quantization
        ``{"engine": chosen, "engines": {name: {"passed": bool, "metrics": {metric: {"fp32": x, "int8": x,
        "difference": interval}}}}}``.
    speed
        What `deft.bench.speed.measure_bundles` returns, for ``fp32`` and each engine.
    leaderboard
        CSV of `update_leaderboard`.
    params
        The experiment's ``params.yaml``.
    """

    t1: Path | None = None
    t2: Path | None = None
    mapping: Path | None = None
    errors: Path | None = None
    quantization: Path | None = None
    speed: Path | None = None
    leaderboard: Path | None = None
    params: Path | None = None

    @classmethod
    def in_folder(cls, folder: Path, *, params: Path | None = None) -> ReportInputs:
        """Return the inputs under their usual names in one folder."""
        folder = Path(folder)
        return cls(
            t1=folder / "t1.json",
            t2=folder / "t2.json",
            mapping=folder / "mapping.json",
            errors=folder / "errors.csv",
            quantization=folder / "quantization.json",
            speed=folder / "speed.json",
            leaderboard=folder / "leaderboard.csv",
            params=params,
        )


@dataclass(frozen=True)
class _Line:
    """A metric with one score a system: an interval as JSON holds it."""

    metric: str
    scores: tuple[Mapping[str, float], ...]

    @property
    def label(self) -> str:
        return _label(self.metric)


@dataclass(frozen=True)
class _Table:
    """Scores of some systems, ours first, on `n` items."""

    title: str
    systems: tuple[str, ...]
    lines: tuple[_Line, ...]
    n: int

    @classmethod
    def of(cls, title: str, systems: Mapping[str, Mapping[str, Any]]) -> _Table:
        first = next(iter(systems.values()))
        metrics = [name for name, score in first.items() if isinstance(score, Mapping) and "value" in score]
        lines = (_Line(metric, tuple(scores[metric] for scores in systems.values())) for metric in metrics)
        return cls(title, tuple(systems), tuple(lines), first["n"])

    @property
    def recall(self) -> dict[int, _Line]:
        """The lines of recall@k, by k."""
        found = {line.metric.removeprefix("recall_at_"): line for line in self.lines}
        return {int(k): line for k, line in found.items() if k.isdecimal()}


@dataclass(frozen=True)
class _Part:
    """Scores of one system, or of one part of the queries; none where no query is left."""

    name: str
    n: int
    scores: tuple[Mapping[str, float], ...]


@dataclass(frozen=True)
class _Parts:
    """A table with a row a part and a column a metric."""

    title: str
    metrics: tuple[str, ...]
    rows: tuple[_Part, ...]

    @classmethod
    def of(cls, title: str, parts: Mapping[str, Mapping[str, Any]]) -> _Parts:
        """Take the scores of what is in the index, where they are apart."""
        chosen = {name: scores.get("in_index", scores) for name, scores in parts.items()}
        metrics = dict.fromkeys(
            name for scores in chosen.values() for name in scores if name not in {"n", "clusters"}
        )
        rows = (
            _Part(name, scores["n"], tuple(scores[metric] for metric in metrics if scores["n"]))
            for name, scores in chosen.items()
        )
        return cls(title, tuple(metrics), tuple(rows))


@dataclass(frozen=True)
class _Pair:
    """Two systems on the same queries: the changes of their metrics, and the test of recall@1."""

    before: str
    after: str
    changes: tuple[Mapping[str, float], ...]
    only_before: int
    only_after: int
    significance: str


@dataclass(frozen=True)
class _Comparison:
    """Systems on the same queries."""

    n: int
    table: _Parts
    pairs: tuple[_Pair, ...]


@dataclass(frozen=True)
class _Trust:
    """How confidence compares with what was right."""

    title: str
    n: int
    ece: Mapping[str, float]
    brier: Mapping[str, float]
    bins: tuple[Bin, ...]
    curve: tuple[Point, ...]
    thresholds: tuple[tuple[str, Point | None], ...]


@dataclass(frozen=True)
class _NoMatch:
    """How well a low confidence tells that no concept fits."""

    title: str
    n: int
    nil: int
    auroc: Mapping[str, float]


@dataclass(frozen=True)
class _Scores:
    """What one metrics file holds."""

    data: DataKind
    tables: tuple[_Table, ...]
    significance: str


@dataclass(frozen=True)
class _Tile:
    """A headline score, with the baseline's."""

    task: str
    line: _Line


@dataclass(frozen=True)
class _Plot:
    """Recall@k of some systems, drawn."""

    title: str
    n: int
    drawing: str


def build_report(inputs: ReportInputs, out: Path) -> None:
    """Write the report of an experiment.

    Raises
    ------
    InputError
        An input is not what its stage writes, or `out` cannot be written.
    """
    page = render(inputs)
    with atomic_write(out) as stream:
        stream.write(page)


def render(inputs: ReportInputs) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("deft.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "along": _along,
        "amount": short,
        "label": _label,
        "score": _score,
        "signed": _signed,
        "system": _system,
    }
    return environment.get_template("report.html.j2").render(_content(inputs))


def _content(inputs: ReportInputs) -> dict[str, Any]:
    t1, t2, mapping = (_load(path, _read_scores) for path in (inputs.t1, inputs.t2, inputs.mapping))
    trust = _load(inputs.mapping, _read_trust) or []
    known = [scores for scores in (t1, t2, mapping) if scores]
    return {
        "version": __version__,
        "data": known[0].data if known else None,
        "data_words": _DATA,
        "tiles": _tiles({"Task 1": t1, "Task 2": t2, "Mapping": mapping}),
        "t1": t1,
        "t2": t2,
        "mapping": mapping,
        "plots": [_plot(table) for table in mapping.tables if table.recall] if mapping else [],
        "parts": _load(inputs.mapping, _read_parts) or [],
        "comparison": _load(inputs.mapping, _read_comparison),
        "trust": trust,
        "reliability": reliability_plot(trust[0].bins) if trust else "",
        "coverage": _coverage(trust) if trust else "",
        "no_match": _load(inputs.mapping, _read_no_match) or [],
        "quantization": _load(inputs.quantization, _read_quantization),
        "speed": _load(inputs.speed, _read_speed),
        "leaderboard": _load(inputs.leaderboard, _read_standings),
        "misses": (_load(inputs.errors, read_misses) or [])[:SHOWN_MISSES],
        "params": _load(inputs.params, lambda path: path.read_text(encoding="utf-8")),
    }


def _load(path: Path | None, read: Callable[[Path], T]) -> T | None:
    """Read a file if it is there; whatever else it holds than its stage writes is an input error."""
    if path is None or not Path(path).exists():
        return None
    try:
        return read(Path(path))
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise InputError(
            f"does not have the expected shape ({type(error).__name__}: {error}).",
            path=path,
            remedy="Run the stage that writes it again.",
        ) from error


def _read_scores(path: Path) -> _Scores:
    document = read_json(path)
    systems: dict[str, dict[str, Any]] = document["systems"]
    tables = [_Table.of("All queries", systems)]
    restricted = {name: scores["in_index"] for name, scores in systems.items() if "in_index" in scores}
    if restricted and 0 < next(iter(restricted.values()))["n"] < tables[0].n:
        tables.append(_Table.of("Queries with a right concept in the index", restricted))
    ours = next(iter(systems.values()))
    return _Scores(document["data"], tuple(tables), _significance(ours.get("p_value")))


def _read_parts(path: Path) -> list[_Parts]:
    document = read_json(path)
    tables = [_Parts.of(f"By {column}", values) for column, values in document.get("by", {}).items()]
    if "seen" in document:
        tables.append(_Parts.of("Mentions that training saw or not", document["seen"]))
    return tables


def _read_comparison(path: Path) -> _Comparison | None:
    compared = read_json(path).get("compare")
    if not compared or not compared["n"]:
        return None
    table = _Parts.of("Systems on the same queries", compared["systems"])
    pairs = (
        _Pair(
            pair["before"],
            pair["after"],
            tuple(pair[metric] for metric in table.metrics),
            pair["mcnemar"]["only_before"],
            pair["mcnemar"]["only_after"],
            _significance(pair["mcnemar"]["p_value"]),
        )
        for pair in compared["pairs"]
    )
    return _Comparison(compared["n"], table, tuple(pairs))


def _read_trust(path: Path) -> list[_Trust]:
    """Return the calibration of each part of the queries, the first to be drawn; equal parts once."""
    found = read_json(path).get("calibration", {})
    parts = {name: found[name] for name in _PARTS if name in found}
    if len(parts) > 1 and parts["all"]["n"] == parts["in_index"]["n"]:
        del parts["in_index"]
    return [
        _Trust(
            _PARTS[name],
            part["n"],
            part["ece"],
            part["brier"],
            tuple(Bin(**each) for each in part["bins"]),
            tuple(Point(**point) for point in part["curve"]),
            tuple((least, point and Point(**point)) for least, point in part["at_precision"].items()),
        )
        for name, part in parts.items()
    ]


def _read_no_match(path: Path) -> list[_NoMatch]:
    found = read_json(path).get("no_match", {})
    return [
        _NoMatch(title, found[name]["n"], found[name]["nil"], found[name]["auroc"])
        for name, title in _NO_MATCH.items()
        if name in found
    ]


def _read_quantization(path: Path) -> dict[str, Any]:
    document = read_json(path)
    engines: dict[str, dict[str, Any]] = document["engines"]
    metrics = dict.fromkeys(metric for engine in engines.values() for metric in engine["metrics"])
    return {
        "chosen": document.get("engine"),
        "engines": {name: engine["passed"] for name, engine in engines.items()},
        "lines": [
            {
                "metric": metric,
                "fp32": next(engine["metrics"][metric]["fp32"] for engine in engines.values()),
                "changes": [engine["metrics"][metric]["difference"] for engine in engines.values()],
            }
            for metric in metrics
        ],
    }


def _read_speed(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = read_json(path)
    systems: dict[str, dict[str, Any]] = document["systems"]
    reference = systems.get("fp32")
    rows = [
        {
            "system": name,
            "file_mib": row["file_mib"],
            "peak_memory_mib": row["peak_memory_mib"],
            "rate": row["texts_per_second"],
            "speedup": row["texts_per_second"]["value"] / reference["texts_per_second"]["value"]
            if reference
            else None,
        }
        for name, row in systems.items()
    ]
    return document | {"rows": rows}


def _tiles(tasks: Mapping[str, _Scores | None]) -> list[_Tile]:
    headlines = {
        "Task 1": ("edrm", "spearman"),
        "Task 2": ("map",),
        "Mapping": ("recall_at_1", "recall_at_5"),
    }
    return [
        _Tile(task, line)
        for task, scores in tasks.items()
        if scores
        for line in scores.tables[0].lines
        if line.metric in headlines[task]
    ]


def _read_standings(path: Path) -> list[dict[str, Any]]:
    """Return the rows of each task, metric and part of the data, best first."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in read_leaderboard(path):
        groups.setdefault((row.task, row.metric, row.part), []).append(row)
    return [
        {
            "task": _TASKS.get(task, task),
            "metric": _label(metric) + ("" if part == TEST_PART else f" ({part})"),
            "rows": sorted(group, key=_standing),
        }
        for (task, metric, part), group in groups.items()
    ]


def _standing(row: Row) -> tuple[int, float]:
    best = row.value if row.value is not None else row.high or 0.0
    return KINDS.index(row.data), -best


def _plot(table: _Table) -> _Plot:
    recall = dict(sorted(table.recall.items()))
    systems = {
        _system(system): {k: line.scores[place] for k, line in recall.items()}
        for place, system in enumerate(table.systems)
    }
    return _Plot(table.title, table.n, recall_plot(systems))


def _coverage(trust: Sequence[_Trust]) -> str:
    names = ("in the index", "all queries") if len(trust) > 1 else ("all queries",)
    return coverage_plot({name: part.curve for name, part in zip(names, trust, strict=True)})


def _label(metric: str) -> str:
    if metric.startswith("recall_at_"):
        return f"Recall@{metric.rpartition('_')[2]}"
    return _METRICS.get(metric, metric.replace("_", " "))


def _system(name: str) -> str:
    return _SYSTEMS.get(name, name or "(empty)")


def _significance(p_value: float | None) -> str:
    if p_value is None:
        return ""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _score(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}f}"


def _along(value: float) -> str:
    """Return where a score stands on the drawing of whiskers, 200 units wide."""
    return f"{200 * min(max(value, 0), 1):.1f}"


def _signed(value: float) -> str:
    rounded = round(value, 4)
    return "0.0000" if rounded == 0 else f"{'−' if rounded < 0 else '+'}{abs(rounded):.4f}"
