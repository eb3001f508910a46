"""Vectors of strings on disk, so that an index can be built again without embedding anything twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deft.errors import InputError
from deft.files import atomic_folder, read_json, write_json
from deft.index.dense import VECTORS, open_vectors, quantize_vectors, rows_written, write_vectors
from deft.progress import Progress
from deft.terminology.concepts import Concepts
from deft.terminology.lexicon import read_terms
from deft.text import clean

if TYPE_CHECKING:
    from deft.encoder.runtime import Encoder

INFO = "vectors.json"

_STRINGS = 1 << 14  # embedded and written at once

_AGAIN = "Run `deft encode` again."


@dataclass(frozen=True)
class StoredVectors:
    """Vectors found by their string.

    Attributes
    ----------
    fingerprint
        The encoder that made them.
    strings
        Distinct strings.
    vectors
        float32 unit vectors of shape (len(strings), d), mapped from disk.
    """

    fingerprint: str
    strings: Sequence[str]
    vectors: np.ndarray

    def rows_of(self, strings: Sequence[str]) -> np.ndarray:
        """Return the row of each string, -1 where there is none."""
        return np.array([self._rows.get(string, -1) for string in strings], dtype=np.int64)

    def directions(self, rows: np.ndarray) -> np.ndarray:
        """Return the directions of rows, int8 of shape (rows, d)."""
        return quantize_vectors(self.vectors[rows])

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {string: row for row, string in enumerate(self.strings)}

    @classmethod
    def open(cls, folder: Path) -> StoredVectors:
        """Open what `encode_to_folder` wrote.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        info = read_json(folder / INFO)
        try:
            fingerprint = str(info["fingerprint"])
            strings = pq.read_table(folder / "strings.parquet")["string"].to_pylist()
            vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"cannot be read ({error}).", path=folder, remedy=_AGAIN) from error
        if len(strings) != len(vectors):
            problem = f"holds {len(strings)} strings and {len(vectors)} vectors."
            raise InputError(problem, path=folder, remedy=_AGAIN)
        return cls(fingerprint, strings, vectors)


def read_texts(path: Path, column: str) -> list[str]:
    """Read the distinct texts of a column of a table (Parquet, CSV or TSV), in order.

    Raises
    ------
    InputError
        The file is no table, the column is not there, or a text is empty.
    """
    if path.suffix != ".parquet":
        return list(dict.fromkeys(read_terms(path, column)))
    try:
        texts = pq.read_table(path, columns=[column])[column].to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot be read ({error}).", path=path, field=column) from error
    for row, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not clean(text):
            raise InputError(f"row {row} holds no text.", path=path, field=column)
    return list(dict.fromkeys(texts))


def encode_to_folder(
    strings: Sequence[str], encoder: Encoder, out: Path, *, progress: bool = False
) -> StoredVectors:
    """Encode distinct strings and write them with their vectors to the folder `out`.

    Raises
    ------
    InputError
        A string is empty, or `out` cannot be written.
    """
    strings = list(dict.fromkeys(strings))
    with atomic_folder(out, marker=INFO) as folder:
        vectors = encoder.encode(strings, progress=progress)
        table = pa.table({"string": pa.array(strings, pa.string())})
        pq.write_table(table, folder / "strings.parquet", compression="zstd")
        np.save(folder / "vectors.npy", vectors)
        info = {
            "fingerprint": encoder.fingerprint,
            "dimension": encoder.dimension,
            "strings": len(strings),
        }
        write_json(folder / INFO, info)
    return StoredVectors(encoder.fingerprint, strings, vectors)


def embed(
    concepts: Concepts, encoder: Encoder, folder: Path, known: Known | None = None, *, progress: bool = False
) -> None:
    """Write the directions of all strings of `concepts` into `folder`; rows that are there are skipped.

    Whatever kills it, a part of `_STRINGS` strings is all that is lost.

    Raises
    ------
    InputError
        `known` is of another encoder.
    """
    if known is not None and known.fingerprint != encoder.fingerprint:
        remedy = "Run `deft encode` with this encoder, or leave out what was embedded before."
        raise InputError("the stored vectors were made by another encoder.", remedy=remedy)
    path, count = folder / VECTORS, concepts.rows["strings"]
    written = rows_written(path, count, encoder.dimension)
    written -= written % _STRINGS if written < count else 0  # strings are embedded in the same company
    with Progress(total=count, initial=written, disable=not progress, unit="string", desc="embed") as bar:

        def blocks() -> Iterator[np.ndarray]:
            for strings in concepts.all_strings(start=written, size=_STRINGS):
                yield _directions(strings, encoder, known)
                bar.update(len(strings))

        write_vectors(path, blocks(), written, (count, encoder.dimension))


def _directions(strings: list[str], encoder: Encoder, known: Known | None) -> np.ndarray:
    """Return the directions of strings, int8 of shape (strings, d), from `known` where it has them."""
    rows = np.full(len(strings), -1) if known is None else known.rows_of(strings)
    directions = np.empty((len(strings), encoder.dimension), dtype=np.int8)
    if known is not None:
        directions[rows >= 0] = known.directions(rows[rows >= 0])
    missing = [strings[int(place)] for place in np.flatnonzero(rows < 0)]
    if missing:
        directions[rows < 0] = quantize_vectors(encoder.encode(missing))
    return directions


class Known(Protocol):
    """Directions of strings that were embedded before."""

    @property
    def fingerprint(self) -> str:
        """The encoder that made them."""

    def rows_of(self, strings: Sequence[str]) -> np.ndarray:
        """Return the row of each string, -1 where there is none."""

    def directions(self, rows: np.ndarray) -> np.ndarray:
        """Return int8 of shape (rows, d)."""


class OldIndex:
    """The directions of an index.

    Parameters
    ----------
    folder
        An index.
    fingerprint
        Its encoder.
    concepts
        Its tables.
    """

    def __init__(self, folder: Path, fingerprint: str, concepts: Concepts) -> None:
        self.fingerprint = fingerprint
        self._strings = concepts
        self._vectors = open_vectors(folder)

    def rows_of(self, strings: Sequence[str]) -> np.ndarray:
        """Return the row of each string, -1 where there is none."""
        return np.array([self._strings.row_of_string(string) for string in strings], dtype=np.int64)

    def directions(self, rows: np.ndarray) -> np.ndarray:
        """Return int8 of shape (rows, d)."""
        return np.asarray(self._vectors[rows])
