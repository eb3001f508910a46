"""Published results of DEFT 2020 and ours beside them.

In memory a score is one `Row`. On disk each kind of data has columns of its own, so that a score on sample or
stand-in data can never be read as one on the official files.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from deft.config import DataKind
from deft.corpora.cells import guard_row
from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.files import atomic_write, read_json

TASKS = ("t1", "t2")
TEST_PART = "DEFT 2020, test part"
"""What the official scores are on; others on DEFT 2020 data are no scores of the challenge."""

KINDS: tuple[DataKind, ...] = get_args(DataKind)

_LABELS = ("task", "metric", "part", "system", "year")
_SOURCE = ("source", "where")
_NUMBERS = ("value", "low", "high")


@dataclass(frozen=True, slots=True)
class Row:
    """One score, or a range of scores, of one system.

    Attributes
    ----------
    task
        ``t1`` or ``t2``.
    metric
        ``edrm``, ``edrm_prediction``, ``spearman``, ``map`` or ``accuracy``.
    system
        Who scored.
    year
        As far as known.
    data
        What was scored: the official files, a stand-in for them or the sample.
    value
        The score; None for a range.
    low, high
        Ends of the range, or of the 95 % interval around the value.
    source, where
        The publication, and where in it the score stands: a table, a section, the abstract.
    part
        The items that were scored, where the kind of data does not say it all.
    """

    task: str
    metric: str
    system: str
    year: int | None
    data: DataKind
    value: float | None
    low: float | None
    high: float | None
    source: str
    where: str = ""
    part: str = TEST_PART


def read_leaderboard(path: Path) -> list[Row]:
    """Read a leaderboard.

    Raises
    ------
    InputError
        The file cannot be read, a column is missing, a number is none, or a line has scores on two kinds of
        data.
    """
    return [_parse(Path(path), line, row) for line, row in read_rows(path, _columns())]


def write_leaderboard(path: Path, rows: Iterable[Row]) -> None:
    """Write a leaderboard, each kind of data in columns of its own."""
    with atomic_write(path) as stream:
        writer = csv.DictWriter(stream, _columns(), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(_line(row) for row in rows)


def update_leaderboard(published: Path, folder: Path, *, system: str = "deft") -> list[Row]:
    """Write ``leaderboard.csv`` in a folder: published rows, and ours from ``t1.json`` and ``t2.json`` there.

    Parameters
    ----------
    published
        Leaderboard of published results.
    folder
        Where the metrics are and the leaderboard goes. A task whose metrics are not there adds no row.
    system
        What our system is called.

    Returns
    -------
    list of Row
        What was written.

    Raises
    ------
    InputError
        A file is not what it should be.
    """
    rows = read_leaderboard(published)
    for task in TASKS:
        path = Path(folder) / f"{task}.json"
        if path.exists():
            rows = with_ours(rows, _scored(path, task, system))
    write_leaderboard(Path(folder) / "leaderboard.csv", rows)
    return rows


def our_rows(
    task: str, scores: Mapping[str, Any], *, system: str, year: int | None, data: DataKind, source: str
) -> list[Row]:
    """Return a row for each metric with an interval in the scores that `score_t1` or `score_t2` gave."""
    return [
        Row(task, metric, system, year, data, score["value"], score["low"], score["high"], source)
        for metric, score in scores.items()
        if isinstance(score, Mapping) and "value" in score
    ]


def with_ours(rows: Sequence[Row], ours: Sequence[Row]) -> list[Row]:
    """Return `rows` and `ours` by task and metric, the published first.

    Earlier scores of the same system on the same task and kind of data are replaced.
    """
    replaced = {(row.system, row.task, row.data) for row in ours}
    published = [row for row in rows if (row.system, row.task, row.data) not in replaced]
    order = {key: position for position, key in enumerate(dict.fromkeys(map(_subject, [*published, *ours])))}
    return sorted([*published, *ours], key=lambda row: order[_subject(row)])


def _scored(path: Path, task: str, system: str) -> list[Row]:
    """Return the rows of the first system of a metrics file."""
    document = read_json(path)
    kind = document.get("data") if isinstance(document, Mapping) else None
    if kind not in KINDS:
        raise InputError(
            f"holds scores on {kind} data, which have no column in a leaderboard.",
            path=path,
            field="data",
            remedy=f"Score again with --data-kind {', '.join(KINDS)}, whichever is true.",
        )
    try:
        scores = next(iter(document["systems"].values()))
        source = f"this experiment, {path.name}"
        return our_rows(task, scores, system=system, year=None, data=kind, source=source)
    except (AttributeError, KeyError, StopIteration, TypeError) as error:
        raise InputError(
            "does not hold the scores of a task.", path=path, remedy="Score it again."
        ) from error


def _subject(row: Row) -> tuple[str, str, str]:
    return row.task, row.metric, row.part


def _columns() -> list[str]:
    return [*_LABELS, *(_column(kind, number) for kind in KINDS for number in _NUMBERS), *_SOURCE]


def _column(kind: DataKind, number: str) -> str:
    name = kind.replace("-", "_")
    return name if number == "value" else f"{name}_{number}"


def _line(row: Row) -> dict[str, Any]:
    labels = {name: getattr(row, name) for name in (*_LABELS, *_SOURCE)}
    numbers = {_column(row.data, number): getattr(row, number) for number in _NUMBERS}
    values = ("" if value is None else value for value in (labels | numbers).values())
    return dict(zip(labels | numbers, guard_row(values), strict=True))


def _parse(path: Path, number: int, line: Mapping[str, str]) -> Row:
    kinds = [kind for kind in KINDS if any(line[_column(kind, number)] for number in _NUMBERS)]
    if len(kinds) != 1:
        raise InputError(f"expected scores on one kind of data, found {len(kinds)}.", path=path, line=number)
    try:
        value, low, high = (_float(line[_column(kinds[0], number)]) for number in _NUMBERS)
        year = int(line["year"]) if line["year"] else None
    except ValueError as error:
        raise InputError(f"holds a number that is none ({error}).", path=path, line=number) from error
    texts = {name: line[name] for name in ("task", "metric", "part", "system", *_SOURCE)}
    return Row(**texts, year=year, data=kinds[0], value=value, low=low, high=high)


def _float(text: str) -> float | None:
    return float(text) if text else None
