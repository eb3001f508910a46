"""Concepts on disk: which concepts each string names, and what is shown of a concept.

A string may name several concepts and a concept has several strings. A string is stored once, whatever the
number of its atoms, and its row is also the row of its vector. The tables are Arrow files that are mapped
into memory: opening them reads nothing, and processes share what they read.
"""

from __future__ import annotations

import mmap
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from deft.errors import InputError, one_line
from deft.files import atomic_write, release, rises, within
from deft.terminology.cui import cui_of, is_cui, number_of
from deft.terminology.lay import LAY

if TYPE_CHECKING:
    import pandas as pd

_COUNT, _FLAG, _TEXT, _LABEL = (
    pa.int32(),
    pa.uint8(),
    pa.large_string(),
    pa.dictionary(pa.int32(), pa.string()),
)

_NUMPY = {_COUNT: np.int32, _FLAG: np.uint8}

SCHEMAS = {
    "atoms": pa.schema(
        {
            "string": _COUNT,
            "concept": _COUNT,
            "language": _LABEL,
            "source": _LABEL,
            "term_type": _LABEL,
            "preferred": _FLAG,
            "code": _TEXT,
        }
    ),
    "concepts": pa.schema(
        {
            "cui": _COUNT,
            "name": _TEXT,
            "semantic_types": _LABEL,
            "definition": _TEXT,
            "definition_source": _LABEL,
            "atoms": _COUNT,
            "sources": _COUNT,
            "mesh": _FLAG,
        }
    ),
    "retired": pa.schema({"cui": _COUNT, "target": _COUNT}),
    "strings": pa.schema({"string": _TEXT, "first_atom": _COUNT}),
}
"""The tables and their columns; a CUI is stored as its number."""

# by how much the next row is more than the one before
_SORTED = {
    ("strings", "first_atom"): 1,
    ("atoms", "string"): 0,
    ("concepts", "cui"): 1,
    ("retired", "cui"): 0,
}

FILES = tuple(f"{name}.arrow" for name in SCHEMAS)

DAMAGED = "Build the index again. `deft index verify` tells what is damaged."
"""What to do about a damaged index."""

# What pyarrow raises at a damaged file
_UNREADABLE = (OSError, ValueError, TypeError, KeyError, OverflowError, MemoryError, pa.ArrowException)
_CUIS = 10**7


@dataclass(frozen=True, eq=False)
class Labels:
    """A column of few distinct values: the code of each row, and the value of each code."""

    codes: np.ndarray
    values: tuple[str, ...]

    def at(self, row: int) -> str:
        """Return the value of a row."""
        return str(self.values[self.codes[row]])

    def isin(self, wanted: Iterable[str]) -> np.ndarray:
        """Return which rows have one of the values, bool of shape (rows,)."""
        chosen = set(wanted)
        return np.asarray(np.array([value in chosen for value in self.values], dtype=bool)[self.codes])


@dataclass(frozen=True, eq=False)
class Texts:
    """A column of texts, by the bytes that lie on the disk: `starts` of shape (rows + 1,) and `data`."""

    starts: np.ndarray
    data: memoryview

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    def raw(self, row: int) -> bytes:
        """Return a text in UTF-8."""
        return bytes(self.data[self.starts[row] : self.starts[row + 1]])

    def at(self, row: int) -> str:
        """Return a text; what is damaged in it shows as a sign of its own."""
        return self.raw(row).decode(errors="replace")


@dataclass(frozen=True, eq=False)
class Concepts:
    """The strings, atoms and concepts of a terminology.

    Attributes
    ----------
    tables
        ``strings``: column `string`, the distinct strings, sorted, and `first_atom`, the row of the first of
        its atoms.
        ``atoms``: columns `string` (row in strings), `concept` (row in concepts), `language`, `source`,
        `term_type`, `preferred`, `code`; sorted by string, and for one string the atoms that tell most about
        it first.
        ``concepts``: columns `cui`, `name`, `semantic_types` (TUIs, separated by ``;``), `definition` (""
        where there is none) and its source, the numbers of its `atoms` and `sources`, and whether it is in
        the Medical Subject Headings (`mesh`); sorted by CUI.
        ``retired``: columns `cui` and `target`: CUIs of earlier releases, and the concept of this one that
        each became (a synonym: relation SY of MRCUI); sorted.
    maps
        The files that the tables lie in.
    """

    tables: Mapping[str, pa.Table]
    maps: tuple[mmap.mmap, ...] = ()

    def __post_init__(self) -> None:
        """Give the tables their columns, each in one piece."""
        tables = {name: _whole(self.tables[name], schema) for name, schema in SCHEMAS.items()}
        object.__setattr__(self, "tables", tables)

    def save(self, folder: Path) -> None:
        """Write the tables into a folder that exists; that of the strings comes last."""
        for name, file in zip(SCHEMAS, FILES, strict=True):
            table = self.tables[name]
            with (
                atomic_write(folder / file, binary=True) as stream,
                pa.ipc.new_file(stream, table.schema) as to,
            ):
                to.write_table(table)

    @classmethod
    def open(cls, folder: Path) -> Concepts:
        """Map the tables that `save` wrote into memory.

        Raises
        ------
        InputError
            A table is missing, damaged or of another form. What is looked up by number is checked to lie
            where it should; a text may still have other letters.
        """
        tables, maps = {}, []
        for name, file in zip(SCHEMAS, FILES, strict=True):
            try:
                with (folder / file).open("rb") as stream:
                    maps.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
                tables[name] = pa.ipc.open_file(pa.py_buffer(maps[-1])).read_all()
                whole = tables[name].schema == SCHEMAS[name] and all(map(_is_whole, tables[name].columns))
            except _UNREADABLE as error:
                raise InputError(
                    f"cannot be read ({one_line(error)}).", path=folder / file, remedy=DAMAGED
                ) from error
            if not whole:
                raise InputError("does not have the columns it should.", path=folder / file, remedy=DAMAGED)
        concepts = cls(tables, tuple(maps))
        for (table, column), sound in concepts._sound():
            if not sound:
                raise InputError("is damaged.", path=folder / f"{table}.arrow", field=column, remedy=DAMAGED)
        concepts.release()
        return concepts

    def _sound(self) -> Iterator[tuple[tuple[str, str], bool]]:
        """Yield, for each column by which something is looked up, whether it leads to what is there."""
        rows = self.rows
        for place in _columns(_LABEL):
            labels = self._column(*place)
            yield place, within(_values(labels.indices), len(labels.dictionary))
        for place in _columns(_TEXT):
            texts = self.texts(*place)
            yield place, within(texts.starts, len(texts.data) + 1) and rises(texts.starts)
        ranges = {
            ("atoms", "string"): (0, rows["strings"]),
            ("atoms", "concept"): (0, rows["concepts"]),
            ("strings", "first_atom"): (0, rows["atoms"]),
            ("concepts", "atoms"): (1, rows["atoms"] + 1),
            ("concepts", "sources"): (1, rows["atoms"] + 1),
            **dict.fromkeys([("concepts", "cui"), ("retired", "cui"), ("retired", "target")], (0, _CUIS)),
            **dict.fromkeys(_columns(_FLAG), (0, 2)),
        }
        for place, (start, stop) in ranges.items():
            yield place, within(self.numbers(*place), stop, start=start)
        for place, least in _SORTED.items():
            yield place, rises(self.numbers(*place), least=least)

    def release(self) -> None:
        """Give the pages of the files back to the system (`deft.files.release`)."""
        for mapped in self.maps:
            release(mapped)

    @property
    def rows(self) -> dict[str, int]:
        """Numbers of strings, atoms and concepts."""
        return {name: len(self.tables[name]) for name in ("strings", "atoms", "concepts")}

    def numbers(self, table: str, column: str) -> np.ndarray:
        """Return a column of numbers, mapped, of shape (rows,)."""
        return self._numbers[table, column]

    def labels(self, table: str, column: str) -> Labels:
        """Return a column of few distinct values."""
        coded = self._column(table, column)
        return Labels(_values(coded.indices), tuple(coded.dictionary.to_pylist()))

    def texts(self, table: str, column: str) -> Texts:
        """Return a column of texts, mapped."""
        return self._texts[table, column]

    def all_strings(self, *, start: int = 0, size: int = 1 << 16) -> Iterator[list[str]]:
        """Yield the strings from row `start` on, in lists of `size`."""
        column = self._column("strings", "string")
        for first in range(start, len(column), size):
            yield column.slice(first, size).to_pylist()

    def cui(self, row: int) -> str:
        """Return the CUI of a concept."""
        return cui_of(self.numbers("concepts", "cui")[row])

    def atoms_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the row of the first atom of each string, and the number of its atoms."""
        first = self.numbers("strings", "first_atom")
        after = np.minimum(rows + 1, len(first) - 1)
        ends = np.where(rows + 1 < len(first), first[after], len(self.tables["atoms"]))
        return first[rows], ends - first[rows]

    def row_of(self, cui: str) -> int | None:
        """Return the row of a concept, None if it is not there."""
        if not is_cui(cui):
            return None
        number, numbers = number_of(cui), self.numbers("concepts", "cui")
        row = int(np.searchsorted(numbers, number))
        return row if row < len(numbers) and numbers[row] == number else None

    def row_of_string(self, string: str) -> int:
        """Return the row of a string, -1 if it is not there."""
        strings, key = self.texts("strings", "string"), string.encode()
        row = bisect_left(range(len(strings)), key, key=strings.raw)
        return row if row < len(strings) and strings.raw(row) == key else -1

    def names(self, cuis: Iterable[str], language: str) -> dict[str, set[str]]:
        """Return the names that concepts have in a language, those that are there; lay phrases are none."""
        of = {row: cui for cui in cuis if (row := self.row_of(cui)) is not None}
        owner, string = self.numbers("atoms", "concept"), self.numbers("atoms", "string")
        kept = np.isin(owner, list(of)) & self.labels("atoms", "language").isin([language])
        kept &= ~self.labels("atoms", "term_type").isin([LAY])
        strings, found = self.texts("strings", "string"), {cui: set[str]() for cui in of.values()}
        for atom in np.flatnonzero(kept):
            found[of[int(owner[atom])]].add(strings.at(string[atom]))
        return found

    def current(self, cui: str) -> tuple[str, ...]:
        """Return the CUIs that a retired one became, or the CUI itself."""
        if not is_cui(cui) or self.row_of(cui) is not None:
            return (cui,)
        number = number_of(cui)
        first, last = np.searchsorted(self.numbers("retired", "cui"), [number, number + 1])
        return tuple(map(cui_of, self.numbers("retired", "target")[first:last])) or (cui,)

    def follow(self, cuis: Iterable[str]) -> frozenset[str]:
        """Return CUIs with the retired ones replaced by what they became."""
        return frozenset(target for cui in cuis for target in self.current(cui))

    @cached_property
    def cuis(self) -> frozenset[str]:
        """Every CUI that has a string."""
        return frozenset(map(cui_of, self.numbers("concepts", "cui")))

    # What follows reads whole tables into memory: for preparation, evaluation and studies, not for a query.

    @cached_property
    def strings(self) -> pd.DataFrame:
        """The table of strings."""
        return self._frame("strings")

    @cached_property
    def atoms(self) -> pd.DataFrame:
        """The table of atoms."""
        return self._frame("atoms").astype({"preferred": bool})

    @cached_property
    def concepts(self) -> pd.DataFrame:
        """The table of concepts."""
        frame = self._frame("concepts").astype({"mesh": bool})
        return frame.assign(cui=[cui_of(number) for number in frame["cui"]])

    def _frame(self, name: str) -> pd.DataFrame:
        frame: pd.DataFrame = self.tables[name].to_pandas()
        labels = [column.name for column in SCHEMAS[name] if column.type == _LABEL]
        return frame.astype(dict.fromkeys(labels, "str"))

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], np.ndarray]:
        return {place: _values(self._column(*place)) for place in _columns(_COUNT, _FLAG)}

    @cached_property
    def _texts(self) -> dict[tuple[str, str], Texts]:
        found = {}
        for place in _columns(_TEXT):
            array = self._column(*place)
            _, starts, data = array.buffers()
            first = array.offset
            bounds = np.zeros(1, np.int64) if starts is None else np.frombuffer(starts, np.int64)
            found[place] = Texts(bounds[first : first + len(array) + 1], memoryview(data or b""))
        return found

    def _column(self, table: str, column: str) -> pa.Array:
        return self.tables[table].column(column).chunk(0)


def _columns(*kinds: pa.DataType) -> list[tuple[str, str]]:
    """Return the columns of a kind, each with its table."""
    return [(name, field.name) for name, schema in SCHEMAS.items() for field in schema if field.type in kinds]


def _is_whole(column: pa.ChunkedArray) -> bool:
    """Tell whether a column is in one piece, without gaps, and fits in its buffers."""
    if column.num_chunks > 1 or column.null_count:
        return False
    for chunk in column.chunks:
        chunk.validate()
        if isinstance(chunk, pa.DictionaryArray):  # its few values become objects of Python
            chunk.dictionary.validate(full=True)
            if chunk.dictionary.null_count:
                return False
    return True


def _whole(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a schema, each in one piece."""
    columns = []
    for field in schema:
        column = table.column(field.name)
        if column.num_chunks != 1 or column.type != field.type:
            column = _piece(column, field.type)
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)


def _piece(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if not column.num_chunks:
        return pa.nulls(0, kind)
    if kind == _LABEL:
        return column.combine_chunks().dictionary_encode().cast(kind)
    return column.cast(kind).combine_chunks()


def _values(array: pa.Array) -> np.ndarray:
    """Return numbers where they lie (`pa.Array.to_numpy` imports pandas)."""
    kind = _NUMPY[array.type]
    data = array.buffers()[1]
    values: np.ndarray = np.frombuffer(data, kind) if data is not None else np.zeros(0, kind)
    return values[array.offset : array.offset + len(array)]
