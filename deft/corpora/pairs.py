"""Tables of sentence pairs: graded pairs and parallel text."""

from __future__ import annotations

from pathlib import Path

from deft.corpora.deft2020 import MAX_GRADE, SentencePair
from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.text import clean


def read_pairs(
    path: str | Path,
    source: str = "sentence1",
    target: str = "sentence2",
    grade: str | None = "score",
    *,
    highest: float = MAX_GRADE,
) -> list[SentencePair]:
    """Read a table of sentence pairs; `grade=None` reads parallel text, without grades.

    Parameters
    ----------
    path
        CSV or TSV with a header.
    source, target, grade
        Names of the columns.
    highest
        The grade of two sentences that mean the same; grades are brought to the scale from 0 to 5.

    Raises
    ------
    InputError
        The file is no table, a column is not there, a sentence is empty, or a grade is no number from 0 to
        `highest`.
    """
    pairs: list[SentencePair] = []
    for line, row in read_rows(path, (source, target) if grade is None else (source, target, grade)):
        texts = _text(path, line, source, row[source]), _text(path, line, target, row[target])
        number = None if grade is None else _grade(path, line, grade, row[grade], highest)
        pairs.append(SentencePair(str(len(pairs)), *texts, number))
    return pairs


def _text(path: str | Path, line: int, field: str, value: str) -> str:
    text = clean(value)
    if not text:
        raise InputError(
            "is empty.", path=path, line=line, field=field, remedy="Fill it in or remove the row."
        )
    return text


def _grade(path: str | Path, line: int, field: str, value: str, highest: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= highest:
        found = f"expected a number from 0 to {highest:g}, found {value!r}."
        raise InputError(found, path=path, line=line, field=field)
    return MAX_GRADE * number / highest
