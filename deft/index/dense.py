"""Nearest strings by cosine similarity (FAISS)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np

from deft.errors import InputError

FILE = "dense.faiss"

_CHUNK = 1 << 20  # bytes handed over at once
_DECIMALS = 6

TOLERANCE = 1e-5
"""More than rounding and single precision can move a cosine by."""


class DenseIndex:
    """An exact inner-product index over unit vectors, a row a string."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length of the vectors."""
        return int(self._index.d)

    @classmethod
    def build(cls, vectors: np.ndarray) -> DenseIndex:
        """Index float32 unit vectors of shape (n, d)."""
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        return cls(index)

    def save(self, folder: Path) -> None:
        """Write the index into a folder that exists."""
        # FAISS's own file writer says nothing when the disk is full as the file is closed; Python's does
        with (folder / FILE).open("wb") as stream:
            faiss.write_index(self._index, cast("Any", faiss).PyCallbackIOWriter(stream.write, _CHUNK))

    @classmethod
    def open(cls, folder: Path) -> DenseIndex:
        """Map the index that `save` wrote into memory.

        Raises
        ------
        InputError
            The file is missing or is no FAISS index.
        """
        try:
            return cls(faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP_IFC))
        except RuntimeError as error:
            raise InputError(
                "is no readable FAISS index.", path=folder / FILE, remedy="Build the index again."
            ) from error

    def search(self, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the `count` nearest rows of each query and their cosines, the nearest first.

        FAISS sums a product in another order for one query than for many. Cosines are therefore computed
        again, row by row in double precision, and rounded to six decimals: an answer does not depend on the
        company of its query. Equal cosines are ordered by row. Which rows come last among the `count` nearest
        is still for FAISS to say: rows whose cosines differ by less than `TOLERANCE` may change places there.

        Parameters
        ----------
        queries
            float32 unit vectors of shape (n, d).
        count
            Number of neighbours, at most the size of the index.

        Returns
        -------
        tuple of np.ndarray
            Rows (int64) and cosines (float64), both of shape (n, count).
        """
        count = min(count, len(self))
        _, rows = self._index.search(np.ascontiguousarray(queries, dtype=np.float32), count)
        cosines = np.empty(rows.shape)
        for place, (query, near) in enumerate(zip(queries, rows, strict=True)):
            vectors = self._index.reconstruct_batch(near)
            exact = np.round((vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1), _DECIMALS)
            order = np.lexsort((near, -exact))
            rows[place], cosines[place] = near[order], exact[order]
        return rows, cosines
