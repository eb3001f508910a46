"""Review: proposals go out as a sheet, decisions come back into a curated file that the mapper uses first."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeAlias

from deft.corpora.cells import guard_row
from deft.corpora.delimited import read_cells
from deft.corpora.workbook import need_openpyxl, read_sheet
from deft.errors import InputError
from deft.exchange.curated import (
    ACCEPT,
    REJECT,
    curated_path,
    read_curated,
    verdict,
    write_curated,
)
from deft.exchange.origins import ROW, Origin, labels, with_origins
from deft.files import atomic_write, made_folders, only_writer
from deft.mapping.decisions import Decision, key_of
from deft.text import clean, fold

if TYPE_CHECKING:
    from openpyxl import Workbook

    from deft.mapping.results import Mapping

# Columns of the sheet and their widths in a workbook, in characters.
SHEET_COLUMNS = {
    "id": 15,
    "query": 36,
    "rank": 6,
    "cui": 11,
    "name": 40,
    "matched": 40,
    "how": 11,
    "confidence": 11,
    "semantic_types": 15,
    "definition": 60,
    "decision": 11,
    "comment": 40,
}

_NEEDED = ("id", "query", "cui", "decision")
_TITLE = "review"
_PATIENCE = 60.0  # seconds that a writer of the curated file waits for another one

_Cell: TypeAlias = str | int | float
_Pair: TypeAlias = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Problem:
    """A row of a sheet that was left out, and why."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What a sheet held: pairs accepted and rejected, rows without decision, rows that were left out."""

    accepted: int
    rejected: int
    undecided: int
    problems: tuple[Problem, ...]


def write_review(
    mappings: Iterable[Mapping], path: str | Path, origins: Sequence[Origin] | None = None
) -> None:
    """Write a review sheet: a row a proposal, with empty columns `decision` and `comment` to fill in.

    A query without proposals has a row too, so that it is seen. A query that comes again, in the same or
    another spelling, is not proposed twice for the same concept.

    Parameters
    ----------
    mappings
        What is proposed.
    path
        A workbook (.xlsx, the safer: no cell is changed on the way) or a table (.csv, UTF-8 with byte order
        mark and semicolons, as a French Excel opens it).
    origins
        The row that each mapping came from, one a mapping: the sheet has their numbers, several separated by
        ``;``, and the columns of the first.

    Raises
    ------
    InputError
        The suffix is another one, the file cannot be written, or openpyxl is not installed.
    """
    path = Path(path)
    rows = _rows(mappings, origins)
    if _suffix(path) == ".csv":
        with atomic_write(path) as stream:
            _write_csv(rows, stream)
        return
    need_openpyxl(path)
    book = _workbook(rows)
    with atomic_write(path, binary=True) as stream:
        book.save(stream)


def apply_review(sheet: str | Path, curated: str | Path) -> ReviewResult:
    """Merge the decisions of a review sheet into a curated file.

    A later decision replaces an earlier one about the same query and concept. Several concepts may be
    accepted for a query. Rows that cannot be used are reported and left out, the others are merged. Of two
    calls at the same time, the second waits for the first.

    Parameters
    ----------
    sheet
        What `write_review` wrote and a person filled in: .xlsx, or .csv in UTF-8, UTF-16 or Windows-1252
        with semicolons, commas or tabs. `decision` is "accept" or "reject", or a word such as "oui" or "non".
    curated
        The curated file (.tsv), made if it is missing; sorted by normalised query and CUI.

    Raises
    ------
    InputError
        The sheet or the curated file cannot be read as a whole, or not be written, or another process holds
        the curated file for more than a minute. Nothing is changed then.
    """
    target = curated_path(curated)
    found, undecided, problems = _judge_all(_records(Path(sheet)))
    decided: dict[_Pair, Decision] = {}
    whole = target.resolve()  # two links to one file share a lock
    lock = whole.with_name(f".{whole.name}.lock")
    with made_folders(whole.parent), only_writer(lock, target, patience=_PATIENCE):
        known = {decision.pair: decision for decision in read_curated(target)} if target.exists() else {}
        for pair, decisions in found.items():
            if len({decision.accepted for decision in decisions}) > 1:
                problems += _contradiction(decisions)
            else:
                decided[pair] = _merged([*([known[pair]] if pair in known else []), *decisions])
        write_curated((known | decided).values(), target)
    accepted = sum(decision.accepted for decision in decided.values())
    in_order = tuple(sorted(problems, key=lambda problem: problem.line))
    return ReviewResult(accepted, len(decided) - accepted, undecided, in_order)


def _id(query: str, cui: str) -> str:
    # it begins with a letter, so that no spreadsheet takes it for a number
    return "p" + hashlib.sha256(f"{key_of(query)}\t{cui}".encode()).hexdigest()[:12]


def _rows(mappings: Iterable[Mapping], origins: Sequence[Origin] | None) -> list[list[_Cell]]:
    """Return the header and the rows of the sheet."""
    kept = labels(origins, SHEET_COLUMNS)
    first: dict[str, tuple[tuple[_Cell, ...], list[Origin]]] = {}
    for mapping, origin in with_origins(mappings, origins):
        for proposal in _proposals(mapping):
            met = first.setdefault(str(proposal[0]), (proposal, []))[1]
            met += [origin] if origin is not None else []
    rows: list[list[_Cell]] = [[*SHEET_COLUMNS]]
    if origins is not None:
        rows[0] += [ROW, *kept.values()]
    for proposal, met in first.values():
        row: list[_Cell] = [*proposal, "", ""]
        if met:
            row += [";".join(str(origin.row) for origin in met)]
            row += [clean(met[0].columns.get(name, "")) for name in kept]
        rows.append(row)
    return rows


def _proposals(mapping: Mapping) -> Iterator[tuple[_Cell, ...]]:
    """Yield the proposals for a query, without the columns that a person fills in."""
    query = clean(mapping.query)
    for candidate in mapping.candidates:
        yield (
            _id(query, candidate.cui),
            query,
            candidate.rank,
            candidate.cui,
            clean(candidate.name),
            clean(candidate.matched),
            candidate.match,
            round(float(candidate.confidence), 3),
            ";".join(candidate.semantic_types),
            clean(candidate.definition),
        )
    if not mapping.candidates:
        yield (_id(query, ""), query, *[""] * 8)


def _write_csv(rows: list[list[_Cell]], stream: IO[str]) -> None:
    stream.write("\ufeff")
    csv.writer(stream, delimiter=";").writerows(map(guard_row, rows))


def _workbook(rows: list[list[_Cell]]) -> Workbook:
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.utils import get_column_letter
    from openpyxl.worksheet.datavalidation import DataValidation

    def as_text(value: _Cell) -> object:
        if not isinstance(value, str):
            return value
        cell = WriteOnlyCell(sheet, value)
        cell.data_type = "s"  # text even if it begins like a formula ...
        cell.number_format = "@"  # ... and after somebody edits it
        return cell

    book = Workbook(write_only=True)  # the other mode keeps every cell in memory
    sheet = book.create_sheet(_TITLE)
    sheet.freeze_panes = "A2"
    letters = {column: get_column_letter(place) for place, column in enumerate(SHEET_COLUMNS, start=1)}
    for column, width in SHEET_COLUMNS.items():
        sheet.column_dimensions[letters[column]].width = width
    for row in rows:
        sheet.append([as_text(value) for value in row])
    last = len(rows)
    sheet.auto_filter.ref = f"A1:{get_column_letter(len(rows[0]))}{last}"
    choice = DataValidation(
        type="list", formula1=f'"{ACCEPT},{REJECT}"', allow_blank=True, showErrorMessage=True
    )
    choice.error = f"{ACCEPT} / {REJECT}"
    choice.add(f"{letters['decision']}2:{letters['decision']}{max(last, 2)}")
    sheet.data_validations.append(choice)
    return book


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in {".xlsx", ".csv"}:
        raise InputError("is no review sheet.", path=path, remedy="Name a file that ends in .xlsx or .csv.")
    return suffix


def _records(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows of a sheet that are not blank, by column, each with its line."""
    lines, cells = read_cells(path, _NEEDED) if _suffix(path) == ".csv" else read_sheet(path, _TITLE)
    rows = [(line, list(map(clean, row))) for line, row in zip(lines, cells, strict=True)]
    rows = [(line, row) for line, row in rows if any(row)]
    if not rows:
        raise InputError("is empty.", path=path, remedy="A sheet of `deft map --review` was expected.")
    (line, header), *body = rows
    names = [fold(cell) for cell in header]
    wrong = [column for column in _NEEDED if names.count(column) != 1]
    if wrong:
        raise InputError(
            f"needs one column {' and one '.join(map(repr, wrong))}.",
            path=path,
            line=line,
            remedy=f"The header has: {', '.join(map(repr, header))}.",
        )
    # spreadsheets leave out the empty cells at the end of a row
    records = [(line, dict(zip(names, [*cells, *[""] * len(names)], strict=False))) for line, cells in body]
    return [(line, {"name": "", "comment": "", **record}) for line, record in records]


def _judge_all(
    records: Iterable[tuple[int, dict[str, str]]],
) -> tuple[dict[_Pair, list[Decision]], int, list[Problem]]:
    """Return the decisions by pair, the number of rows without decision, and the rows of no use."""
    found: dict[_Pair, list[Decision]] = defaultdict(list)
    problems: list[Problem] = []
    undecided = 0
    for line, row in records:
        if not row["decision"]:
            undecided += 1
        elif problem := _problem(row):
            problems.append(Problem(line, problem))
        else:
            accepted = bool(verdict(row["decision"]))
            decision = Decision(row["query"], row["cui"], accepted, row["name"], row["comment"], line)
            found[decision.pair].append(decision)
    return found, undecided, problems


def _problem(row: dict[str, str]) -> str:
    """Say why the decision of a row cannot be used; "" if it can."""
    if verdict(row["decision"]) is None:
        return f"{row['decision']!r} is no decision: write {ACCEPT} or {REJECT}, or oui or non."
    if row["id"] != _id(row["query"], row["cui"]):
        return (
            f"id {row['id']!r} does not belong to {row['query']!r} and {row['cui']!r}: was the row edited, "
            "or did the file lose letters when it was saved? Restore the row; a pair of your own goes into "
            "the curated file."
        )
    return "" if row["cui"] else "there is no concept to accept or reject here: nothing was proposed."


def _contradiction(decisions: list[Decision]) -> list[Problem]:
    said = ", ".join(
        f"line {decision.line} {'accepts' if decision.accepted else 'rejects'}" for decision in decisions
    )
    about = f"{decisions[0].query!r} and {decisions[0].cui}"
    return [Problem(decision.line, f"contradictory about {about}: {said}.") for decision in decisions]


def _merged(decisions: list[Decision]) -> Decision:
    """Return the last decision, with the last comment that was given for it, and the last name."""
    last = decisions[-1]
    names = [decision.name for decision in decisions if decision.name]
    comments = [
        decision.comment for decision in decisions if decision.comment and decision.accepted == last.accepted
    ]
    return replace(last, name="".join(names[-1:]), comment="".join(comments[-1:]))
