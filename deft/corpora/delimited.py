"""Tables with a header: CSV or TSV with any delimiter and in the usual encodings, or a workbook."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deft.corpora.cells import unguard
from deft.errors import InputError
from deft.files import read_text

_USUAL = ",;\t|"
_SEPARATOR = re.compile('"?sep=(.)"?')  # what Excel takes for the delimiter, if it is the first line
_MOJIBAKE = re.compile("[ÃÂ][\u0080-\u00bf‚ƒ„…†‡ˆ‰Š‹Œ‘’“”•–—˜™š›œŸ]|â€")  # UTF-8 read as Windows-1252

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table as they were read.

    Attributes
    ----------
    names
        Names of the columns; one that comes again has its number behind it.
    lines
        The line on which each row starts.
    cells
        The cells of each row, in the order of `names`.
    """

    names: tuple[str, ...]
    lines: list[int]
    cells: list[list[str]]

    def __iter__(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Iterate over the rows: the line of each, and its cells by column."""
        for line, cells in zip(self.lines, self.cells, strict=True):
            yield line, dict(zip(self.names, cells, strict=True))


def read_rows(path: str | Path, columns: Sequence[str] = ()) -> Rows:
    """Read a table of strings; empty cells are "", and what was guarded from spreadsheets is as it was.

    A file that ends in `.xlsx` is a workbook (`deft.corpora.workbook`), any other is text: UTF-8, or UTF-16
    with a byte order mark; lines that are neither are taken for Windows-1252, with a logged warning. The
    delimiter is a tab in a `.tsv`, where quotes are letters like others. Elsewhere it is what a first line
    `sep=` says, or the character of the header that parts it into the wanted columns: the one of
    ``, ; tab |`` that it holds most often, or any other. Between tabs, quotes that do not pair are letters.

    Parameters
    ----------
    path
        The file, `.gz` allowed; "-" is standard input.
    columns
        Columns that must be there, once each.

    Raises
    ------
    InputError
        The file is missing, empty or ragged, or a column is not there.
    """
    path = Path(path)
    lines, rows = read_cells(path, columns)
    names = [name.strip() for name in rows[0]]
    _check_columns(path, lines[0], names, columns)
    ragged = _ragged(lines, rows)
    if ragged is not None:
        raise InputError(
            f"expected {len(names)} fields as in the header, found {len(rows[lines.index(ragged)])}.",
            path=path,
            line=ragged,
            remedy="Is a delimiter or a quote missing, or one too many?",
        )
    _warn_of_mojibake(path, rows)
    return Rows(_numbered(names), lines[1:], rows[1:])


def read_cells(path: Path, columns: Sequence[str] = ()) -> tuple[list[int], list[list[str]]]:
    """Read a table as `read_rows` does, whatever is in it: the line of each row that is not blank, its cells.

    Raises
    ------
    InputError
        The file is missing, empty or no table.
    """
    if path.suffix == ".xlsx":
        from deft.corpora.workbook import read_sheet

        lines, rows = read_sheet(path)
    else:
        lines, rows = _parse(path, read_text(path, mixed=True), columns)
    if not rows:
        raise InputError("is empty.", path=path, remedy="A header and rows below it were expected.")
    return lines, [[unguard(cell) for cell in row] for row in rows]


def _parse(path: Path, text: str, columns: Sequence[str]) -> tuple[list[int], list[list[str]]]:
    first, _, rest = text.partition("\n")
    told = _SEPARATOR.fullmatch(first.rstrip("\r"))
    text, start = (rest, 2) if told else (text, 1)
    delimiter = "\t" if ".tsv" in path.suffixes else told[1] if told else _delimiter(text, columns)
    if ".tsv" in path.suffixes:
        return _split(path, text, start, delimiter, quoting=csv.QUOTE_NONE)
    try:
        lines, rows = _split(path, text, start, delimiter)
    except InputError:
        if delimiter != "\t":
            raise
    else:
        if delimiter != "\t" or _ragged(lines, rows) is None:
            return lines, rows
    return _split(path, text, start, delimiter, quoting=csv.QUOTE_NONE)


def _split(
    path: Path, text: str, line: int, delimiter: str, quoting: Literal[0, 3] = csv.QUOTE_MINIMAL
) -> tuple[list[int], list[list[str]]]:
    """Return the rows and the line on which each starts, the first on `line`; blank lines are no rows."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    start = line
    try:
        for row in reader:
            if row:
                lines.append(start)
                rows.append(row)
            start = reader.line_num + line
    except csv.Error as error:
        raise InputError(f"is not a readable table ({error}).", path=path, line=start) from error
    return lines, rows


def _delimiter(text: str, columns: Sequence[str]) -> str:
    header = next((line for line in io.StringIO(text) if line.strip()), "").rstrip("\r\n")
    bare = re.sub(r'"[^"]*"', "", header)  # what is quoted is no delimiter
    counts = Counter(char for char in bare if char == "\t" or not (char.isalnum() or char.isspace()))
    usual = sorted(_USUAL, key=lambda char: -counts[char])
    for delimiter in [*usual, *(char for char in counts if char != '"')]:
        names = {name.strip().strip('"') for name in header.split(delimiter)}
        if set(columns) <= names and len(names) > 1:
            return delimiter
    return usual[0]


def _check_columns(path: Path, line: int, names: Sequence[str], columns: Sequence[str]) -> None:
    counts = Counter(names)
    repeated = [name for name in columns if counts[name] > 1]
    if repeated:
        raise InputError(f"the header names {', '.join(repeated)} twice.", path=path, line=line)
    missing = [name for name in columns if not counts[name]]
    if missing:
        shown = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
        raise InputError(
            f"no column {', '.join(map(repr, missing))}.",
            path=path,
            line=line,
            remedy=f"The header has: {shown}. Name another column.",
        )


def _ragged(lines: Sequence[int], rows: Sequence[Sequence[str]]) -> int | None:
    """Return the line of the first row that has not as many cells as the header."""
    return next((line for line, row in zip(lines, rows, strict=True) if len(row) != len(rows[0])), None)


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    """Tell columns of one name apart: note, note.2 ...; columns without a name need none."""
    taken, seen = set(names), Counter[str]()
    told = []
    for name in names:
        seen[name] += 1
        while name and seen[name] > 1 and f"{name}.{seen[name]}" in taken:
            seen[name] += 1
        told.append(name if not name or seen[name] == 1 else f"{name}.{seen[name]}")
    return tuple(told)


def _warn_of_mojibake(path: Path, rows: Sequence[Sequence[str]]) -> None:
    found = [cell for row in rows for cell in row if _MOJIBAKE.search(cell)]
    if found:
        logger.warning(
            "%s: %d cells look like UTF-8 that was read as Windows-1252 (Ã© for é): export them anew.",
            path,
            len(found),
        )
