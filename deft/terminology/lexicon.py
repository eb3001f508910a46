"""Lay lexicons, and gold mappings of their terms to concepts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.terminology.cui import is_cui
from deft.terminology.semantic_groups import GROUPS
from deft.text import clean

_Row: TypeAlias = tuple[int, Mapping[str, str]]

logger = logging.getLogger(__name__)

# What pandas, R and databases write for a missing value. In other letters they are terms: Na is sodium.
_MISSING = {"NA", "N/A", "n/a", "<NA>", "#N/A", "nan", "NaN", "NAN", "null", "NULL", "Null", "None"}


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """A term, its explanation for the general public and the sources it was taken from ("" where unknown)."""

    term: str
    explanation: str = ""
    sources: str = ""


@dataclass(frozen=True, slots=True)
class GoldMapping:
    """A query and every concept that is a right answer to it.

    Attributes
    ----------
    query, cuis
        The term, and the CUIs any of which answers it.
    row
        What else the file says about it, by column.
    """

    query: str
    cuis: frozenset[str]
    row: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class QueryRow:
    """A row of a table of terms.

    Attributes
    ----------
    number
        Its number, from 1 for the first below the header; blank lines do not count.
    text
        What stands in the column of terms.
    group
        The semantic group that is asked for, "" for any.
    cells
        All its cells, by column.
    note
        Why that is no term, "" if it is one.
    context
        What stands beside it, "" for nothing.
    """

    number: int
    text: str
    group: str
    cells: Mapping[str, str] = field(hash=False)
    note: str = ""
    context: str = ""


def read_terms(path: str | Path, column: str = "Terme") -> list[str]:
    """Read one column of a table, a term a row, in file order.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a term is empty.
    """
    return _terms(path, read_rows(path, (column,)), column)


def read_queries(
    path: str | Path,
    column: str = "Terme",
    group_column: str | None = None,
    context_column: str | None = None,
) -> list[QueryRow]:
    """Read the rows of a table of terms that a person made, every one.

    What can be mapped is: a row without a term is kept as one without, a line in another encoding is guessed,
    a group that does not exist is dropped, each with a logged warning that names the line.

    Raises
    ------
    InputError
        The file is no table, a column is not there, or there is no term at all.
    """
    columns = (column, *(name for name in (group_column, context_column) if name is not None))
    rows: list[QueryRow] = []
    without: list[int] = []
    for number, (line, cells) in enumerate(read_rows(path, columns), start=1):
        text, group = clean(cells[column]), "" if group_column is None else cells[group_column].strip()
        if group not in {"", *GROUPS}:
            logger.warning(
                "%s, line %s: there is no semantic group %r; none is asked for.", path, line, group
            )
            group = ""
        context = "" if context_column is None else clean(cells[context_column])
        context = "" if context in _MISSING else context
        note = "" if text and text not in _MISSING else "the cell holds no term"
        without += [line] if note else []
        rows.append(QueryRow(number, text, group, cells, note, context))
    if len(without) == len(rows):
        raise InputError("holds no term.", path=path, field=column)
    if without:
        shown = ", ".join(map(str, without[:5])) + (" ..." if len(without) > 5 else "")
        logger.warning("%s: %d rows hold no term and have no match: lines %s.", path, len(without), shown)
    return rows


def read_lexicon(
    path: str | Path,
    *,
    term: str = "Terme",
    explanation: str = "Explication au grand public",
    sources: str = "Sources",
) -> list[LexiconEntry]:
    """Read a lay lexicon. Only the column of terms must be there.

    The defaults are the column names of Bouaggad and Grabar (2025).

    Raises
    ------
    InputError
        The file is no table, the column of terms is not there, or a term is empty.
    """
    rows = read_rows(path, (term,))
    return [
        LexiconEntry(text, *(clean(row.get(name, "")) for name in (explanation, sources)))
        for text, (_, row) in zip(_terms(path, rows, term), rows, strict=True)
    ]


def read_gold(
    path: str | Path,
    query_column: str = "Terme",
    cui_column: str = "CUI",
    *,
    where: Mapping[str, str] | None = None,
    columns: Sequence[str] = (),
) -> list[GoldMapping]:
    """Read a gold mapping: a table with a column of queries and one of CUIs, several separated by ``;``.

    Every row is a query of its own, also where two are equal; its other columns are kept.

    Parameters
    ----------
    path
        CSV or TSV with a header.
    query_column, cui_column
        Names of the columns.
    where
        Keep the rows that have these values in these columns, such as ``{"part": "dev"}``.
    columns
        Other columns that must be there.

    Raises
    ------
    InputError
        The file is no table, a column is not there, no row is kept, a query is empty, or a CUI is malformed
        or missing.
    """
    where = where or {}
    rows: Iterable[_Row] = read_rows(path, (query_column, cui_column, *where, *columns))
    for column, value in where.items():
        kept = [(line, row) for line, row in rows if row[column] == value]
        if not kept:
            found = ", ".join(sorted({row[column] for _, row in rows})[:10])
            raise InputError(f"no row with {value!r}.", path=path, field=column, remedy=f"It has {found}.")
        rows = kept
    queries, answers = _terms(path, rows, query_column), _cuis(path, rows, cui_column)
    known = {query_column, cui_column, ""}
    others = [{name: clean(cell) for name, cell in row.items() if name not in known} for _, row in rows]
    return [GoldMapping(*parts) for parts in zip(queries, answers, others, strict=True)]


def read_cuis(path: str | Path, column: str = "CUI") -> list[frozenset[str]]:
    """Read a column of CUIs, several separated by ``;``, a set a row.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a CUI is malformed or missing.
    """
    return _cuis(path, read_rows(path, (column,)), column)


def _terms(path: str | Path, rows: Iterable[_Row], column: str) -> list[str]:
    terms = []
    for line, row in rows:
        term = clean(row[column])
        if not term:
            remedy = "Fill it in or remove the row."
            raise InputError("is empty.", path=path, line=line, field=column, remedy=remedy)
        terms.append(term)
    return terms


def _cuis(path: str | Path, rows: Iterable[_Row], column: str) -> list[frozenset[str]]:
    found = []
    for line, row in rows:
        cuis = frozenset(cui.strip() for cui in row[column].split(";") if cui.strip())
        wrong = sorted(cui for cui in cuis if not is_cui(cui))
        if wrong or not cuis:
            problem = f"expected CUIs such as C0012569, found {', '.join(wrong) or 'nothing'}."
            remedy = "Separate several CUIs by semicolons."
            raise InputError(problem, path=path, line=line, field=column, remedy=remedy)
        found.append(cuis)
    return found
