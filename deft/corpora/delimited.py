"""Tables with a header: CSV or TSV, any delimiter, UTF-8 with or without byte order mark."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deft.corpora.cells import unguard
from deft.errors import InputError
from deft.files import read_text

if TYPE_CHECKING:
    import pandas as pd

_USUAL = ",;\t|"


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table as they were read.

    Attributes
    ----------
    names
        Names of the columns.
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


def read_table(path: str | Path, columns: tuple[str, ...] = (), *, mixed: bool = False) -> pd.DataFrame:
    """Read a table of strings, as `read_rows` does, into a data frame.

    Returns
    -------
    pd.DataFrame
        All columns, all as strings, in file order; the index is the line on which each row starts.
    """
    import pandas as pd  # a term is mapped without it

    rows = read_rows(path, columns, mixed=mixed)
    return pd.DataFrame(rows.cells, columns=list(rows.names), index=rows.lines, dtype="str")


def read_rows(path: str | Path, columns: tuple[str, ...] = (), *, mixed: bool = False) -> Rows:
    """Read a table of strings; empty cells are "", and what was guarded from spreadsheets is as it was.

    The delimiter is a tab in a `.tsv`, where quotes are letters like others. Elsewhere it is the character of
    the header that parts it into the wanted columns: the one of ``, ; tab |`` that it holds most often, or
    any other.

    Parameters
    ----------
    path
        The file, `.gz` allowed; "-" is standard input.
    columns
        Columns that must be there.
    mixed
        Take lines that are not UTF-8 for Windows-1252 (`deft.files.read_text`).

    Raises
    ------
    InputError
        The file is missing, empty, not UTF-8 or ragged, or a column is not there.
    """
    path = Path(path)
    text = read_text(path, mixed=mixed)
    lines, rows = _parse(path, text, columns)
    rows = [[unguard(cell) for cell in row] for row in rows]
    names = [name.strip() for name in rows[0]]
    _check_columns(path, lines[0], names, columns)
    for line, row in zip(lines, rows, strict=True):
        if len(row) != len(names):
            raise InputError(
                f"expected {len(names)} fields as in the header, found {len(row)}.",
                path=path,
                line=line,
                remedy="Is a delimiter or a quote missing, or one too many?",
            )
    return Rows(tuple(names), lines[1:], rows[1:])


def _parse(path: Path, text: str, columns: tuple[str, ...]) -> tuple[list[int], list[list[str]]]:
    """Return the rows and the line on which each starts; blank lines are no rows."""
    stream = io.StringIO(text, newline="")
    if ".tsv" in path.suffixes:
        reader = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(stream, delimiter=_delimiter(text, columns), strict=True)
    lines: list[int] = []
    rows: list[list[str]] = []
    start = 1
    try:
        for row in reader:
            if row:
                lines.append(start)
                rows.append(row)
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"is not a readable table ({error}).", path=path, line=start) from error
    if not rows:
        raise InputError("is empty.", path=path, remedy="A header and a row a term were expected.")
    return lines, rows


def _delimiter(text: str, columns: tuple[str, ...]) -> str:
    header = next((line for line in text.splitlines() if line), "")
    bare = re.sub(r'"[^"]*"', "", header)  # what is quoted is no delimiter
    counts = Counter(char for char in bare if char == "\t" or not (char.isalnum() or char.isspace()))
    usual = sorted(_USUAL, key=lambda char: -counts[char])
    for delimiter in [*usual, *counts]:
        names = next(csv.reader([header], delimiter=delimiter), [])
        if set(columns) <= {name.strip() for name in names} and len(names) > 1:
            return delimiter
    return usual[0]


def _check_columns(path: Path, line: int, names: list[str], columns: tuple[str, ...]) -> None:
    repeated = {name for name in names if name and names.count(name) > 1}
    if repeated:
        raise InputError(f"the header names {', '.join(sorted(repeated))} twice.", path=path, line=line)
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(
            f"no column {', '.join(map(repr, missing))}.",
            path=path,
            line=line,
            remedy=f"The header has: {', '.join(map(repr, names))}. Name another column.",
        )
