"""Map terms to concepts: the neighbours of a term among the strings of an index, as distinct concepts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index.build import ENCODER
from deft.index.dense import TOLERANCE, DenseIndex
from deft.index.manifest import Manifest
from deft.terminology.concepts import Concepts
from deft.text import clean

_BATCH = 256  # queries that are searched at once


@dataclass(frozen=True, slots=True)
class Candidate:
    """A concept proposed for a query.

    Attributes
    ----------
    rank
        Place in the ranking, from 1.
    cui, name
        The concept and its preferred name.
    matched
        The string of the concept that is nearest to the query.
    language, source
        Language (LAT) and source (SAB) of that string.
    semantic_types
        TUIs of the concept.
    definition
        Its definition, "" where there is none.
    cosine
        Cosine similarity of query and matched string.
    score
        What the ranking goes by; here the cosine.
    """

    rank: int
    cui: str
    name: str
    matched: str
    language: str
    source: str
    semantic_types: tuple[str, ...]
    definition: str
    cosine: float
    score: float


@dataclass(frozen=True, slots=True)
class Mapping:
    """A query and its candidates, the best first."""

    query: str
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate | None:
        """The first candidate, if there is one."""
        return self.candidates[0] if self.candidates else None

    def at(self, threshold: float) -> Mapping:
        """Return the mapping with only the candidates whose score is at least `threshold`.

        This is a new decision, not a new search.
        """
        return replace(
            self, candidates=tuple(candidate for candidate in self.candidates if candidate.score >= threshold)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the mapping as plain values, ready for JSON."""
        return asdict(self)


class TermMapper:
    """Map terms to the concepts of an index.

    Example
    -------
    >>> mapper = TermMapper.open("umls_index")  # doctest: +SKIP
    >>> mapper.map(["crise cardiaque"], k=5)[0].best.cui  # doctest: +SKIP
    'C0027051'
    """

    def __init__(self, concepts: Concepts, index: DenseIndex, encoder: Encoder) -> None:
        self.concepts = concepts
        self.encoder = encoder
        self._index = index
        self._strings = concepts.strings["string"].to_numpy()
        self._atoms = {
            name: concepts.atoms[name].to_numpy() for name in ("string", "concept", "language", "source")
        }
        self._about = {
            name: concepts.concepts[name].to_numpy()
            for name in ("cui", "name", "semantic_types", "definition")
        }

    @classmethod
    def open(
        cls, path: str | Path, *, encoder: str | Path | None = None, threads: int | None = None
    ) -> TermMapper:
        """Open an index.

        Parameters
        ----------
        path
            Folder that `deft index build` wrote.
        encoder
            Encoder bundle, if not the copy in the index; it must be the one that the index was built with.
        threads
            Threads of the encoder, by default one a processor.

        Raises
        ------
        InputError
            The index is missing, incomplete, of another version or of another encoder.
        """
        folder = Path(path)
        manifest = Manifest.read(folder)
        model = Encoder.open(folder / ENCODER if encoder is None else Path(encoder), threads=threads)
        if model.fingerprint != manifest.encoder.get("fingerprint"):
            remedy = "Use the encoder in the index, or build the index again with `deft index build`."
            raise InputError("was built with another encoder.", path=folder, remedy=remedy)
        return cls(Concepts.open(folder), DenseIndex.open(folder), model)

    def map(
        self, terms: Sequence[str], k: int = 5, threshold: float | None = None, *, progress: bool = False
    ) -> list[Mapping]:
        """Return the `k` best distinct concepts of each term.

        Parameters
        ----------
        terms
            Queries; equal ones are searched once.
        k
            Number of concepts a query.
        threshold
            Smallest score of a candidate; none by default.
        progress
            Show progress on standard error.

        Returns
        -------
        list of Mapping
            One a term, in order. It does not depend on the other terms. Equal scores are ordered by CUI.

        Raises
        ------
        InputError
            A term is empty, or `k` is less than 1.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}.")
        cleaned = _cleaned(terms)
        distinct = list(dict.fromkeys(cleaned))
        vectors = self._encode(distinct, progress=progress)
        found = dict(zip(distinct, self._search(vectors, k), strict=True))
        mappings = [Mapping(term, found[key]) for term, key in zip(terms, cleaned, strict=True)]
        return mappings if threshold is None else [mapping.at(threshold) for mapping in mappings]

    def _encode(self, terms: list[str], *, progress: bool) -> np.ndarray:
        if not terms or not self.encoder.info.batch_invariant:  # the encoder takes texts one by one itself
            return self.encoder.encode(terms, progress=progress)
        # padding in a batch moves the last bit of a vector, and a bit can turn a rounded cosine
        bar = tqdm(terms, desc="encode", unit="text", disable=not progress)
        return np.concatenate([self.encoder.encode([term]) for term in bar])

    def _search(self, vectors: np.ndarray, k: int) -> Iterator[tuple[Candidate, ...]]:
        for start in range(0, len(vectors), _BATCH):
            batch = vectors[start : start + _BATCH]
            # a concept has several strings: more neighbours than concepts are fetched,
            # and for the few queries that need it, more again
            rows, cosines = self._index.search(batch, 4 * k + 16)
            for query, near, similarity in zip(batch, rows, cosines, strict=True):
                yield self._candidates(query, near, similarity, k)

    def _candidates(
        self, query: np.ndarray, rows: np.ndarray, cosines: np.ndarray, k: int
    ) -> tuple[Candidate, ...]:
        best = self._best_atoms(rows, cosines)
        while len(rows) < len(self._index) and not _settled(best, cosines[-1], k):
            rows, cosines = (values[0] for values in self._index.search(query[None, :], 4 * len(rows)))
            best = self._best_atoms(rows, cosines)
        cuis = self._about["cui"]
        order = sorted(best.items(), key=lambda item: (-item[1][1], cuis[item[0]]))[:k]
        return tuple(
            self._candidate(rank, concept, *match) for rank, (concept, match) in enumerate(order, start=1)
        )

    def _best_atoms(self, rows: np.ndarray, cosines: np.ndarray) -> dict[int, tuple[int, float]]:
        """Return the nearest atom of each concept and its cosine."""
        first = self.concepts.first_atom
        best: dict[int, tuple[int, float]] = {}
        for row, cosine in zip(rows, cosines, strict=True):
            for atom in range(first[row], first[row + 1]):
                best.setdefault(int(self._atoms["concept"][atom]), (atom, float(cosine)))
        return best

    def _candidate(self, rank: int, concept: int, atom: int, cosine: float) -> Candidate:
        types = self._about["semantic_types"][concept]
        return Candidate(
            rank=rank,
            cui=self._about["cui"][concept],
            name=self._about["name"][concept],
            matched=self._strings[self._atoms["string"][atom]],
            language=self._atoms["language"][atom],
            source=self._atoms["source"][atom],
            semantic_types=tuple(types.split(";")) if types else (),
            definition=self._about["definition"][concept],
            cosine=cosine,
            score=cosine,
        )


def _settled(best: dict[int, tuple[int, float]], last: float, k: int) -> bool:
    """Tell whether no string beyond the last neighbour can change the first `k` concepts, ties included."""
    return sum(cosine > last + TOLERANCE for _, cosine in best.values()) >= k


def _cleaned(terms: Sequence[str]) -> list[str]:
    if isinstance(terms, str):
        raise InputError(
            "one string was given where a list of terms is expected.", remedy="Put it in a list."
        )
    cleaned = []
    for position, term in enumerate(terms, start=1):
        text = clean(term) if isinstance(term, str) else ""
        if not text:
            raise InputError(f"term {position} is empty.", remedy="Fill it in or leave it out.")
        cleaned.append(text)
    return cleaned
