"""Texts as trigrams: how the strings of the lexical index are kept, weighed and inverted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from deft.errors import InputError
from deft.text import normalize

# A character has 6 bits: a space is 0, then come these, and all others share what is left. A trigram is then
# an address of 18 bits and needs no vocabulary.
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+%<>="
_BITS = 6
_CHARACTER = (1 << _BITS) - 1
_FIRST = 1 << _BITS  # set on the middle character of the first of equal trigrams of a string
_CODES = np.zeros(128, dtype=np.uint8)
_CODES[[ord(letter) for letter in _LETTERS]] = np.arange(1, len(_LETTERS) + 1)

_CHUNK = 1 << 16  # strings that are worked on at once

BLOCK = 1 << 16
"""Number of places that are told apart by 16 bits."""

TRIGRAMS = 1 << (3 * _BITS)
"""Number of trigrams there can be."""

Ints = NDArray[np.integer]
Text = NDArray[np.uint8]
Unsigned = NDArray[np.uint32]


def trigrams_of(query: str) -> NDArray[np.int64]:
    """Return the distinct trigrams of a text, ascending."""
    text = _characters([normalize(query)])
    return np.unique(_trigrams_at(text, 1 + np.flatnonzero(text[1:-1])))


def encode(strings: Iterable[str]) -> tuple[Text, Unsigned, NDArray[np.int64]]:
    """Return some strings in their normalised form, and in how many of them each trigram is.

    Returns
    -------
    text
        uint8: a space and, for each string, its characters and a space. The middle of each trigram that is
        the first of its kind in its string is marked.
    starts
        uint32 of shape (strings + 1,): where each string starts in `text`.
    frequencies
        int64 of shape (2**18,).

    Raises
    ------
    InputError
        The strings have 4 GiB or more.
    """
    texts, lengths = [np.zeros(1, dtype=np.uint8)], [np.ones(1, dtype=np.int64)]
    frequencies = np.zeros(TRIGRAMS, dtype=np.int64)
    source = iter(strings)
    while chunk := [normalize(string) for string in islice(source, _CHUNK)]:
        text, starts = _mark(chunk)
        frequencies += np.bincount(_trigrams_at(text, np.flatnonzero(text >= _FIRST)), minlength=TRIGRAMS)
        texts.append(text[1:])  # the chunk before ends with the space that this one starts with
        lengths.append(np.diff(starts))
    if sum(map(len, texts)) > np.iinfo(np.uint32).max:
        raise InputError("the strings have more than 4 GiB, which is more than an index can hold.")
    return np.concatenate(texts), np.cumsum(np.concatenate(lengths)).astype(np.uint32), frequencies


def weigh(text: Text, starts: Unsigned, rows: Ints, weights: Unsigned) -> Unsigned:
    """Return the weight of the trigrams of each of `rows`."""
    if not len(rows):
        return np.empty(0, dtype=np.uint32)
    trigrams, begins, counted = _trigrams(text, starts, rows)
    return np.add.reduceat(weights[trigrams] * counted, begins, dtype=np.uint32)


def weigh_all(text: Text, starts: Unsigned, weights: Unsigned) -> Unsigned:
    """Return the weight of the trigrams of each string."""
    parts = [weigh(text, starts, np.arange(*chunk), weights) for chunk in _chunks(len(starts) - 1)]
    return np.concatenate([np.empty(0, dtype=np.uint32), *parts])


def invert(
    text: Text, starts: Unsigned, rows: Unsigned, frequencies: NDArray[np.int64], postings: NDArray[np.uint16]
) -> Unsigned:
    """Fill `postings` with the places in `rows` that have each trigram, and return where they are cut.

    Of a place, its block and its number in the block, the latter is kept. The cuts are where the postings
    start that a trigram has in a block, for each trigram that is in a string and each block, and the end.
    """
    blocks = -(-len(rows) // BLOCK)
    sizes = np.zeros((np.count_nonzero(frequencies), blocks), dtype=np.uint32)
    free = np.cumsum(frequencies) - frequencies
    for block in range(blocks):
        trigrams, begins, counted = _trigrams(text, starts, rows[block * BLOCK : (block + 1) * BLOCK])
        places = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(trigrams)))
        keys = np.sort((trigrams << 16 | places)[counted])
        trigrams = keys >> 16
        counts = np.bincount(trigrams, minlength=TRIGRAMS)
        before = np.cumsum(counts) - counts  # in this block
        postings[(free - before)[trigrams] + np.arange(len(keys))] = keys & 0xFFFF
        free += counts
        sizes[:, block] = counts[frequencies > 0]
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint32)


def _characters(normalized: list[str]) -> Text:
    points = np.frombuffer(f" {' '.join(normalized)} ".encode("utf-32-le"), dtype="<u4")
    letters = len(_LETTERS) + 1
    text = (letters + points % (_FIRST - letters)).astype(np.uint8)
    common = points < len(_CODES)
    text[common] = _CODES[points[common]]
    return text


def _mark(normalized: list[str]) -> tuple[Text, NDArray[np.int64]]:
    """Return `text` and `starts` of some strings in their normalised form."""
    text = _characters(normalized)
    starts = 1 + np.concatenate([[0], np.cumsum([len(string) + 1 for string in normalized])])
    middles = 1 + np.flatnonzero(text[1:-1])  # a trigram stays within a word
    owners = np.searchsorted(starts, middles, side="right")
    keys = owners << 3 * _BITS | _trigrams_at(text, middles)
    text[middles[np.unique(keys, return_index=True)[1]]] |= _FIRST
    return text, starts


def _trigrams_at(text: Text, middles: Ints) -> NDArray[np.int64]:
    before, middle, after = ((text[middles + shift] & _CHARACTER).astype(np.int64) for shift in (-1, 0, 1))
    return before << 2 * _BITS | middle << _BITS | after


def _trigrams(
    text: Text, starts: Unsigned, rows: Ints
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the trigram around each character of `rows`, where each row begins, and which are marked."""
    first = starts[rows].astype(np.int64) - 1  # the space before; the one behind comes along
    lengths = starts[rows.astype(np.int64) + 1] - first
    begins = np.cumsum(lengths) - lengths
    characters = text[np.arange(lengths.sum()) + np.repeat(first - begins, lengths)]
    marked = characters >= _FIRST
    codes = (characters & _CHARACTER).astype(np.int64)
    trigrams = codes << _BITS
    trigrams[1:] |= codes[:-1] << 2 * _BITS
    trigrams[:-1] |= codes[1:]
    return trigrams, begins, marked


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, _CHUNK):
        yield start, min(start + _CHUNK, count)
