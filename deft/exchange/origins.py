"""The rows of a table that queries came from: their numbers and columns go along into every output."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from deft.mapping import results
from deft.text import fold

if TYPE_CHECKING:
    from deft.mapping.mapper import TermMapper
    from deft.terminology.lexicon import QueryRow

_T = TypeVar("_T")

ROW = "row"
"""Column with the number of the row."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a query came from.

    Attributes
    ----------
    row
        Number of its row in the table, from 1 for the first below the header.
    columns
        What of that row goes along, by column.
    """

    row: int
    columns: Mapping[str, str] = field(default_factory=dict, hash=False)


def with_origins(items: Iterable[_T], origins: Sequence[Origin] | None) -> Iterator[tuple[_T, Origin | None]]:
    """Yield each item with where it came from, None where that is not known.

    Raises
    ------
    ValueError
        There are not as many origins as items.
    """
    if origins is None:
        yield from ((item, None) for item in items)
    else:
        yield from zip(items, origins, strict=True)


def labels(origins: Sequence[Origin] | None, taken: Collection[str]) -> dict[str, str]:
    """Return what each column that goes along is called in an output, ``row.NAME`` if its name is taken."""
    used = {fold(name) for name in (*taken, ROW)}
    named: dict[str, str] = {}
    for name in dict.fromkeys(name for origin in origins or () for name in origin.columns):
        label = name
        while fold(label) in used:
            label = f"{ROW}.{label}"
        used.add(fold(label))
        named[name] = label
    return named


def origins_of(rows: Iterable[QueryRow], *, columns: bool) -> list[Origin]:
    """Return where the rows of a table are from, with all their columns that have a name if `columns`."""
    return [
        Origin(row.number, {name: cell for name, cell in row.cells.items() if name and columns})
        for row in rows
    ]


def map_rows(mapper: TermMapper, rows: Sequence[QueryRow], **options: Any) -> list[results.Mapping]:  # noqa: ANN401
    """Map the terms of a table, one mapping a row: a row without a term has no match, and a note says why.

    The options are those of `TermMapper.map`.
    """
    asked = [row for row in rows if not row.note]
    groups, contexts = [row.group for row in asked], [row.context for row in asked]
    answers = iter(mapper.map([row.text for row in asked], groups=groups, contexts=contexts, **options))
    return [
        results.Mapping(row.text, (), note=row.note, no_match=1.0) if row.note else next(answers)
        for row in rows
    ]
