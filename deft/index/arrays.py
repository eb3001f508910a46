"""Arrays of an index: opened from NumPy files, and checked to be what they should."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np

from deft.errors import InputError, one_line
from deft.terminology.concepts import DAMAGED

# what NumPy raises at a damaged header, which it reads as an expression of Python
_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, SyntaxError, tokenize.TokenError),
    *(OverflowError, MemoryError, RecursionError),
)


def open_array(path: Path, kind: str, dimensions: int) -> np.ndarray:
    """Map an array into memory.

    Parameters
    ----------
    path
        A file of NumPy.
    kind, dimensions
        Its type and number of dimensions.

    Raises
    ------
    InputError
        The file is missing, damaged, or of another form.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except _UNREADABLE as error:
        raise InputError(f"is no readable array ({one_line(error)}).", path=path, remedy=DAMAGED) from error
    if not isinstance(array, np.ndarray) or (array.dtype, array.ndim) != (np.dtype(kind), dimensions):
        problem = f"is no array of {kind} in {dimensions} dimensions."
        raise InputError(problem, path=path, remedy=DAMAGED)
    if not array.flags.c_contiguous:
        raise InputError("holds an array that is not in order of rows.", path=path, remedy=DAMAGED)
    return array
