"""Most similar strings by the character trigrams they share, exact and on disk.

A string is compared in its normalised form, as the set of the trigrams of its words, each word with a space
before and after. A trigram weighs the more the fewer strings have it. With W the weight of a set,

    similarity(query, string) = W(both) / (0.2 W(query) + 0.8 W(string))

This is the ratio model of Tversky (Features of similarity, Psychological Review 84, 1977) with weights that
add up to one: 1 for equal sets, 0 for disjoint ones, and what a string has beyond the query costs more than
what it lacks. Weights are whole numbers, so that sums are exact in any order and the similarity of two
strings is one number wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deft.errors import InputError
from deft.text import normalize

_ARRAYS = {
    "text": "uint8",
    "starts": "int64",
    "weights": "uint32",
    "totals": "uint32",
    "rows": "uint32",
    "offsets": "int64",
    "postings": "uint32",
}

FILES = tuple(f"lexical_{name}.npy" for name in _ARRAYS)
"""The files of an index."""

# A character has 6 bits: a space is 0, then come these, and all others share what is left. A trigram is then
# an address of 18 bits and needs no vocabulary.
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789+%<>="
_BITS = 6
_CHARACTER = (1 << _BITS) - 1
_FIRST = 1 << _BITS  # set on the middle character of the first of equal trigrams of a string
_TRIGRAMS = 1 << (3 * _BITS)

_CODES = np.zeros(128, dtype=np.uint8)
_CODES[[ord(letter) for letter in _LETTERS]] = np.arange(1, len(_LETTERS) + 1)

_QUERY, _STRING, _BOTH = 1, 4, 5  # 0.2, 0.8 and 1 in whole numbers
_SLACK = 0.5  # of the floor: reading more of the lists than need be makes bounds tight, which pays
_SCALE = 32  # weights stay below 2**14, so that the sum over all trigrams there can be fits in 32 bits
_DECIMALS = 6
_MARGIN = 1e-6  # more than rounding to decimals moves a similarity by
_CHUNK = 1 << 16  # strings that are worked on at once in a build
_BLOCK = 64  # candidates that are compared at first, beside those that are wanted
_SEED = 1 << 14  # postings that are read for a first idea of the best rows

_Ints = NDArray[np.integer]
_Unsigned = NDArray[np.uint32]

_REBUILD = "Build the index again."


@dataclass(frozen=True, eq=False)
class LexicalIndex:
    """Strings found by their trigrams.

    Rows are ordered by weight: the place of a row in that order is its position. A list of postings is sorted
    by position, and what is too light or too heavy to be similar is a slice of it that is not read.

    Attributes
    ----------
    text
        uint8: a space and, for each string, its characters and a space.
    starts
        int64 of shape (strings + 1,): where each string starts in `text`.
    weights
        uint32 of shape (2**18,): weight of each trigram.
    totals
        uint32: weight of the string at each position, ascending.
    rows
        uint32: row of the string at each position.
    offsets
        int64 of shape (2**18 + 1,): where the postings of each trigram start.
    postings
        uint32: positions of the strings that have the trigram, ascending.
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    weights: NDArray[np.uint32]
    totals: NDArray[np.uint32]
    rows: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    postings: NDArray[np.uint32]

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.rows)

    @classmethod
    def build(cls, strings: Iterable[str]) -> LexicalIndex:
        """Index strings, a row each in their order.

        Beside the index itself (about 5.5 bytes a character), memory holds one chunk of strings at a time.
        """
        text, starts, frequencies = _encode_all(strings)
        count = len(starts) - 1
        weights = np.rint(_SCALE * (np.log((count + 1) / (frequencies + 1)) + 1) ** 2).astype(np.uint32)
        totals = np.empty(count, dtype=np.uint32)
        for chunk in _chunks(count):
            owners, trigrams = _trigrams(text, starts, np.arange(chunk.start, chunk.stop))
            totals[chunk] = np.bincount(owners, weights[trigrams], minlength=chunk.stop - chunk.start)
        rows = np.argsort(totals, kind="stable").astype(np.uint32)
        offsets = np.concatenate([[0], np.cumsum(frequencies)])
        return cls(text, starts, weights, totals[rows], rows, offsets, _invert(text, starts, rows, offsets))

    def save(self, folder: Path) -> None:
        """Write the index into a folder that exists."""
        for name, file in zip(_ARRAYS, FILES, strict=True):
            np.save(folder / file, getattr(self, name))

    @classmethod
    def open(cls, folder: Path) -> LexicalIndex:
        """Map the index that `save` wrote into memory.

        Raises
        ------
        InputError
            A file is missing, damaged or of another index.
        """
        index = cls(*(_load(folder / file, kind) for file, kind in zip(FILES, _ARRAYS.values(), strict=True)))
        sizes = {
            "text": index.starts[-1:].sum(),
            "starts": len(index) + 1,
            "weights": _TRIGRAMS,
            "totals": len(index),
            "offsets": _TRIGRAMS + 1,
            "postings": index.offsets[-1:].sum(),
        }
        for name, size in sizes.items():
            if len(getattr(index, name)) != size:
                problem = f"holds {len(getattr(index, name))} values where the other files call for {size}."
                raise InputError(problem, path=folder / FILES[list(_ARRAYS).index(name)], remedy=_REBUILD)
        return index

    def search(
        self, query: str, count: int, *, allowed: np.ndarray | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the `count` most similar rows and their similarities, the most similar first.

        The answer is exact. Equal similarities are ordered by row.

        Parameters
        ----------
        query
            Any text; without letter or digit it has no answer.
        count
            Number of rows. There are fewer if fewer share a trigram with the query.
        allowed
            Boolean mask over the rows; others are not returned.

        Returns
        -------
        rows, similarities
            int64, and float64 above 0 and at most 1, rounded to six decimals.

        Raises
        ------
        InputError
            `count` is less than 1.
        """
        if count < 1:
            raise InputError(f"count must be at least 1, not {count}.")
        wanted = _Wanted.of(query, self)
        floor = self._floor(wanted, count, allowed) - _MARGIN
        positions, bounds = self._candidates(wanted, floor)
        candidates = self.rows[positions].astype(np.int64)
        if allowed is not None:
            candidates, bounds = candidates[allowed[candidates]], bounds[allowed[candidates]]
        return self._best(wanted, candidates, bounds, count)

    def similarity(self, query: str, rows: np.ndarray) -> NDArray[np.float64]:
        """Return the similarity of each of `rows` to the query, as `search` would."""
        return self._similarities(_Wanted.of(query, self), np.asarray(rows, dtype=np.int64))

    def _floor(self, wanted: _Wanted, count: int, allowed: np.ndarray | None) -> float:
        """Return a similarity that `count` rows are sure to reach, from a few rows that look similar."""
        near = list(self._seed(wanted, max(_SEED, count)))
        if not near:
            return 0.0
        positions, group = np.unique(np.concatenate(near), return_inverse=True)
        lengths = [len(postings) for postings in near]
        shared = np.bincount(group, np.repeat(wanted.weights[: len(near)], lengths))
        if allowed is not None:
            kept = allowed[self.rows[positions]]
            positions, shared = positions[kept], shared[kept]
        if len(positions) < count:
            return 0.0
        guesses = _ratio(shared, wanted.total, self.totals[positions])
        best = positions[np.argpartition(-guesses, count - 1)[:count]]
        return float(self._similarities(wanted, self.rows[best]).min())

    def _seed(self, wanted: _Wanted, budget: int) -> Iterator[_Unsigned]:
        """Yield the lists of the rarest trigrams and, of the last, what is about as heavy as the query."""
        for postings in wanted.lists:
            if len(postings) > budget:
                same = np.searchsorted(self.totals, _whole(wanted.total))
                first = max(0, int(np.searchsorted(postings, np.uint32(same))) - budget // 2)
                yield postings[first : first + budget]
                return
            yield postings
            budget -= len(postings)

    def _candidates(self, wanted: _Wanted, floor: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the positions that may reach `floor`, with an upper bound of the similarity of each.

        Lists are read from the rarest trigram on. A string that was in none so far shares at most the weight
        of the trigrams that are left, so from some weight on it is too heavy to reach `floor`, and that limit
        falls with each list: of the long lists of frequent trigrams little is read, or nothing. What they may
        add to a string that was found goes into its bound.
        """
        left = np.cumsum([0, *wanted.weights[::-1]])[::-1]
        low, highs = self._limits(wanted.total, left, _SLACK * floor)
        shared = np.zeros(highs[0] - low, dtype=np.uint32)
        for postings, weight, high in zip(wanted.lists, wanted.weights, highs, strict=False):
            first, last = np.searchsorted(postings, np.array([low, high], dtype=np.uint32))
            shared[postings[first:last] - np.uint32(low)] += weight
        found, bounds = [np.empty(0, dtype=np.int64)], [np.empty(0)]
        # from one limit down to the next, the same lists have been read
        for start, stop, rest in zip(highs[1:], highs[:-1], left[1:], strict=True):
            if start < stop:
                least = floor * (wanted.total + _STRING * int(self.totals[start])) / _BOTH - rest
                enough = shared[start - low : stop - low] >= np.uint32(max(1, np.ceil(least)))
                positions = start + np.flatnonzero(enough)
                found.append(positions)
                totals = self.totals[positions]
                bounds.append(
                    _ratio(np.minimum(shared[positions - low] + rest, totals), wanted.total, totals)
                )
        return np.concatenate(found), np.concatenate(bounds)

    def _limits(self, total: int, left: _Ints, floor: float) -> tuple[int, list[int]]:
        """Return the range of positions where a string may reach `floor`: where it starts, and where it ends.

        A string shares with the query at most its own weight, hence the start, and of a string that was found
        in no list so far at most what is `left`, hence an end for each list. The last end is the start.
        """
        if floor <= 0:
            return 0, [len(self)] * (len(left) - 1) + [0]
        lightest = floor * total / (_BOTH - _STRING * floor)
        heaviest = (_BOTH * left[:-1] / floor - total) / _STRING
        low = int(np.searchsorted(self.totals, _whole(lightest)))
        highs = np.searchsorted(self.totals, _whole(heaviest), side="right")
        return low, [*np.maximum(highs, low).tolist(), low]

    def _best(
        self, wanted: _Wanted, candidates: NDArray[np.int64], bounds: NDArray[np.float64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the best of the candidates, comparing them in the order of their bounds."""
        order = np.argsort(-bounds, kind="stable")
        rows, similarities = np.empty(0, dtype=np.int64), np.empty(0)
        start, size = 0, count + _BLOCK
        while start < len(order):
            block = order[start : start + size]
            start, size = start + size, 2 * size
            if len(rows) == count:
                block = block[bounds[block] >= similarities[-1] - _MARGIN]
            if not len(block):
                break
            rows = np.concatenate([rows, candidates[block]])
            similarities = np.concatenate([similarities, self._similarities(wanted, candidates[block])])
            best = np.lexsort((rows, -similarities))[:count]
            rows, similarities = rows[best], similarities[best]
        return rows[similarities > 0], similarities[similarities > 0]

    def _similarities(self, wanted: _Wanted, rows: _Ints) -> NDArray[np.float64]:
        owners, trigrams = _trigrams(self.text, self.starts, rows)
        shared = np.bincount(owners, wanted.table[trigrams], minlength=len(rows))
        totals = np.bincount(owners, self.weights[trigrams], minlength=len(rows))
        return _ratio(shared, wanted.total, totals).round(_DECIMALS)


@dataclass(frozen=True)
class _Wanted:
    """What a query asks for: its trigrams, the rarest first."""

    total: int
    table: _Unsigned  # weight of each trigram of the query, 0 for all others
    weights: _Unsigned
    lists: list[_Unsigned]  # postings

    @classmethod
    def of(cls, query: str, index: LexicalIndex) -> _Wanted:
        text, starts = _encode([normalize(query)])
        _, trigrams = _trigrams(text, starts, np.zeros(1, dtype=np.int64))
        table = np.zeros(_TRIGRAMS, dtype=np.uint32)
        table[trigrams] = index.weights[trigrams]
        first, last = index.offsets[trigrams], index.offsets[trigrams + 1]
        order = [at for at in np.lexsort((trigrams, last - first)) if first[at] < last[at]]
        lists = [index.postings[first[at] : last[at]] for at in order]
        return cls(int(table[trigrams].sum(dtype=np.int64)), table, table[trigrams[order]], lists)


def _ratio(shared: np.ndarray, total: int, totals: np.ndarray) -> NDArray[np.float64]:
    """Return the similarity for weights of what is shared, of the query and of the strings."""
    return _BOTH * shared / np.maximum(_QUERY * total + _STRING * totals.astype(np.float64), 1)


def _whole(values: float | np.ndarray) -> _Unsigned:
    """Round down to uint32: a number of another type would have numpy convert the array that is searched."""
    return np.asarray(np.clip(values, 0, np.iinfo(np.uint32).max), dtype=np.uint32)


def _encode(normalized: list[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return `text` and `starts` of some strings in their normalised form."""
    points = np.frombuffer(f" {' '.join(normalized)} ".encode("utf-32-le"), dtype="<u4")
    letters = len(_LETTERS) + 1
    text = (letters + points % (_FIRST - letters)).astype(np.uint8)
    common = points < len(_CODES)
    text[common] = _CODES[points[common]]
    starts = 1 + np.concatenate([[0], np.cumsum([len(string) + 1 for string in normalized])])
    middles = 1 + np.flatnonzero(text[1:-1])  # a trigram stays within a word
    owners = np.searchsorted(starts, middles, side="right")
    keys = owners << 3 * _BITS | _trigrams_at(text, middles)
    text[middles[np.unique(keys, return_index=True)[1]]] |= _FIRST
    return text, starts


def _trigrams_at(text: NDArray[np.uint8], middles: _Ints) -> NDArray[np.int64]:
    before, middle, after = ((text[middles + shift] & _CHARACTER).astype(np.int64) for shift in (-1, 0, 1))
    return before << 2 * _BITS | middle << _BITS | after


def _trigrams(
    text: NDArray[np.uint8], starts: NDArray[np.int64], rows: _Ints
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct trigrams of `rows`, and for each of them its place in `rows`."""
    first = starts[rows]
    lengths = starts[rows + 1] - first
    ends = np.cumsum(lengths)
    owners = np.repeat(np.arange(len(rows)), lengths)
    places = np.arange(len(owners)) + (first - ends + lengths)[owners]
    distinct = text[places] >= _FIRST
    return owners[distinct], _trigrams_at(text, places[distinct])


def _encode_all(
    strings: Iterable[str],
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Return `text`, `starts` and in how many strings each trigram is."""
    texts, lengths = [np.zeros(1, dtype=np.uint8)], [np.ones(1, dtype=np.int64)]
    frequencies = np.zeros(_TRIGRAMS, dtype=np.int64)
    source = iter(strings)
    while chunk := [normalize(string) for string in islice(source, _CHUNK)]:
        text, starts = _encode(chunk)
        middles = np.flatnonzero(text >= _FIRST)
        frequencies += np.bincount(_trigrams_at(text, middles), minlength=_TRIGRAMS)
        texts.append(text[1:])  # the chunk before ends with the space that this one starts with
        lengths.append(np.diff(starts))
    return np.concatenate(texts), np.cumsum(np.concatenate(lengths)), frequencies


def _invert(
    text: NDArray[np.uint8], starts: NDArray[np.int64], rows: _Unsigned, offsets: NDArray[np.int64]
) -> _Unsigned:
    """Return the positions of the strings that have each trigram, by counting."""
    postings = np.empty(offsets[-1], dtype=np.uint32)
    free = offsets[:-1].copy()
    for chunk in _chunks(len(rows)):
        owners, trigrams = _trigrams(text, starts, rows[chunk].astype(np.int64))
        keys = np.sort(trigrams << 32 | owners + chunk.start)
        trigrams = keys >> 32
        counts = np.bincount(trigrams, minlength=_TRIGRAMS)
        before = np.cumsum(counts) - counts  # in this chunk
        postings[(free - before)[trigrams] + np.arange(len(keys))] = keys & 0xFFFFFFFF
        free += counts
    return postings


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, min(start + _CHUNK, count))


def _load(path: Path, kind: str) -> np.ndarray:
    try:
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"cannot be read ({error}).", path=path, remedy=_REBUILD) from error
    if array.dtype != kind or array.ndim != 1:
        problem = f"holds {array.dtype} of shape {array.shape}, not a row of {kind}."
        raise InputError(problem, path=path, remedy=_REBUILD)
    return array
