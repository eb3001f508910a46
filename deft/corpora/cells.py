"""What a spreadsheet would compute is marked as text in the tables that it may open, and read back as it was.

A spreadsheet takes a cell that begins with ``=``, ``+``, ``-`` or ``@`` for a formula, whoever wrote it
(https://owasp.org/www-community/attacks/CSV_Injection), and "- toux" becomes an error. An apostrophe before
it is what spreadsheets themselves mark text with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORMULA = r"(?:'*[\t\r\n]|['\s]*[=+\-@＝＋－＠])"
_UNSAFE = re.compile(_FORMULA)
_GUARDED = re.compile(f"'{_FORMULA}")
_NUMBER = re.compile(r"-[0-9]+(?:[.,][0-9]+)?")


def guard(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would compute; a plain negative number stays a number.

    A text that has apostrophes before its sign already gets one more, so that `unguard` gives it back.
    """
    return f"'{text}" if _UNSAFE.match(text) and not _NUMBER.fullmatch(text) else text


def guard_row(cells: Iterable[object]) -> list[object]:
    """Guard the cells of a row that are texts."""
    return [guard(cell) if isinstance(cell, str) else cell for cell in cells]


def unguard(cell: str) -> str:
    """Return what was guarded; other cells stay as they are."""
    return cell[1:] if _GUARDED.match(cell) else cell
