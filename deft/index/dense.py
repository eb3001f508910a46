"""Nearest strings by cosine similarity.

Vectors lie in a file that is mapped into memory. A small index is searched exactly, by matrix products. In a
larger one, product-quantized codes of four bits (Jégou et al. 2011; André et al. 2015, in FAISS as "fast
scan") propose rows, and the vectors themselves decide.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, cast

import faiss
import numpy as np

from deft.errors import InputError

VECTORS, CODES = "vectors.npy", "codes.faiss"

Kind = Literal["flat", "pq"]

FLAT_ROWS = 20_000
"""Up to this size exact search takes about a millisecond."""

TOLERANCE = 1e-5
"""More than rounding and single precision can move a cosine by."""

_CHUNK = 1 << 20  # bytes handed over at once
_DECIMALS = 6
_BLOCK = 1 << 14  # rows of a matrix product
_BITS = 4
_TRAINING_ROWS = 20_000
_PROPOSED, _LEAST_PROPOSED = 6, 400  # rows that the codes propose, for each that is wanted
_REBUILD = "Build the index again."


# threads of a search do not live on in a forked process, which would wait for them
os.register_at_fork(after_in_child=lambda: cast("Any", faiss).omp_set_num_threads(1))


class DenseIndex:
    """An inner-product index over unit vectors, a row a string.

    Parameters
    ----------
    vectors
        float32 unit vectors of shape (n, d).
    codes
        Codes that propose rows; none in an exact index.
    """

    def __init__(self, vectors: np.ndarray, codes: faiss.Index | None = None) -> None:
        self._vectors = vectors
        self._codes = codes

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._vectors)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._vectors.shape[1])

    @property
    def kind(self) -> Kind:
        """How it is searched: exactly, or by codes that propose rows."""
        return "flat" if self._codes is None else "pq"

    @classmethod
    def build(cls, vectors: np.ndarray, *, kind: Kind | None = None) -> DenseIndex:
        """Index float32 unit vectors of shape (n, d); the kind is chosen by their number.

        Raises
        ------
        InputError
            Codes are asked for, and there are too few vectors or their length is odd.
        """
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        chosen = kind or ("flat" if len(vectors) <= FLAT_ROWS or vectors.shape[1] % 2 else "pq")
        if chosen == "flat":
            return cls(vectors)
        if len(vectors) < 1 << _BITS or vectors.shape[1] % 2:
            problem = f"codes cannot be made of {len(vectors)} vectors of length {vectors.shape[1]}."
            raise InputError(problem, remedy="Choose the kind flat.")
        # two values share a code: at half a byte for them, 96 bytes stand for 1,536
        codes = faiss.IndexPQFastScan(
            vectors.shape[1], vectors.shape[1] // 2, _BITS, faiss.METRIC_INNER_PRODUCT
        )
        sample = np.linspace(0, len(vectors) - 1, min(len(vectors), _TRAINING_ROWS)).astype(np.int64)
        cast("Any", codes).train(vectors[sample])
        cast("Any", codes).add(vectors)
        return cls(vectors, codes)

    def save(self, folder: Path) -> None:
        """Write the index into a folder that exists."""
        with (folder / VECTORS).open("wb") as stream:
            np.save(stream, self._vectors)
        if self._codes is None:
            return
        # FAISS's own file writer says nothing when the disk is full as the file is closed; Python's does
        with (folder / CODES).open("wb") as stream:
            faiss.write_index(self._codes, cast("Any", faiss).PyCallbackIOWriter(stream.write, _CHUNK))

    @classmethod
    def open(cls, folder: Path) -> DenseIndex:
        """Map the index that `save` wrote into memory.

        Raises
        ------
        InputError
            A file is missing or is not of this form.
        """
        try:
            vectors = np.load(folder / VECTORS, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise InputError("is no readable array.", path=folder / VECTORS, remedy=_REBUILD) from error
        if not (folder / CODES).exists():
            return cls(vectors)
        try:
            codes = faiss.read_index(str(folder / CODES), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise InputError("is no readable FAISS index.", path=folder / CODES, remedy=_REBUILD) from error
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
            Which rows may be found, bool of shape (size of the index,); all if None. It is searched exactly.

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
        vectors = self._vectors[rows].astype(np.float64)
        # not a matrix product: the order of its sums depends on the shapes
        exact = [(vectors * query.astype(np.float64)).sum(axis=1) for query in queries]
        return np.asarray(np.round(np.stack(exact), _DECIMALS))

    def _propose(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> list[np.ndarray]:
        """Return rows for each query, at least `count`, the nearest among them."""
        wanted = max(_PROPOSED * count, _LEAST_PROPOSED)
        if self._codes is None or allowed is not None or wanted * 2 > len(self):
            rows = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
            return self._nearest(queries, rows, count)
        _, found = cast("Any", self._codes).search(queries, wanted)
        return [near[near >= 0] for near in found]

    def _nearest(self, queries: np.ndarray, rows: np.ndarray, count: int) -> list[np.ndarray]:
        """Return the `count` nearest of `rows` and those hardly farther than the last, by matrix products."""
        best = [np.zeros(0, dtype=np.int64)] * len(queries)
        scores = [np.zeros(0, dtype=np.float32)] * len(queries)
        whole = len(rows) == len(self)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            vectors = self._vectors[start : start + _BLOCK] if whole else self._vectors[block]
            for place, row in enumerate(queries @ vectors.T):
                near = np.concatenate([scores[place], row])
                places = np.concatenate([best[place], block])
                if len(near) > count:
                    kept = near >= np.partition(near, -count)[-count] - TOLERANCE
                    near, places = near[kept], places[kept]
                scores[place], best[place] = near, places
        return best
