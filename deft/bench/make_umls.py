"""A made-up Metathesaurus of any size in the true format, to measure what size costs.

Its strings are words of a real one put together anew, some of them coined from two halves. They have the
lengths, the languages and the repeated words of a Metathesaurus, and mean nothing. Memory does not grow with
the number of strings: they are made and written a chunk at a time, and a table of bits of fixed size keeps
them distinct.
"""

from __future__ import annotations

import gzip
import io
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from deft.errors import InputError
from deft.files import atomic_folder
from deft.progress import Progress
from deft.terminology.rrf import AtomFilter, read_atoms

_CHUNK = 20_000  # strings made at once
_SEEN_BITS = 29  # the table of strings that are there takes 64 MiB
_LEAST_NEW = 0.02  # share of new strings in a chunk under which the vocabulary is used up

_FRENCH = 0.3
_MEAN_LENGTH, _LENGTH_SPREAD, _MOST_WORDS = 22.0, 0.55, 14
_COINED = 0.12  # share of words put together from two halves; a string of one word always is
_STEM = 4  # least letters of a half
_NAMES = 4.0  # mean number of strings of a concept
_SAME_HEAD = 0.5  # share of synonyms that start with the same word as the concept's first string
_REPEATED = 0.25  # share of strings that a second source has too
_DEFINED = 50  # one concept in so many has a definition

# Names that no release has, so that nobody takes this for data.
_SOURCES = {"ENG": ("GENA", "GENB", "GENC", "GEND"), "FRE": ("GENAFRE", "GENBFRE")}
# Semantic types with their number and place in the UMLS Semantic Network, and how often each is given here.
_TYPES = (
    ("T047", "B2.2.1.2.1", "Disease or Syndrome", 0.3),
    ("T033", "A2.2", "Finding", 0.2),
    ("T061", "B1.3.1.3", "Therapeutic or Preventive Procedure", 0.2),
    ("T121", "A1.4.1.1.1", "Pharmacologic Substance", 0.15),
    ("T023", "A1.2.3.1", "Body Part, Organ, or Organ Component", 0.15),
)
_FILES = ("MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF")

Ints = NDArray[np.int64]
Words = NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class MadeUmls:
    """How much was written: distinct strings, atoms (lines of MRCONSO), concepts, and the seconds it took."""

    strings: int
    atoms: int
    concepts: int
    seconds: float


@dataclass(frozen=True)
class _Chunk:
    """Distinct strings in the order of their concepts; `concepts` counts from 0, none is left out."""

    strings: Sequence[str]
    french: Sequence[bool]
    concepts: Sequence[int]


def make_umls(
    strings: int,
    out: str | Path,
    *,
    vocabulary: str | Path,
    compressed: bool = False,
    seed: int = 13,
    progress: bool = False,
) -> MadeUmls:
    """Write MRCONSO, MRSTY and MRDEF of made-up strings; the same arguments give the same bytes.

    Parameters
    ----------
    strings
        Number of distinct strings. There are a quarter more atoms: a second source repeats some.
    out
        Folder to write, or to write anew.
    vocabulary
        Folder of the Metathesaurus whose French and English words are put together.
    compressed
        Write `.gz` files.
    seed
        Of all that is drawn.
    progress
        Show progress on standard error.

    Raises
    ------
    InputError
        `strings` is less than 1, the vocabulary is missing or has too few words for so many strings, or `out`
        cannot be written.
    """
    generator = _Generator(Path(vocabulary), seed)
    start = time.perf_counter()
    suffix = ".gz" if compressed else ""
    atoms = concepts = 0
    with atomic_folder(Path(out), marker=f"MRCONSO.RRF{suffix}") as folder, ExitStack() as stack:
        conso, types, definitions = (
            stack.enter_context(_open(folder / f"{name}{suffix}")) for name in _FILES
        )
        bar = stack.enter_context(
            Progress(total=strings, disable=not progress, unit=" strings", unit_scale=True)
        )
        for chunk in generator.chunks(strings):
            lines, defined = generator.atom_lines(chunk, concepts, atoms)
            conso.write("".join(lines))
            definitions.write("".join(defined))
            count = chunk.concepts[-1] + 1
            types.write("".join(generator.type_lines(count, concepts)))
            atoms += len(lines)
            concepts += count
            bar.update(len(chunk.strings))
    return MadeUmls(strings, atoms, concepts, round(time.perf_counter() - start, 3))


def made_strings(count: int, vocabulary: str | Path, *, seed: int = 13) -> list[str]:
    """Return distinct strings as `make_umls` makes them with the same vocabulary and seed.

    Raises
    ------
    InputError
        As `make_umls`.
    """
    return [string for chunk in _Generator(Path(vocabulary), seed).chunks(count) for string in chunk.strings]


class _Generator:
    """Draw strings from the words of a Metathesaurus.

    Words are drawn as often as they occur there: English ones first in the arrays, then French ones.
    """

    def __init__(self, vocabulary: Path, seed: int) -> None:
        atoms = read_atoms(vocabulary, AtomFilter(languages=("ENG", "FRE")))
        by_language = [
            " ".join(atoms.loc[atoms["language"] == language, "string"]).replace("|", " ").split()
            for language in ("ENG", "FRE")
        ]
        if not all(by_language):
            raise InputError("has no English or no French string.", path=vocabulary)
        self._path = vocabulary
        self._rng = np.random.default_rng((seed, 0))  # of the strings
        self._about = np.random.default_rng((seed, 1))  # of what is said of them
        self._words, self._word_start = _joined(by_language)
        self._lengths = np.array([len(word) for word in self._words])
        long = [[word for word in words if len(word) >= 2 * _STEM] or words for words in by_language]
        halves = [[(word[: len(word) // 2], word[len(word) // 2 :]) for word in words] for words in long]
        self._heads, self._half_start = _joined([[head for head, _ in words] for words in halves])
        self._tails, _ = _joined([[tail for _, tail in words] for words in halves])
        self._seen = np.zeros(1 << (_SEEN_BITS - 3), dtype=np.uint8)

    def chunks(self, count: int) -> Iterator[_Chunk]:
        """Yield chunks of `count` distinct strings in all."""
        if count < 1:
            raise InputError(f"the number of strings is {count}; it must be 1 or more.")
        left = count
        while left:
            chunk = self._chunk()
            if len(chunk.strings) < min(left, _LEAST_NEW * _CHUNK):
                raise InputError(
                    f"its words do not make {count:,} distinct strings.",
                    path=self._path,
                    remedy="Give a larger vocabulary, or ask for fewer strings.",
                )
            yield _Chunk(chunk.strings[:left], chunk.french[:left], chunk.concepts[:left])
            left -= min(left, len(chunk.strings))

    def atom_lines(self, chunk: _Chunk, first_concept: int, first_atom: int) -> tuple[list[str], list[str]]:
        """Return the lines of MRCONSO, one an atom, some strings twice, and those of MRDEF."""
        repeated = self._about.random(len(chunk.strings)) < _REPEATED
        sources = self._about.integers(0, 1 << 16, len(chunk.strings)).tolist()
        lines: list[str] = []
        defined: list[str] = []
        named: set[tuple[int, str]] = set()  # concepts of this chunk that have a preferred name
        last = -1
        rows = zip(chunk.strings, chunk.french, chunk.concepts, sources, repeated.tolist(), strict=True)
        for string, french, concept, source, twice in rows:
            language = "FRE" if french else "ENG"
            choice = _SOURCES[language]
            preferred = (concept, language) not in named
            named.add((concept, language))
            number = first_atom + len(lines)
            place = first_concept + concept
            cui, code = f"C{place:07d}", f"G{place:07d}"
            same = f"{cui}|{language}|{'P' if preferred else 'S'}|L{number:08d}|PF|S{number:08d}|"
            rest = f"{code}|{string}|0|N||\n"
            kind, sab = ("PT" if preferred else "SY"), choice[source % len(choice)]
            main = "Y" if preferred else "N"
            lines.append(f"{same}{main}|A{number:08d}||{code}||{sab}|{kind}|{rest}")
            if twice:
                sab = choice[(source + 1) % len(choice)]
                lines.append(f"{same}N|A{number + 1:08d}||{code}||{sab}|SY|{rest}")
            if place % _DEFINED == 0 and concept != last:
                text = f"A made-up concept: {string}."
                defined.append(f"{cui}|A{number:08d}|AT{place:08d}||{choice[0]}|{text}|N||\n")
            last = concept
        return lines, defined

    def type_lines(self, count: int, first_concept: int) -> Iterator[str]:
        """Yield the lines of MRSTY: a semantic type a concept."""
        drawn = self._about.choice(len(_TYPES), size=count, p=[share for *_, share in _TYPES])
        for number, which in enumerate(drawn.tolist(), start=first_concept):
            tui, place, name, _ = _TYPES[which]
            yield f"C{number:07d}|{tui}|{place}|{name}|AT{number:08d}||\n"

    def _chunk(self) -> _Chunk:
        sizes = self._rng.geometric(1 / _NAMES, _CHUNK)
        concepts = np.repeat(np.arange(_CHUNK), sizes)[:_CHUNK]
        french = self._rng.random(_CHUNK) < _FRENCH
        strings = self._draw(french.astype(np.int64), concepts)
        kept = self._new(strings)
        numbers = np.unique(concepts[kept], return_inverse=True)[1]
        return _Chunk([strings[row] for row in kept], french[kept].tolist(), numbers.tolist())

    def _draw(self, language: Ints, concepts: Ints) -> list[str]:
        """Return a string a row: words until the length drawn for it is reached."""
        slots = self._pick(self._word_start, language[:, None], _MOST_WORDS)
        self._share_heads(slots, language, concepts)
        ends = np.cumsum(self._lengths[slots] + 1, axis=1) - 1
        location = np.log(_MEAN_LENGTH) - _LENGTH_SPREAD**2 / 2  # of a log-normal law with that mean
        wanted = self._rng.lognormal(location, _LENGTH_SPREAD, (len(slots), 1))
        # another word is taken while that brings the length nearer to the one wanted
        counts = 1 + ((ends[:, :-1] + ends[:, 1:]) / 2 < wanted).sum(axis=1)
        words = self._words[slots[np.arange(_MOST_WORDS) < counts[:, None]]]
        stops = np.cumsum(counts)
        coined = self._rng.random(len(words)) < _COINED
        coined[stops[counts == 1] - 1] = True
        of_word = np.repeat(language, counts)[coined]
        heads = self._heads[self._pick(self._half_start, of_word)]
        words[coined] = heads + self._tails[self._pick(self._half_start, of_word)]
        flat = words.tolist()
        starts = (stops - counts).tolist()
        return [" ".join(flat[start:stop]) for start, stop in zip(starts, stops.tolist(), strict=True)]

    def _share_heads(self, slots: Ints, language: Ints, concepts: Ints) -> None:
        """Give some synonyms the first word of their concept's first string, if that is of their language."""
        first = np.searchsorted(concepts, concepts)
        shared = (self._rng.random(len(slots)) < _SAME_HEAD) & (language == language[first])
        slots[shared, 0] = slots[first[shared], 0]

    def _pick(self, starts: Ints, language: Ints, columns: int | None = None) -> Ints:
        """Return random places in one of the joined arrays, in the part of each row's language."""
        low, high = starts[language], starts[language + 1]
        shape = language.shape if columns is None else (len(language), columns)
        return low + (self._rng.random(shape) * (high - low)).astype(np.int64)

    def _new(self, strings: list[str]) -> Ints:
        """Return the rows, in order, of strings that were not made before.

        A string goes by its checksum: none comes twice, and one in a hundred is lost when there are millions.
        """
        sums = np.fromiter((zlib.crc32(string.encode()) for string in strings), np.uint32, len(strings))
        bits = (sums >> np.uint32(32 - _SEEN_BITS)).astype(np.int64)
        _, first = np.unique(bits, return_index=True)
        rows = np.sort(first)
        places, masks = bits[rows] >> 3, np.uint8(1) << (bits[rows] & 7).astype(np.uint8)
        fresh = (self._seen[places] & masks) == 0
        np.bitwise_or.at(self._seen, places[fresh], masks[fresh])
        new: Ints = rows[fresh]
        return new


def _joined(parts: Sequence[Sequence[str]]) -> tuple[Words, Ints]:
    """Return the words of all parts in one array, and where each part starts; the last number ends it."""
    words = np.array([word for part in parts for word in part], dtype=object)
    return words, np.cumsum([0, *map(len, parts)])


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    """Open a file for text; a `.gz` carries neither name nor time, so that equal content is equal bytes."""
    with path.open("wb") as raw, ExitStack() as stack:
        target: IO[bytes] = raw
        if path.suffix == ".gz":
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)
            target = cast("IO[bytes]", stack.enter_context(packed))
        with io.TextIOWrapper(target, encoding="utf-8", newline="") as stream:
            yield stream
