"""Workbooks (.xlsx), as far as a table of strings is in them; what they unpack to is limited."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from xml.etree.ElementTree import ParseError
from zipfile import BadZipFile, ZipFile

from deft.errors import InputError
from deft.files import cannot_read

_MOST_ROWS = 1_048_576  # of a sheet, in any spreadsheet
_MOST_BYTES = 512 << 20  # that the parts of a workbook unpack to
_MOST_CELLS = 20_000_000
_OLD = b"\xd0\xcf\x11\xe0"  # an .xls, or any workbook with a password
_SAVE = "Save it again as .xlsx, without a password, or as CSV UTF-8."

# RuntimeError is what encrypted parts raise, and such that are packed in a way that Python does not know.
_UNREADABLE = (BadZipFile, EOFError, LookupError, ParseError, RuntimeError, TypeError, ValueError, zlib.error)


def need_openpyxl(path: Path) -> None:
    """Raise an InputError if workbooks can be neither read nor written here."""
    try:
        import openpyxl  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(
            "is a workbook, and openpyxl is not installed.",
            path=path,
            remedy="Install it with: pip install 'deft[xlsx]', or use a .csv.",
        ) from error


def read_sheet(path: Path, title: str = "") -> tuple[list[int], list[list[str]]]:
    """Read the sheet with a title, else the first: the line of each row that is not blank, and its cells.

    Formulas give the value they had when the workbook was saved. Rows are as long as the header.

    Raises
    ------
    InputError
        openpyxl is not installed, the file is no workbook, or it holds too much.
    """
    need_openpyxl(path)
    from openpyxl import load_workbook

    try:
        with path.open("rb") as stream:
            if stream.read(len(_OLD)) == _OLD:
                raise InputError("is an old workbook, or has a password.", path=path, remedy=_SAVE)
            _check_size(path)
            book = load_workbook(stream, read_only=True, data_only=True)
            sheet = next((sheet for sheet in book.worksheets if sheet.title == title), book.worksheets[0])
            sheet.reset_dimensions()  # some programs write a wrong size
            return _cells(path, sheet.iter_rows(max_row=_MOST_ROWS, values_only=True))
    except InputError:
        raise
    except OSError as error:
        raise cannot_read(path, error) from error
    except _UNREADABLE as error:
        raise InputError("is no readable workbook.", path=path, remedy=_SAVE) from error


def _check_size(path: Path) -> None:
    with ZipFile(path) as archive:
        size = sum(part.file_size for part in archive.infolist())
    if size > _MOST_BYTES:
        problem = f"unpacks to {size >> 20} MiB, which is more than is read at once."
        raise InputError(problem, path=path, remedy="Save the sheet as CSV UTF-8.")


def _cells(path: Path, rows: Iterable[Iterable[object]]) -> tuple[list[int], list[list[str]]]:
    lines: list[int] = []
    found: list[list[str]] = []
    width = count = 0
    for line, values in enumerate(rows, start=1):
        cells = ["" if value is None else str(value) for value in values]
        while cells and not cells[-1]:
            cells.pop()
        if not cells:  # a row far below makes a million empty ones
            continue
        width = width or len(cells)
        count += len(cells)
        if count > _MOST_CELLS:
            raise InputError(f"has more than {_MOST_CELLS:,} cells.", path=path, line=line, remedy=_SAVE)
        lines.append(line)
        found.append([*cells, *[""] * (width - len(cells))])
    return lines, found
