"""Map terms to concepts: what is near a term among the strings of an index, ranked, with a confidence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index.dense import TOLERANCE, DenseIndex
from deft.index.lexical import LexicalIndex
from deft.index.manifest import ENCODER, OWN_MODEL, Manifest
from deft.mapping.decisions import Curated, Decision
from deft.mapping.filters import ConceptFilter, atoms_of_group, strings_of
from deft.mapping.fusion import SHIPPED, MappingModel
from deft.mapping.pool import VARIANT_TRUST, Evidence, Pool, PoolMaker
from deft.mapping.query import understand
from deft.mapping.results import Candidate, Mapping, Match
from deft.terminology.concepts import Concepts
from deft.text import clean, normalize

Channel = Literal["fused", "dense", "lexical"]

_BATCH = 256  # queries that are searched at once
_DEPTH = 100  # strings that each channel brings in at first
_RELEASED = 16  # queries after which what was read of the files no longer counts as memory of the process
_MASKS = 32  # filters whose masks are kept
_LOOK = 10  # candidates that are compared with the first
_ALIKE = 0.6  # lexical similarity from which a string is called written alike
_ORDER = {"fused": "both", "dense": "cosine", "lexical": "lexical"}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Limits:
    """Atoms and strings that may answer; all if None."""

    atoms: np.ndarray | None
    strings: np.ndarray | None


@dataclass(frozen=True)
class _Search:
    """A query on its way.

    Attributes
    ----------
    texts, vectors
        The query, then its variants, and the vector of each.
    near, cosines
        Rows that are nearest to each, and their cosines.
    k, channel, limits
        What is asked for.
    """

    texts: tuple[str, ...]
    vectors: np.ndarray
    near: np.ndarray
    cosines: np.ndarray
    k: int
    channel: Channel
    limits: _Limits


class TermMapper:
    """Map terms to the concepts of an index.

    It holds no state that a call changes: calls from several threads are safe.

    Example
    -------
    >>> mapper = TermMapper.open("umls_index")  # doctest: +SKIP
    >>> mapper.map(["crise cardiaque"], k=5)[0].best.cui  # doctest: +SKIP
    'C0027051'
    """

    def __init__(
        self,
        concepts: Concepts,
        dense: DenseIndex,
        lexical: LexicalIndex,
        encoder: Encoder,
        *,
        model: MappingModel,
        curated: Curated | None = None,
    ) -> None:
        self.concepts = concepts
        self.encoder = encoder
        self.model = model
        self._dense = dense
        self._lexical = lexical
        self._asked = 0
        self._maker = PoolMaker(concepts)
        self._atoms = {name: concepts.numbers("atoms", name) for name in ("string", "concept")}
        self._labels = {name: concepts.labels("atoms", name) for name in ("language", "source", "term_type")}
        self._types = concepts.labels("concepts", "semantic_types")
        self._strings = concepts.texts("strings", "string")
        self._about = {name: concepts.texts("concepts", name) for name in ("name", "definition")}
        self._limits = lru_cache(maxsize=_MASKS)(self._new_limits)
        self._curated = curated
        if curated is not None:
            for message in (*curated.missing(_Known(concepts)), *curated.overruled(concepts.current)):
                logger.warning("%s", message)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        encoder: str | Path | None = None,
        threads: int | None = None,
        curated: Curated | None = None,
        model: MappingModel | None = None,
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
        curated
            Curated mappings (`deft.read_curated`): accepted ones come first, rejected ones never.
        model
            Mapping model, if not that of the index or the one that comes with deft.

        Raises
        ------
        InputError
            The index is missing, incomplete, of another version or of another encoder.
        """
        folder = Path(path)
        manifest = Manifest.read(folder)
        opened = Encoder.open(folder / ENCODER if encoder is None else Path(encoder), threads=threads)
        if opened.fingerprint != manifest.encoder.get("fingerprint"):
            remedy = "Use the encoder in the index, or build the index again with `deft index build`."
            raise InputError("was built with another encoder.", path=folder, remedy=remedy)
        own = folder / OWN_MODEL
        return cls(
            Concepts.open(folder),
            DenseIndex.open(folder),
            LexicalIndex.open(folder),
            opened,
            model=model or MappingModel.read(own if own.exists() else SHIPPED),
            curated=curated,
        )

    def map(
        self,
        terms: Sequence[str],
        k: int = 5,
        threshold: float | None = None,
        *,
        channel: Channel = "fused",
        min_confidence: float | None = None,
        keep: ConceptFilter | None = None,
        groups: Sequence[str] | None = None,
        progress: bool = False,
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
        channel
            What ranks: meaning (`dense`), spelling (`lexical`), or both with all other signals (`fused`).
        min_confidence
            Smallest confidence of the first candidate; below it there is no match.
        keep
            What an answer must be.
        groups
            A semantic group a term that its concepts must belong to, "" for any.
        progress
            Show progress on standard error.

        Returns
        -------
        list of Mapping
            One a term, in order. It does not depend on the other terms. Equal scores are ordered by CUI.

        Raises
        ------
        InputError
            A term is empty, `k` is less than 1, there are not as many groups as terms, or a filter names what
            the index does not have.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}.")
        if channel not in _ORDER:
            raise InputError(f"no channel is called {channel}.", remedy=f"They are {', '.join(_ORDER)}.")
        cleaned = _cleaned(terms)
        wanted = [""] * len(cleaned) if groups is None else [group.strip() for group in groups]
        if len(wanted) != len(cleaned):
            raise InputError(f"{len(cleaned)} terms were given and {len(wanted)} groups.")
        by_group: dict[str, dict[str, None]] = {}
        for term, group in zip(cleaned, wanted, strict=True):
            by_group.setdefault(group, {})[term] = None
        found: dict[tuple[str, str], Mapping] = {}
        with tqdm(total=sum(map(len, by_group.values())), disable=not progress, unit="term") as bar:
            for group, members in by_group.items():
                limits = self._limits(keep or ConceptFilter(), group)
                for mapping in self._map(list(members), k, channel, limits):
                    found[group, mapping.query] = mapping.at(threshold, min_confidence=min_confidence)
                    bar.update()
        return [
            replace(found[group, key], query=term)
            for term, key, group in zip(terms, cleaned, wanted, strict=True)
        ]

    def pools(
        self,
        terms: Sequence[str],
        *,
        keep: ConceptFilter | None = None,
        strings: np.ndarray | None = None,
        progress: bool = False,
    ) -> Iterator[Pool]:
        """Yield the pool of each term that the fused ranking chooses from; curated mappings play no part.

        This is what a mapping model is fitted on (`deft.mapping.fit`). Only `strings` may answer, bool of
        shape (strings,); all if None.
        """
        limits = self._limits(keep or ConceptFilter(), "")
        if strings is not None:
            atoms = strings[self._atoms["string"]]
            atoms = atoms if limits.atoms is None else atoms & limits.atoms
            limits = _Limits(atoms, strings_of(atoms, self.concepts))
        searches = self._searches(_cleaned(terms), 1, "fused", limits)
        for _, search in tqdm(searches, total=len(terms), disable=not progress, unit="term"):
            yield self._settled_pool(search, [])

    def _map(self, terms: list[str], k: int, channel: Channel, limits: _Limits) -> Iterator[Mapping]:
        for term, search in self._searches(terms, k, channel, limits):
            decided = self._decided(term)
            accepted = self._rows_of(cui for cui, decision in decided.items() if decision.accepted)
            refused = self._rows_of(cui for cui, decision in decided.items() if not decision.accepted)
            deep = replace(search, k=k + len(refused))  # as if those that will go were not asked for
            yield self._ranked(term, self._settled_pool(deep, accepted), search, accepted, refused)

    def _searches(
        self, terms: list[str], k: int, channel: Channel, limits: _Limits
    ) -> Iterator[tuple[str, _Search]]:
        for start in range(0, len(terms), _BATCH):
            self._release(min(_BATCH, len(terms) - start))
            batch = [understand(term) for term in terms[start : start + _BATCH]]
            texts = [(query.text, *(variant.text for variant in query.variants)) for query in batch]
            # each text is encoded by itself: the last bit of a vector depends on the padding of a batch, and
            # a bit can turn a rounded cosine
            vectors = self.encoder.encode(list(chain(*texts)), alone=True)
            near, cosines = self._dense.search(vectors, _DEPTH, allowed=limits.strings)
            last = 0
            for query, own in zip(batch, texts, strict=True):
                rows = slice(last, last := last + len(own))
                yield (
                    query.text,
                    _Search(own, vectors[rows], near[rows], cosines[rows], k, channel, limits),
                )

    def _release(self, queries: int) -> None:
        """Count queries, and give mapped pages back now and then; a count that threads lose is no harm."""
        self._asked += queries
        if self._asked >= _RELEASED:
            self._asked = 0
            for part in (self.concepts, self._dense, self._lexical):
                part.release()

    def _settled_pool(self, search: _Search, accepted: Sequence[int]) -> Pool:
        """Return the pool of a query, fetched deeper until it is settled."""
        pool, bound = self._pool(search, accepted)
        while not _settled(pool, search, bound):
            near, cosines = self._dense.search(
                search.vectors, 4 * search.near.shape[1], allowed=search.limits.strings
            )
            search = replace(search, near=near, cosines=cosines)
            pool, bound = self._pool(search, accepted)
        return pool

    def _pool(self, search: _Search, accepted: Sequence[int]) -> tuple[Pool, float]:
        """Return the pool of what was found, and the most that a string outside it can reach.

        The bound is one of the similarity that ranks in a single channel; there is nothing outside if it is
        minus infinity.
        """
        depth = search.near.shape[1]
        trust = np.array([1.0, *[VARIANT_TRUST] * (len(search.texts) - 1)])
        found = [search.near[search.near >= 0]]
        bounds = [float((trust * search.cosines[:, -1]).max()) + TOLERANCE]
        if search.channel != "dense":
            lists = [
                self._lexical.search(text, depth, allowed=search.limits.strings) for text in search.texts
            ]
            more = [rows for rows, _ in lists]
            if search.channel == "lexical":
                found, bounds = [], [float(values[-1]) for _, values in lists if len(values) == depth]
            found += more
        if accepted:
            found.append(self._atoms["string"][np.isin(self._atoms["concept"], accepted)])
        rows = np.unique(np.concatenate(found).astype(np.int64))
        if search.limits.strings is not None:
            rows = rows[search.limits.strings[rows]]
        similarity = np.stack([self._lexical.similarity(text, rows) for text in search.texts])
        cosine = self._dense.cosines(search.vectors, rows)
        best = [np.round((trust[:, None] * values).max(axis=0), 6) for values in (cosine, similarity)]
        evidence = Evidence(rows, *best)
        pool = self._maker.make(search.texts, evidence, search.limits.atoms, _ORDER[search.channel])
        # with filters, fewer strings may be allowed than were asked for
        whole = depth >= len(self._dense) or bool((search.near[:, -1] < 0).all())
        return pool, -np.inf if whole else max(bounds, default=-np.inf)

    def _ranked(
        self, term: str, pool: Pool, search: _Search, accepted: Sequence[int], refused: Sequence[int]
    ) -> Mapping:
        probability = self.model.probabilities(pool)
        match = float(np.round(self.model.match(pool), 6))
        confidence = match * self.model.shares(pool)
        ranking, score = {
            "fused": (self.model.scores(pool), probability),
            "dense": (pool.column("cosine"), pool.column("cosine")),
            "lexical": (pool.column("lexical"), pool.column("lexical")),
        }[search.channel]
        chosen = np.isin(pool.concept, accepted)
        no_match = 0.0 if chosen.any() else float(np.round(1 - match, 6))
        # rows of concepts are in order of their CUIs
        order = np.lexsort((pool.concept, -ranking, ~chosen))
        order = order[~np.isin(pool.concept[order], refused)]
        candidates = tuple(
            self._candidate(
                rank,
                pool,
                place,
                match="curated" if chosen[place] else _match(pool, place),
                score=1.0 if chosen[place] else float(np.round(score[place], 6)),
                confidence=1.0 if chosen[place] else float(np.round(confidence[place], 6)),
            )
            for rank, place in enumerate(order[: search.k], start=1)
        )
        return Mapping(
            term, candidates, self._ambiguous(pool, order, chosen), note=self._note(term), no_match=no_match
        )

    def _candidate(
        self, rank: int, pool: Pool, place: int, *, match: Match, score: float, confidence: float
    ) -> Candidate:
        concept, atom = pool.concept[place], pool.atom[place]
        types = self._types.at(concept)
        return Candidate(
            rank=rank,
            cui=self.concepts.cui(concept),
            name=self._about["name"].at(concept),
            matched=self._strings.at(self._atoms["string"][atom]),
            language=self._labels["language"].at(atom),
            source=self._labels["source"].at(atom),
            term_type=self._labels["term_type"].at(atom),
            semantic_types=tuple(types.split(";")) if types else (),
            definition=self._about["definition"].at(concept),
            match=match,
            cosine=float(pool.column("cosine")[place]),
            lexical=float(pool.column("lexical")[place]),
            score=score,
            confidence=confidence,
        )

    def _note(self, term: str) -> str:
        """Tell which retired CUIs of the curated mappings were followed."""
        followed = dict.fromkeys(
            decision.cui
            for cui, decision in self._decided(term).items()
            if decision.accepted and decision.cui != cui
        )
        return " ".join(
            f"{cui} was retired and is now {', '.join(self.concepts.current(cui))}." for cui in followed
        )

    def _ambiguous(self, pool: Pool, order: np.ndarray, chosen: np.ndarray) -> bool:
        """Tell whether another concept carries the string that the first was found by."""
        if not len(order) or chosen[order[0]]:
            return False
        rows = self._atoms["string"][pool.atom[order]]
        (start,), (count,) = self.concepts.atoms_of(rows[:1])
        if np.isin(pool.concept[order[1:]], self._atoms["concept"][start : start + count]).any():
            return True
        first, *others = map(normalize, map(self._strings.at, rows[:_LOOK]))
        return first in others

    def _new_limits(self, keep: ConceptFilter, group: str) -> _Limits:
        atoms = keep.atoms(self.concepts)
        if group:
            of_group = atoms_of_group(group, self.concepts)  # none may be there: the term has no match then
            atoms = of_group if atoms is None else atoms & of_group
        return _Limits(atoms, strings_of(atoms, self.concepts))

    def _rows_of(self, cuis: Iterable[str]) -> list[int]:
        """Return the rows of concepts; unknown ones are left out."""
        return [row for cui in cuis if (row := self.concepts.row_of(cui)) is not None]

    def _decided(self, term: str) -> dict[str, Decision]:
        """Return what people decided about a term, by the CUIs of today."""
        return self._curated.settled(term, self.concepts.current) if self._curated else {}


class _Known:
    """CUIs that can answer: those of the index, and retired ones that lead to one."""

    def __init__(self, concepts: Concepts) -> None:
        self._concepts = concepts

    def __contains__(self, cui: object) -> bool:
        return isinstance(cui, str) and any(
            self._concepts.row_of(current) is not None for current in self._concepts.current(cui)
        )


def _settled(pool: Pool, search: _Search, bound: float) -> bool:
    """Tell whether no string that was not fetched can change the first `k` concepts, ties included.

    The fused ranking is one of what both channels bring; it is settled when there are `k` concepts.
    """
    if bound == -np.inf or search.channel == "fused":
        return bound == -np.inf or len(pool) >= search.k
    similarity = pool.column("cosine" if search.channel == "dense" else "lexical")
    return int((similarity > bound).sum()) >= search.k


def _match(pool: Pool, place: int) -> Match:
    kinds: tuple[tuple[Match, bool], ...] = (
        ("exact", pool.column("exact")[place] == 1),
        ("normalised", pool.column("same")[place] > 0),
        ("lexical", pool.column("lexical")[place] >= _ALIKE),
    )
    return next((kind for kind, holds in kinds if holds), "semantic")


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
