"""Lay lexicons, and gold mappings of their terms to concepts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from deft.corpora.delimited import read_rows, read_table
from deft.errors import InputError
from deft.terminology.cui import is_cui
from deft.terminology.semantic_groups import GROUPS
from deft.text import clean

if TYPE_CHECKING:
    import pandas as pd

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
    """

    number: int
    text: str
    group: str
    cells: Mapping[str, str] = field(hash=False)
    note: str = ""


def read_terms(path: str | Path, column: str = "Terme") -> list[str]:
    """Read one column of a table, a term a row, in file order.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a term is empty.
    """
    return _terms(path, read_table(path, (column,)), column)


def read_queries(path: str | Path, column: str = "Terme", group_column: str | None = None) -> list[QueryRow]:
    """Read the rows of a table of terms that a person made, every one.

    What can be mapped is: a row without a term is kept as one without, a line in another encoding is guessed,
    a group that does not exist is dropped, each with a logged warning that names the line.

    Raises
    ------
    InputError
        The file is no table, a column is not there, or there is no term at all.
    """
    columns = (column,) if group_column is None else (column, group_column)
    rows: list[QueryRow] = []
    without: list[int] = []
    for number, (line, cells) in enumerate(read_rows(path, columns, mixed=True), start=1):
        text, group = clean(cells[column]), "" if group_column is None else cells[group_column].strip()
        if group not in {"", *GROUPS}:
            logger.warning(
                "%s, line %s: there is no semantic group %r; none is asked for.", path, line, group
            )
            group = ""
        note = "" if text and text not in _MISSING else "the cell holds no term"
        without += [line] if note else []
        rows.append(QueryRow(number, text, group, cells, note))
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
    table = read_table(path, (term,))
    terms = _terms(path, table, term)
    blank = [""] * len(terms)
    explanations = table[explanation].map(clean) if explanation in table else blank
    origins = table[sources].map(clean) if sources in table else blank
    return [LexiconEntry(*row) for row in zip(terms, explanations, origins, strict=True)]


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
    table = read_table(path, (query_column, cui_column, *where, *columns))
    for column, value in where.items():
        kept = table[table[column] == value]
        if kept.empty:
            found = ", ".join(sorted(table[column].unique())[:10])
            raise InputError(f"no row with {value!r}.", path=path, field=column, remedy=f"It has {found}.")
        table = kept
    queries, answers = _terms(path, table, query_column), _cuis(path, table, cui_column)
    others = [name for name in table.columns if name not in {query_column, cui_column, ""}]
    rows = table[others].map(clean).to_dict("records")
    return [
        GoldMapping(query, cuis, {str(name): value for name, value in row.items()})
        for query, cuis, row in zip(queries, answers, rows, strict=True)
    ]


def read_cuis(path: str | Path, column: str = "CUI") -> list[frozenset[str]]:
    """Read a column of CUIs, several separated by ``;``, a set a row.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a CUI is malformed or missing.
    """
    return _cuis(path, read_table(path, (column,)), column)


def _terms(path: str | Path, table: pd.DataFrame, column: str) -> list[str]:
    terms = [clean(value) for value in table[column]]
    for line, term in zip(table.index, terms, strict=True):
        if not term:
            remedy = "Fill it in or remove the row."
            raise InputError("is empty.", path=path, line=line, field=column, remedy=remedy)
    return terms


def _cuis(path: str | Path, table: pd.DataFrame, column: str) -> list[frozenset[str]]:
    rows = []
    for line, cell in zip(table.index, table[column], strict=True):
        cuis = frozenset(cui.strip() for cui in cell.split(";") if cui.strip())
        wrong = sorted(cui for cui in cuis if not is_cui(cui))
        if wrong or not cuis:
            found = ", ".join(wrong) or "nothing"
            problem = f"expected CUIs such as C0012569, found {found}."
            remedy = "Separate several CUIs by semicolons."
            raise InputError(problem, path=path, line=line, field=column, remedy=remedy)
        rows.append(cuis)
    return rows
