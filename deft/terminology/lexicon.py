"""Lay lexicons, and gold mappings of their terms to concepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deft.corpora.tables import read_table
from deft.errors import InputError
from deft.text import clean

_CUI = re.compile(r"C[0-9]{7}")


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """A term, its explanation for the general public and the sources it was taken from ("" where unknown)."""

    term: str
    explanation: str = ""
    sources: str = ""


@dataclass(frozen=True, slots=True)
class GoldMapping:
    """A query and every concept that is a right answer to it."""

    query: str
    cuis: frozenset[str]


def read_terms(path: str | Path, column: str = "Terme") -> list[str]:
    """Read one column of a table, a term a row, in file order.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a term is empty.
    """
    return _terms(path, read_table(path, (column,)), column)


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
) -> list[GoldMapping]:
    """Read a gold mapping: a table with a column of queries and one of CUIs, several separated by ``;``.

    Parameters
    ----------
    path
        CSV or TSV with a header.
    query_column, cui_column
        Names of the columns.
    where
        Keep the rows that have these values in these columns, such as ``{"part": "dev"}``.

    Raises
    ------
    InputError
        The file is no table, a column is not there, no row is kept, a query is empty, or a CUI is malformed
        or missing.
    """
    where = where or {}
    table = read_table(path, (query_column, cui_column, *where))
    for column, value in where.items():
        kept = table[table[column] == value]
        if kept.empty:
            found = ", ".join(sorted(table[column].unique())[:10])
            raise InputError(f"no row with {value!r}.", path=path, field=column, remedy=f"It has {found}.")
        table = kept
    rows = zip(_terms(path, table, query_column), _cuis(path, table, cui_column), strict=True)
    return [GoldMapping(*row) for row in rows]


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
        wrong = sorted(cui for cui in cuis if not _CUI.fullmatch(cui))
        if wrong or not cuis:
            found = ", ".join(wrong) or "nothing"
            problem = f"expected CUIs such as C0012569, found {found}."
            remedy = "Separate several CUIs by semicolons."
            raise InputError(problem, path=path, line=line, field=column, remedy=remedy)
        rows.append(cuis)
    return rows
