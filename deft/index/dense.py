"""Nearest strings by cosine similarity.

Vectors are kept as directions in whole numbers, a byte a value, in a file that is mapped into memory: that
moves a cosine by less than a thousandth. A small index is searched exactly, by matrix products. In a larger
one, cells of an inverted file (Sivic and Zisserman 2003) with product-quantized codes of four bits in them
(Jégou et al. 2011; André et al. 2015, in FAISS as "fast scan") propose rows, and the vectors decide.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import faiss
import numpy as np

from deft.errors import InputError
from deft.files import release
from deft.index.arrays import open_array
from deft.terminology.concepts import DAMAGED

VECTORS, CODES = "vectors.npy", "codes.faiss"

Kind = Literal["flat", "ivf"]

FLAT_ROWS = 20_000
"""Up to this size exact search takes about a millisecond."""

TOLERANCE = 1e-5
"""More than rounding and single precision can move a cosine by."""

_CHUNK = 1 << 20  # bytes handed over at once
_DECIMALS = 6
_BLOCK = 1 << 14  # rows of a matrix product
_LARGEST = 127
_BITS, _PER_CODE = 4, 4  # four values share a code of four bits: 48 bytes stand for 1,536
_LEAST_CELLS, _MOST_CELLS = 64, 8192
_LOOKED_IN = 1 / 8  # of the cells
_LOOKED_AT = 500_000  # rows at least
_TRAINING_ROWS, _TRAINING_ROWS_A_CELL = 50_000, 40
_PROPOSED, _LEAST_PROPOSED = 6, 400  # rows that the codes propose, for each that is wanted
_RESIDENT = 1 << 28  # bytes of vectors that may all become memory of the process
_SEED = 13


if hasattr(os, "register_at_fork"):
    # threads of a search do not live on in a forked process, which would wait for them
    os.register_at_fork(after_in_child=lambda: cast("Any", faiss).omp_set_num_threads(1))


def quantize_vectors(vectors: np.ndarray) -> np.ndarray:
    """Return the directions of vectors in whole numbers: int8 of the same shape, the largest value 127."""
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    return np.asarray(np.rint(vectors * (_LARGEST / largest)), dtype=np.int8)


class DenseIndex:
    """An index of directions for the cosine, a row a string.

    Parameters
    ----------
    vectors
        int8 of shape (n, d): directions, as `quantize_vectors` gives them.
    codes
        Cells of codes that propose rows; none in an exact index.
    """

    def __init__(self, vectors: np.ndarray, codes: faiss.IndexIVF | None = None) -> None:
        self._vectors = vectors
        self._codes = codes
        self._file, self._start = None, 0
        if isinstance(vectors, np.memmap) and vectors.filename is not None and vectors.nbytes > _RESIDENT:
            # open as long as the index is: another may take its place meanwhile
            self._file, self._start = Path(vectors.filename).open("rb"), int(vectors.offset)  # noqa: SIM115

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def kind(self) -> Kind:
        """How it is searched: exactly, or by cells of codes that propose rows."""
        return "flat" if self._codes is None else "ivf"

    @property
    def search_settings(self) -> dict[str, int]:
        """What an approximate search does: number of cells, of those looked in, of rows proposed."""
        if self._codes is None:
            return {}
        return {"cells": self._codes.nlist, "looked_in": _looked_in(self._codes), "proposed": _PROPOSED}

    @classmethod
    def build(cls, vectors: np.ndarray, *, kind: Kind | None = None) -> DenseIndex:
        """Index directions, int8 of shape (n, d); the kind is chosen by their number.

        Beside the codes (an eighth of the vectors), memory holds a block of vectors and a training sample.

        Raises
        ------
        InputError
            Codes are asked for, and there are too few vectors or their length cannot be parted.
        """
        count, dimension = vectors.shape
        odd = bool(dimension % _PER_CODE)
        chosen = kind or ("flat" if count <= FLAT_ROWS or odd else "ivf")
        if chosen == "flat":
            return cls(vectors)
        if count < 1 << _BITS or odd:
            problem = f"codes cannot be made of {count} vectors of length {dimension}."
            raise InputError(problem, remedy="Choose the kind flat.")
        codes = _train(vectors)
        for block in _blocks(vectors, np.arange(count)):
            cast("Any", codes).add(block)
            release(vectors)
        return cls(vectors, codes)

    def save_codes(self, folder: Path) -> None:
        """Write the codes, if there are any, into a folder that holds the vectors (`write_vectors`)."""
        if self._codes is None:
            return
        # FAISS's own file writer says nothing when the disk is full as the file is closed; Python's does
        with (folder / CODES).open("wb") as stream:
            faiss.write_index(self._codes, cast("Any", faiss).PyCallbackIOWriter(stream.write, _CHUNK))

    @classmethod
    def open(cls, folder: Path) -> DenseIndex:
        """Open the index in a folder: its vectors are mapped into memory, its codes read (an eighth of them).

        Raises
        ------
        InputError
            A file is missing or is not of this form.
        """
        vectors = open_vectors(folder)
        if not (folder / CODES).exists():
            return cls(vectors)
        try:
            codes = faiss.read_index(str(folder / CODES))  # FAISS cannot map blocks of codes
        except RuntimeError as error:
            raise InputError("is no readable FAISS index.", path=folder / CODES, remedy=DAMAGED) from error
        if not isinstance(codes, faiss.IndexIVF) or (codes.ntotal, codes.d) != vectors.shape:
            raise InputError("is of another index.", path=folder / CODES, remedy=DAMAGED)
        return cls(vectors, codes)

    def search(
        self, queries: np.ndarray, count: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the `count` nearest rows of each query and their cosines, the nearest first.

        Sums of single precision depend on the shape of a product. The cosines of what was found are therefore
        computed again (see `cosines`): an answer does not depend on the company of its query. Equal cosines
        are ordered by row. Which rows come last among the `count` nearest is still a matter of single
        precision: rows whose cosines differ by less than `TOLERANCE` may change places there.

        Parameters
        ----------
        queries
            float32 unit vectors of shape (n, d).
        count
            Number of neighbours, at most the size of the index.
        allowed
            Which rows may be found, bool of shape (size of the index,); all if None.

        Returns
        -------
        tuple of np.ndarray
            Rows (int64) and cosines (float64), both of shape (n, count). Where fewer rows are allowed, the
            last ones are row -1 with cosine -1.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        count = min(count, len(self))
        proposed = self._propose(queries, count, allowed)
        rows = np.full((len(queries), count), -1, dtype=np.int64)
        cosines = np.full((len(queries), count), -1.0)
        for place, (query, near) in enumerate(zip(queries, proposed, strict=True)):
            exact = self.cosines(query[None, :], near)[0]
            order = np.lexsort((near, -exact))[:count]
            rows[place, : len(order)], cosines[place, : len(order)] = near[order], exact[order]
        return rows, cosines

    def cosines(self, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Return the cosine of each query with each of `rows`, float64 of shape (queries, rows).

        They are summed in double precision and rounded to six decimals, so that they depend on nothing else.
        """
        vectors = self._fetch(rows).astype(np.float64)
        lengths = _no_zero(np.sqrt((vectors * vectors).sum(axis=1)))
        # not a matrix product: the order of its sums depends on the shapes
        exact = [(vectors * query.astype(np.float64)).sum(axis=1) / lengths for query in queries]
        return np.asarray(np.round(np.stack(exact), _DECIMALS))

    def release(self) -> None:
        """Give the pages of the vectors back to the system (`deft.files.release`)."""
        release(self._vectors)

    def _fetch(self, rows: np.ndarray) -> np.ndarray:
        """Return a few rows; of a large file they are read: mapped, each comes with 64 KiB around it."""
        if self._file is None or not hasattr(os, "pread"):
            return np.asarray(self._vectors[rows])
        size, start = self.dimension, self._start
        read = [os.pread(self._file.fileno(), size, start + row * size) for row in rows.tolist()]
        return np.frombuffer(b"".join(read), dtype=np.int8).reshape(-1, size)

    def _propose(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> list[np.ndarray]:
        """Return rows for each query, at least `count` if there are, the nearest among them."""
        size = len(self) if allowed is None else int(allowed.sum())
        wanted = max(_PROPOSED * count, _LEAST_PROPOSED)
        if self._codes is None or size <= max(FLAT_ROWS, 2 * wanted):
            return self._nearest(queries, count, allowed)
        settings: dict[str, Any] = {"nprobe": _looked_in(self._codes)}
        if allowed is not None:
            settings["sel"] = cast("Any", faiss).IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        parameters = faiss.SearchParametersIVF(**settings)
        # one by one: what the codes propose may depend on the size of the batch
        found = [
            cast("Any", self._codes).search(query[None, :], wanted, params=parameters)[1][0]
            for query in queries
        ]
        proposed = [near[near >= 0] for near in found]
        if any(len(near) < count for near in proposed):  # the cells that were looked in hold too few
            return self._nearest(queries, count, allowed)
        return proposed

    def _nearest(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> list[np.ndarray]:
        """Return the `count` nearest rows and those hardly farther than the last, by matrix products."""
        best = [np.zeros(0, dtype=np.int64)] * len(queries)
        scores = [np.zeros(0, dtype=np.float32)] * len(queries)
        rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        start = 0
        for vectors in _blocks(self._vectors, rows) if len(self) > FLAT_ROWS else [self._held[rows]]:
            block = rows[start : start + len(vectors)]
            start += len(vectors)
            for place, row in enumerate(queries @ vectors.T):
                near = np.concatenate([scores[place], row])
                places = np.concatenate([best[place], block])
                if len(near) > count:
                    kept = near >= np.partition(near, -count)[-count] - TOLERANCE
                    near, places = near[kept], places[kept]
                scores[place], best[place] = near, places
        return best

    @cached_property
    def _held(self) -> np.ndarray:
        """Unit vectors of a small index, float32 of shape (n, d)."""
        return _unit(self._vectors)


def write_vectors(path: Path, blocks: Iterable[np.ndarray], written: int, shape: tuple[int, int]) -> None:
    """Write directions that come in blocks, each on the disk before the next is asked for.

    Parameters
    ----------
    path
        The file.
    blocks
        int8 of shape (any number, d), the rows from `written` on.
    written
        Rows of the file that stay (see `rows_written`).
    shape
        Of the whole.
    """
    header = _header(shape)
    with path.open("r+b" if written else "wb") as stream:
        if not written:
            stream.write(header)
        stream.truncate(len(header) + written * shape[1])
        stream.seek(0, os.SEEK_END)
        for block in blocks:
            stream.write(np.ascontiguousarray(block).data)
            stream.flush()
            os.fsync(stream.fileno())


def rows_written(path: Path, count: int, dimension: int) -> int:
    """Return how many whole rows there are of an array that may be cut off; 0 if it is of another shape."""
    header = _header((count, dimension))
    try:
        with path.open("rb") as stream:
            same = stream.read(len(header)) == header
    except OSError:
        return 0
    return min(count, (path.stat().st_size - len(header)) // dimension) if same else 0


def _header(shape: tuple[int, int]) -> bytes:
    """Return the start of a NumPy file of int8 (NumPy's NEP 1)."""
    stream = io.BytesIO()
    about = {"descr": "|i1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def open_vectors(folder: Path) -> np.ndarray:
    """Map the directions of an index into memory: int8 of shape (n, d).

    Raises
    ------
    InputError
        The file is missing or is not of this form.
    """
    return open_array(folder / VECTORS, "int8", 2)


def _train(vectors: np.ndarray) -> faiss.IndexIVF:
    """Find cells and codes on a sample; cells are so many that one holds about as many rows."""
    count, dimension = vectors.shape
    cells = int(np.clip(2 ** round(np.log2(count) / 2), _LEAST_CELLS, _MOST_CELLS))
    cells = max(1, min(cells, count // _TRAINING_ROWS_A_CELL))
    size = min(count, max(_TRAINING_ROWS, _TRAINING_ROWS_A_CELL * cells))
    sample = np.sort(np.random.default_rng(_SEED).choice(count, size, replace=False))
    kind = f"IVF{cells},PQ{dimension // _PER_CODE}x{_BITS}fs"
    codes = cast("Any", faiss).index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    codes.train(np.concatenate(list(_blocks(vectors, sample))))
    return cast("faiss.IndexIVF", codes)


def _looked_in(codes: faiss.IndexIVF) -> int:
    """Return how many cells are looked in: queries in other words than the strings have need many."""
    share = max(_LOOKED_IN, min(1.0, _LOOKED_AT / max(1, codes.ntotal)))
    return int(np.ceil(share * codes.nlist))


def _blocks(vectors: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the unit vectors of rows a block at a time."""
    for start in range(0, len(rows), _BLOCK):
        yield _unit(vectors[rows[start : start + _BLOCK]])


def _unit(vectors: np.ndarray) -> np.ndarray:
    values = vectors.astype(np.float32)
    values /= _no_zero(np.linalg.norm(values, axis=1, keepdims=True))
    return values


def _no_zero(lengths: np.ndarray) -> np.ndarray:
    """Return the lengths of directions: a damaged one may have none, and then its cosine is 0."""
    return np.asarray(np.maximum(lengths, 1))
