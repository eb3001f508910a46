"""Vectors of strings on disk, so that an index can be built again without embedding anything twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from deft.errors import InputError
from deft.files import atomic_folder, read_json, write_json
from deft.terminology.lexicon import read_terms
from deft.text import clean

if TYPE_CHECKING:
    from deft.encoder.runtime import Encoder

INFO = "vectors.json"

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
            strings = pd.read_parquet(folder / "strings.parquet")["string"].to_list()
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
        texts = pd.read_parquet(path, columns=[column])[column].to_list()
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
        table = pd.DataFrame({"string": strings})
        table.to_parquet(folder / "strings.parquet", compression="zstd", index=False)
        np.save(folder / "vectors.npy", vectors)
        info = {
            "fingerprint": encoder.fingerprint,
            "dimension": encoder.dimension,
            "strings": len(strings),
        }
        write_json(folder / INFO, info)
    return StoredVectors(encoder.fingerprint, strings, vectors)


def encode_with_store(
    strings: Sequence[str], encoder: Encoder, store: StoredVectors | None, *, progress: bool = False
) -> np.ndarray:
    """Return the vectors of `strings`, taken from `store` where it has them.

    Raises
    ------
    InputError
        `store` was made by another encoder.
    """
    if store is None:
        return encoder.encode(strings, progress=progress)
    if store.fingerprint != encoder.fingerprint:
        remedy = "Run `deft encode` with this encoder, or leave out --vectors."
        raise InputError("the stored vectors were made by another encoder.", remedy=remedy)
    row_of = {string: row for row, string in enumerate(store.strings)}
    rows = np.array([row_of.get(string, -1) for string in strings])
    vectors = np.empty((len(strings), encoder.dimension), dtype=np.float32)
    vectors[rows >= 0] = store.vectors[rows[rows >= 0]]
    missing = [strings[int(place)] for place in np.flatnonzero(rows < 0)]
    if missing:
        vectors[rows < 0] = encoder.encode(missing, progress=progress)
    return vectors
