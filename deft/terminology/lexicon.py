"""Lay lexicons, and gold mappings of their terms to concepts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from deft.corpora.tables import read_table
from deft.errors import InputError
from deft.text import clean

_CUI = re.compile(r"C\d{7}")


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """A term of a lexicon, its explanation for the general public and the sources it was taken from ("" where unknown)."""

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
    table = read_table(path, (column,))
    terms = [clean(value) for value in table[column]]
    for line, term in zip(table.index, terms, strict=True):
        if not term:
            raise InputError(
                "is empty.", path=path, line=int(line), field=column, remedy="Fill it in or remove the row."
            )
    return terms


def read_lexicon(
    path: str | Path,
    *,
    term: str = "Terme",
    explanation: str = "Explication au grand public",
    sources: str = "Sources",
) -> list[LexiconEntry]:
    """Read a lay lexicon; the defaults are the column names of Bouaggad and Grabar (2025). Only the column of terms must be there.

    Raises
    ------
    InputError
        The file is no table, the column of terms is not there, or a term is empty.
    """
    terms = read_terms(path, term)
    table = read_table(path)
    blank = [""] * len(terms)
    explanations = table[explanation].map(clean).to_list() if explanation in table else blank
    origins = table[sources].map(clean).to_list() if sources in table else blank
    return [LexiconEntry(*row) for row in zip(terms, explanations, origins, strict=True)]


def read_gold(path: str | Path, query_column: str = "Terme", cui_column: str = "CUI") -> list[GoldMapping]:
    """Read a gold mapping: a table with a column of queries and one of CUIs, several separated by ``;``.

    Raises
    ------
    InputError
        The file is no table, a column is not there, a query is empty, or a CUI is malformed or missing.
    """
    queries = read_terms(path, query_column)
    return [GoldMapping(*row) for row in zip(queries, read_cuis(path, cui_column), strict=True)]


def read_cuis(path: str | Path, column: str = "CUI") -> list[frozenset[str]]:
    """Read a column of CUIs, several separated by ``;``, a set a row.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a CUI is malformed or missing.
    """
    table = read_table(path, (column,))
    rows = []
    for line, cell in table[column].items():
        cuis = frozenset(cui.strip() for cui in str(cell).split(";") if cui.strip())
        wrong = sorted(cui for cui in cuis if not _CUI.fullmatch(cui))
        if wrong or not cuis:
            found = ", ".join(wrong) or "nothing"
            raise InputError(
                f"expected CUIs such as C0012569, found {found}.",
                path=path,
                line=int(str(line)),
                field=column,
            )
        rows.append(cuis)
    return rows
