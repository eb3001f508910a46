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

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from deft.errors import InputError
from deft.files import release, rises, within
from deft.index.arrays import open_array
from deft.index.trigrams import BLOCK, TRIGRAMS, Ints, Unsigned, encode, invert, trigrams_of, weigh, weigh_all
from deft.terminology.concepts import DAMAGED

_ARRAYS = {
    "text": "uint8",
    "starts": "uint32",
    "weights": "uint32",
    "totals": "uint32",
    "rows": "uint32",
    "slots": "uint32",
    "cuts": "uint32",
    "postings": "uint16",
}

FILES = tuple(f"lexical_{name}.npy" for name in _ARRAYS)
"""The files of an index."""

_QUERY, _STRING, _BOTH = 1, 4, 5  # 0.2, 0.8 and 1 in whole numbers
_SCALE = 32
_MOST_WEIGHT = 1 << 14  # so that the sum over all trigrams there can be fits in 32 bits
_DECIMALS = 6
_MARGIN = 1e-6  # more than rounding to decimals moves a similarity by

# What follows changes how long an answer takes, not the answer.
_SLACK = 0.5  # of the floor: reading more of the lists than need be makes bounds tight, which pays
_SEED = 1 << 16  # postings that are read for a first idea of the best rows
_WORTH = 16  # more than so many times what was read for the floor calls for a better floor
_DEEPER = 4  # times as much is then read
_NEAR = (0.5, 1.0, 1.7)  # times the weight of the query: strings among which a floor is sought
_TRIED = 4  # times the wanted number of rows is compared at first
_STEP = 1.2  # from one weight to the next that has a limit of its own


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
        uint32 of shape (strings + 1,): where each string starts in `text`.
    weights
        uint32 of shape (2**18,): weight of each trigram.
    totals
        uint32: weight of the string at each position, ascending.
    rows
        uint32: row of the string at each position.
    slots
        uint32 of shape (2**18 + 1,): number of trigrams before each one that are in a string.
    cuts
        uint32 of shape (slots * blocks + 1,): where the postings of each slot start in each block of 65536
        positions.
    postings
        uint16: positions of the strings that have the trigram, ascending, each counted from its block.
    """

    text: NDArray[np.uint8]
    starts: Unsigned
    weights: Unsigned
    totals: Unsigned
    rows: Unsigned
    slots: Unsigned
    cuts: Unsigned
    postings: NDArray[np.uint16]

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.rows)

    @classmethod
    def build(cls, strings: Iterable[str]) -> LexicalIndex:
        """Index strings, a row each in their order.

        Beside the index itself (about 3.5 bytes a character), memory holds one chunk of strings at a time.
        """
        return cls._build(strings, None)

    @classmethod
    def write(cls, strings: Iterable[str], folder: Path) -> None:
        """Write the index of `strings` into a folder that exists, as `build` and `save` would.

        The postings, most of an index, go straight to their file: memory holds about 3 bytes a character.
        """
        cls._build(strings, folder).save(folder)

    @classmethod
    def _build(cls, strings: Iterable[str], folder: Path | None) -> LexicalIndex:
        text, starts, frequencies = encode(strings)
        count = len(starts) - 1
        weights = np.rint(_SCALE * (np.log((count + 1) / (frequencies + 1)) + 1) ** 2).astype(np.uint32)
        totals = weigh_all(text, starts, weights)
        rows = np.argsort(totals, kind="stable").astype(np.uint32)
        slots = np.concatenate([[0], np.cumsum(frequencies > 0)]).astype(np.uint32)
        size = int(frequencies.sum())
        if folder is None or not size:
            postings: NDArray[np.uint16] = np.empty(size, dtype=np.uint16)
        else:
            postings = _room(folder / FILES[-1], size)
        cuts = invert(text, starts, rows, frequencies, postings)
        return cls(text, starts, weights, totals[rows], rows, slots, cuts, postings)

    def save(self, folder: Path) -> None:
        """Write the index into a folder that exists."""
        for name, file in zip(_ARRAYS, FILES, strict=True):
            array = getattr(self, name)
            if isinstance(array, np.memmap):  # `write` has put it there
                array.flush()
            else:
                np.save(folder / file, array)

    @classmethod
    def open(cls, folder: Path) -> LexicalIndex:
        """Map the index that `save` wrote into memory.

        Raises
        ------
        InputError
            A file is missing, damaged or of another index.
        """
        paths = {name: folder / file for name, file in zip(_ARRAYS, FILES, strict=True)}
        # the map itself makes slices of its own class, which takes a while
        index = cls(*(np.asarray(open_array(paths[name], kind, 1)) for name, kind in _ARRAYS.items()))
        sizes = {
            "text": index.starts[-1:].sum(),
            "starts": len(index) + 1,
            "weights": TRIGRAMS,
            "totals": len(index),
            "slots": TRIGRAMS + 1,
            "cuts": int(index.slots[-1:].sum()) * _blocks(len(index)) + 1,
            "postings": index.cuts[-1:].sum(),
        }
        for name, size in sizes.items():
            if len(getattr(index, name)) != size:
                problem = f"holds {len(getattr(index, name))} values where the other files call for {size}."
                raise InputError(problem, path=paths[name], remedy=DAMAGED)
        for name, sound in index._sound().items():
            if not sound:
                raise InputError("is damaged.", path=paths[name], remedy=DAMAGED)
        index.release()
        return index

    def _sound(self) -> dict[str, bool]:
        """Return of each array whether it leads to what is there; postings are checked when they are read."""
        return {
            "starts": within(self.starts[:1], 2, start=1) and rises(self.starts),
            "weights": within(self.weights, _MOST_WEIGHT, start=1),
            "totals": rises(self.totals),
            "rows": within(self.rows, len(self)),
            "slots": within(self.slots[:1], 1) and within(np.diff(self.slots.view(np.int32)), 2),
            "cuts": within(self.cuts[:1], 1) and rises(self.cuts),
        }

    def release(self) -> None:
        """Give the pages of the files back to the system (`deft.files.release`)."""
        for name in _ARRAYS:
            release(getattr(self, name))

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
        if not len(wanted.cuts):
            return np.empty(0, dtype=np.int64), np.empty(0)
        floor = self._floor(wanted, count, allowed) - _MARGIN
        positions, bounds = self._candidates(wanted, floor)
        if allowed is not None:
            kept = allowed[self.rows[positions]]
            positions, bounds = positions[kept], bounds[kept]
        return self._best(wanted, positions, bounds, count)

    def similarity(self, query: str, rows: np.ndarray) -> NDArray[np.float64]:
        """Return the similarity of each of `rows` to the query, as `search` would."""
        return self.compare(query, rows)[0]

    def compare(self, query: str, rows: np.ndarray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compare `rows` with a query.

        Returns
        -------
        similarities, shares
            The similarity of each to the query, as `search` would tell it, and the share of the query's
            weight that it has: 1 if nothing of the query is left over. Rounded to six decimals.
        """
        wanted, rows = _Wanted.of(query, self), np.asarray(rows, dtype=np.int64)
        shared, totals = (
            weigh(self.text, self.starts, rows, table) for table in (wanted.table, self.weights)
        )
        shares = shared.astype(np.float64) / max(wanted.total, 1)
        return _ratio(shared, wanted.total, totals).round(_DECIMALS), shares.round(_DECIMALS)

    def _floor(self, wanted: _Wanted, count: int, allowed: np.ndarray | None) -> float:
        """Return a similarity that `count` rows are sure to reach: the higher, the less is read."""
        floor, budget, tried = 0.0, max(_SEED, count), _TRIED * count
        while True:
            positions = self._promising(wanted, budget, tried, allowed)
            if len(positions) >= count:
                similarities = self._similarities(wanted, positions)
                floor = max(floor, float(similarities[_largest(similarities, count)].min()))
            low, highs = self._limits(wanted, _SLACK * floor)
            if np.diff(wanted.between(low, highs)).sum() <= _WORTH * budget:
                return floor
            budget, tried = _DEEPER * budget, _DEEPER * tried

    def _promising(self, wanted: _Wanted, budget: int, tried: int, allowed: np.ndarray | None) -> Ints:
        """Return about `tried` positions that look similar by the first `budget` postings.

        These are from the lists of the rarest trigrams, among the strings that weigh about as much as the
        query.
        """
        near = _whole(wanted.total * np.array(_NEAR))
        first, middle, end = np.searchsorted(self.totals, near).tolist()
        places, shared = wanted.add(wanted.take(first, middle, end, budget), first, end)
        if allowed is not None:
            places = places[allowed[self.rows[places + first]]]
        values = shared[places]
        at_least = np.cumsum(np.bincount(values, minlength=2)[:0:-1])  # from the highest value down to 1
        enough = len(at_least) - min(int(np.searchsorted(at_least, 3 * tried)), len(at_least) - 1)
        places = np.sort(places[values >= enough])
        places = places[np.diff(places, prepend=-1) != 0]
        positions: Ints = first + places.astype(np.int64)
        guesses = _ratio(wanted.unit * shared[places].astype(np.int64), wanted.total, self.totals[positions])
        return positions[_largest(guesses, tried)]

    def _candidates(self, wanted: _Wanted, floor: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the positions that may reach `floor`, with an upper bound of the similarity of each.

        Lists are read from the rarest trigram on. A string that was in none so far shares at most the weight
        of the trigrams that are left, so from some weight on it is too heavy to reach `floor`, and that limit
        falls with each list: of the long lists of frequent trigrams little is read, or nothing. What they may
        add to a string that was found goes into its bound.
        """
        low, highs = self._limits(wanted, _SLACK * floor)
        _, shared = wanted.add(wanted.between(low, highs), low, highs[0])
        # From one limit down to the next, the same lists have been read. What is found must share enough for
        # the lightest string of its stretch, so stretches are cut where the weight has grown by a step.
        steps = max(1, int(self.totals[min(low, len(self) - 1)])) * _STEP ** np.arange(32)
        edges = np.unique([*highs, *np.searchsorted(self.totals, _whole(steps)).clip(low, highs[0])])
        rest = wanted.left[len(highs) - np.searchsorted(highs[::-1], edges[:-1], side="right")]
        least = floor * (wanted.total + _STRING * self.totals[edges[:-1]].astype(np.float64)) / _BOTH - rest
        most = np.iinfo(shared.dtype).max
        mask = np.empty(len(shared), dtype=bool)
        for start, stop, units in zip(
            edges[:-1] - low, edges[1:] - low, np.ceil(least / wanted.unit).clip(1, most), strict=True
        ):
            np.greater_equal(shared[start:stop], shared.dtype.type(units), out=mask[start:stop])
        places = _flags(mask)
        positions = low + places
        totals = self.totals[positions].astype(np.int64)
        most_shared = wanted.unit * shared[places].astype(np.int64)
        most_shared += np.repeat(rest, np.diff(np.searchsorted(positions, edges)))
        bounds = _ratio(np.minimum(most_shared, totals), wanted.total, totals)
        kept = bounds >= floor
        return positions[kept], bounds[kept]

    def _limits(self, wanted: _Wanted, floor: float) -> tuple[int, list[int]]:
        """Return the range of positions where a string may reach `floor`: where it starts, and where it ends.

        A string shares with the query at most its own weight, hence the start, and of a string that was found
        in no list so far at most what is left, hence an end for each list. The last end is the start.
        """
        if floor <= 0:
            return 0, [len(self)] * len(wanted.cuts) + [0]
        lightest = floor * wanted.total / (_BOTH - _STRING * floor)
        heaviest = (_BOTH * wanted.left[:-1] / floor - wanted.total) / _STRING
        low = int(np.searchsorted(self.totals, _whole(lightest)))
        highs = np.searchsorted(self.totals, _whole(heaviest), side="right")
        return low, [*np.maximum(highs, low).tolist(), low]

    def _best(
        self, wanted: _Wanted, positions: Ints, bounds: NDArray[np.float64], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the best of some positions: the most promising first, then those that may beat them."""
        similarities = np.zeros(len(positions))
        first = _largest(bounds, _TRIED * count)
        similarities[first] = self._similarities(wanted, positions[first])
        floor = similarities[_largest(similarities, count)].min(initial=1)
        more = np.setdiff1d(np.flatnonzero(bounds >= floor - _MARGIN), first, assume_unique=True)
        similarities[more] = self._similarities(wanted, positions[more])
        kept = np.flatnonzero(similarities >= max(floor, _MARGIN))
        rows, similarities = self.rows[positions[kept]].astype(np.int64), similarities[kept]
        best = np.lexsort((rows, -similarities))[:count]
        return rows[best], similarities[best]

    def _similarities(self, wanted: _Wanted, positions: Ints) -> NDArray[np.float64]:
        shared = weigh(self.text, self.starts, self.rows[positions], wanted.table)
        return _ratio(shared, wanted.total, self.totals[positions]).round(_DECIMALS)


@dataclass(frozen=True)
class _Wanted:
    """What a query asks for: its trigrams, the rarest first."""

    total: int
    table: Unsigned  # weight of each trigram of the query, 0 for all others
    postings: NDArray[np.uint16]
    cuts: NDArray[np.int64]  # where its postings start in each block, and the end
    left: NDArray[np.int64]  # weight of each list and those that follow it, and 0
    unit: int  # weights are added up as few small numbers of this unit, rounded up: that takes less memory
    units: np.ndarray

    @classmethod
    def of(cls, query: str, index: LexicalIndex) -> _Wanted:
        trigrams = trigrams_of(query)
        weights = index.weights[trigrams].astype(np.int64)
        total = int(weights.sum())
        table = np.zeros(TRIGRAMS, dtype=np.uint32)
        table[trigrams] = weights
        blocks = _blocks(len(index))
        present = index.slots[trigrams] < index.slots[trigrams + 1]
        first = index.slots[trigrams[present]].astype(np.int64) * blocks
        cuts = index.cuts[first[:, None] + np.arange(blocks + 1)].astype(np.int64)
        order = np.argsort(cuts[:, -1] - cuts[:, 0], kind="stable")
        cuts = cuts[order]
        weights = weights[present][order]
        left = np.append(np.cumsum(weights[::-1])[::-1], 0)
        kinds = (np.iinfo(kind) for kind in (np.uint8, np.uint16, np.uint32))
        kind = next(kind for kind in kinds if 8 * len(cuts) <= kind.max)
        unit = 1 + total // (kind.max - len(cuts))
        return cls(total, table, index.postings, cuts, left, unit, (-(-weights // unit)).astype(kind.dtype))

    def between(self, low: int, highs: list[int]) -> NDArray[np.int64]:
        """Return which postings of each list are from position `low` to its end in `highs`.

        The ends fall. What is returned, of shape (lists, 2), stops before the first list that has none.
        """
        ends = [high for high in highs if high > low]
        return _parts((self._place(at, low), self._place(at, high)) for at, high in enumerate(ends))

    def take(self, first: int, middle: int, end: int, budget: int) -> NDArray[np.int64]:
        """Return `budget` postings from position `first` to `end`, of the last list those about `middle`."""
        parts = []
        for at in range(len(self.cuts)):
            start, stop = self._place(at, first), self._place(at, end)
            if stop - start > budget:
                start = max(start, min(self._place(at, middle) - budget // 2, stop - budget))
                stop = start + budget
            parts.append((start, stop))
            budget -= stop - start
            if not budget:
                break
        return _parts(parts)

    def add(self, parts: NDArray[np.int64], low: int, high: int) -> tuple[NDArray[np.int32], np.ndarray]:
        """Return the positions in parts of the lists, and for each from `low` to `high` what they add up to.

        Positions count from `low`. What is added up are the units of the lists that have a position.
        """
        sizes = np.diff(self.cuts[: len(parts)].clip(parts[:, :1], parts[:, 1:])).ravel()
        bases = np.arange(0, self.cuts.shape[1] - 1, dtype=np.int32) * BLOCK - low
        held = [np.empty(0, dtype=np.uint16), *(self.postings[start:stop] for start, stop in parts.tolist())]
        places = np.concatenate(held, dtype=np.int32)
        places += np.repeat(np.tile(bases.astype(np.int32), len(parts)), sizes)
        ends = np.cumsum([0, *np.diff(parts).ravel()], dtype=np.int32)
        ones = np.ones(len(places), dtype=self.units.dtype)
        if not within(places, high - low):
            raise _damaged()
        matrix = csc_array((ones, places, ends), shape=(high - low, len(parts)))
        return places, matrix @ self.units[: len(parts)]

    def _place(self, at: int, position: int) -> int:
        """Return where the postings of a list reach a position."""
        block, number = divmod(position, BLOCK)
        start = int(self.cuts[at, block])
        if not number:
            return start
        stop = int(self.cuts[at, block + 1])
        return start + int(np.searchsorted(self.postings[start:stop], np.uint16(number)))


def _parts(pairs: Iterable[tuple[int, int]]) -> NDArray[np.int64]:
    parts = np.array(list(pairs), dtype=np.int64).reshape(-1, 2)
    if (parts[:, 0] > parts[:, 1]).any():
        raise _damaged()
    return parts


def _damaged() -> InputError:
    return InputError("is damaged.", path=FILES[-1], remedy=DAMAGED)


def _room(path: Path, size: int) -> NDArray[np.uint16]:
    """Map a file for so many values; a full disk is noticed now, and not by a signal when it is written."""
    postings: NDArray[np.uint16] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint16, shape=(size,))
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return postings


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _flags(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return where a mask is set, as `np.flatnonzero` does, which is slower where it is hardly ever."""
    whole = len(mask) - len(mask) % 8
    words = np.flatnonzero(mask[:whole].view(np.uint64) != 0)
    inside = np.flatnonzero(mask[:whole].reshape(-1, 8)[words])
    return np.concatenate([8 * words[inside >> 3] + (inside & 7), whole + np.flatnonzero(mask[whole:])])


def _largest(values: NDArray[np.float64], count: int) -> Ints:
    """Return where the `count` largest values are, in no order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count - 1)[:count]


def _ratio(shared: np.ndarray, total: int, totals: np.ndarray) -> NDArray[np.float64]:
    """Return the similarity for weights of what is shared, of the query and of the strings."""
    whole = _QUERY * total + _STRING * totals.astype(np.float64)
    return _BOTH * shared.astype(np.float64) / np.maximum(whole, 1)


def _whole(values: float | np.ndarray) -> Unsigned:
    """Round down to uint32: a number of another type would have numpy convert the array that is searched."""
    return np.asarray(np.clip(values, 0, np.iinfo(np.uint32).max), dtype=np.uint32)
