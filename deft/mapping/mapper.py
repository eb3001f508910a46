"""Map terms to concepts: what is near a term among the strings of an index, ranked, with a confidence."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index.dense import TOLERANCE, DenseIndex
from deft.index.lexical import LexicalIndex
from deft.index.manifest import ENCODER
from deft.index.parts import Parts
from deft.index.releases import OWN_MODEL, open_release
from deft.mapping.decisions import Curated, Decision
from deft.mapping.filters import ConceptFilter, atoms_of_group, strings_of
from deft.mapping.fusion import EXPECTED_PRESENT, SHIPPED, MappingModel
from deft.mapping.pool import VARIANT_TRUST, Evidence, Pool, PoolMaker
from deft.mapping.query import SPELLING, Query, Variant, understand
from deft.mapping.results import Candidate, Mapping, Match
from deft.mapping.spelling import respell
from deft.progress import Progress
from deft.terminology.concepts import Concepts
from deft.terminology.lay import LAY
from deft.text import clean, fold, joined, normalize

Channel = Literal["fused", "dense", "lexical"]

_BATCH = 256  # queries that are searched at once
_DEPTH = 100  # strings that each channel brings in; confidence is judged by these, whatever `k` is
_RELEASED = 16  # queries after which what was read of the files no longer counts as memory of the process
_MASKS = 32  # filters whose masks are kept
_DECIMALS = 6
_ALIKE = 0.6  # lexical similarity from which a string is called written alike
_ORDER = {"fused": "both", "dense": "cosine", "lexical": "lexical"}

logger = logging.getLogger(__name__)


class _Asked(NamedTuple):
    """A term, cleaned, and what stands beside it."""

    term: str
    context: str


_Alike = dict[str, tuple[np.ndarray, np.ndarray]]


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
    query, vectors
        The query and its variants, and the vector of each of their texts.
    near, cosines
        Rows that are nearest to each, and their cosines.
    around, context
        Rows that are nearest to what stands beside the query, and the vector of that; none of them, and None,
        where nothing does.
    alike
        Rows that are written most like a text and their similarities, where they were asked for already.
    channel, limits
        What is asked for.
    """

    query: Query
    vectors: np.ndarray
    near: np.ndarray
    cosines: np.ndarray
    around: np.ndarray
    context: np.ndarray | None
    alike: _Alike
    channel: Channel
    limits: _Limits


@dataclass(frozen=True)
class _Belief:
    """What is thought of the concepts of a query, by the row of a concept.

    Attributes
    ----------
    confidence
        Probability that each is right; concepts that are not there have 0.
    no_match
        Probability that none is.
    accepted, refused
        Concepts that people decided about.
    """

    confidence: dict[int, float]
    no_match: float
    accepted: frozenset[int]
    refused: frozenset[int]


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
        expected_present: float = EXPECTED_PRESENT,
    ) -> None:
        if not (isinstance(expected_present, int | float) and 0 < expected_present < 1):
            raise InputError(f"expected_present must be above 0 and below 1, not {expected_present}.")
        self._expected_present = expected_present
        self.concepts = concepts
        self.encoder = encoder
        self.model = model.beside(encoder.fingerprint, encoder.dimension)
        self._dense = dense
        self._lexical = lexical
        self._asked = 0
        self._maker = PoolMaker(concepts)
        self._atoms = {name: concepts.numbers("atoms", name) for name in ("string", "concept")}
        self._labels = {name: concepts.labels("atoms", name) for name in ("language", "source", "term_type")}
        self._code = concepts.texts("atoms", "code")
        self._types = concepts.labels("concepts", "semantic_types")
        self._strings = concepts.texts("strings", "string")
        self._about = {name: concepts.texts("concepts", name) for name in ("name", "definition")}
        self._limits = lru_cache(maxsize=_MASKS)(self._new_limits)
        self._opened: tuple[Path, dict[str, Any]] | None = None
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
        expected_present: float = EXPECTED_PRESENT,
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
        expected_present
            Share of terms that are expected to have their concept in the index, above 0 and below 1: what
            confidence means depends on it. The smaller, the less confident.

        Raises
        ------
        InputError
            The index is missing, incomplete, of another version or of another encoder.
        """
        index = Path(path).absolute()
        parts, opened = open_release(
            index,
            lambda folder: (
                Parts.open(folder),
                Encoder.open(folder / ENCODER if encoder is None else Path(encoder), threads=threads),
            ),
        )
        if opened.fingerprint != parts.manifest.encoder.get("fingerprint"):
            remedy = "Use the encoder in the index, or build the index again with `deft index build`."
            raise InputError("was built with another encoder.", path=index, remedy=remedy)
        mapper = cls(
            parts.concepts,
            parts.dense,
            parts.lexical,
            opened,
            model=model or _model_of(index, opened.fingerprint),
            curated=curated,
            expected_present=expected_present,
        )
        own_encoder = None if encoder is None else Path(encoder).absolute()
        options: dict[str, Any] = {"encoder": own_encoder, "threads": threads, "curated": curated}
        options |= {"model": model, "expected_present": expected_present}
        mapper._opened = (index, options)
        return mapper

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where it was opened, and open it again there: what it holds are files."""
        if self._opened is None:
            raise TypeError("only a mapper that TermMapper.open made can be pickled")
        return _open_again, self._opened

    def map(  # noqa: PLR0913 - an option for each thing that can be asked for
        self,
        terms: Sequence[str],
        k: int = 5,
        threshold: float | None = None,
        *,
        channel: Channel = "fused",
        min_confidence: float | None = None,
        keep: ConceptFilter | None = None,
        groups: Sequence[str] | None = None,
        contexts: Sequence[str] | None = None,
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
        contexts
            What stands beside each term, such as an explanation in plain words, "" for nothing: one more
            signal of the fused ranking. Single channels do not look at it.
        progress
            Show progress on standard error.

        Returns
        -------
        list of Mapping
            One a term, in order. It does not depend on the other terms, and a larger `k` only adds to the
            end. Equal scores are ordered by CUI. Confidence is parted among the concepts of the strings that
            are nearest, a hundred by each channel and variant of the query; what comes after these has 0.

        Raises
        ------
        InputError
            A term is empty, `k` is less than 1, there are not as many groups or contexts as terms, or a
            filter names what the index does not have.
        """
        if k < 1:
            raise InputError(f"k must be at least 1, not {k}.")
        if channel not in _ORDER:
            raise InputError(f"no channel is called {channel}.", remedy=f"They are {', '.join(_ORDER)}.")
        cleaned = _cleaned(terms)
        wanted = [""] * len(cleaned) if groups is None else [group.strip() for group in groups]
        beside = _beside(contexts, len(cleaned))
        if len(wanted) != len(cleaned):
            raise InputError(f"{len(cleaned)} terms were given and {len(wanted)} groups.")
        by_group: dict[str, dict[_Asked, None]] = {}
        for term, context, group in zip(cleaned, beside, wanted, strict=True):
            by_group.setdefault(group, {})[_Asked(term, context)] = None
        found: dict[tuple[str, _Asked], Mapping] = {}
        distinct = sum(map(len, by_group.values()))
        with Progress(total=distinct, disable=not progress, unit="term", desc="map") as bar:
            for group, members in by_group.items():
                limits = self._limits(keep or ConceptFilter(), group)
                answers = self._map(list(members), k, channel, limits)
                for asked, mapping in zip(members, answers, strict=True):
                    found[group, asked] = mapping.at(threshold, min_confidence=min_confidence)
                    bar.update()
        return [
            replace(found[group, _Asked(key, context)], query=term)
            for term, key, context, group in zip(terms, cleaned, beside, wanted, strict=True)
        ]

    def read(self, term: str) -> Query:
        """Return how a term is read: by the rules of `deft.mapping.query`, and with its slips mended.

        Raises
        ------
        InputError
            The term is empty.
        """
        (text,) = _cleaned([term])
        return self._read(text, self._limits(ConceptFilter(), ""))[0]

    def pools(
        self,
        terms: Sequence[str],
        *,
        keep: ConceptFilter | None = None,
        strings: np.ndarray | None = None,
        contexts: Sequence[str] | None = None,
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
        asked = [_Asked(*pair) for pair in zip(_cleaned(terms), _beside(contexts, len(terms)), strict=True)]
        searches = self._searches(asked, "fused", limits)
        for _, search in Progress(searches, total=len(terms), disable=not progress, unit="term", desc="map"):
            yield self._pool(search, [])[0]

    def _map(self, terms: list[_Asked], k: int, channel: Channel, limits: _Limits) -> Iterator[Mapping]:
        for term, search in self._searches(terms, channel, limits):
            decided = self._decided(term)
            accepted = self._rows_of(cui for cui, decision in decided.items() if decision.accepted)
            refused = self._rows_of(cui for cui, decision in decided.items() if not decision.accepted)
            pool, bound = self._pool(search, accepted)
            belief = self._belief(pool, frozenset(accepted), frozenset(refused))
            found = list(islice(self._ranked(search, pool, bound, belief), k))
            candidates = tuple(
                self._candidate(rank, *row, belief, search.query.mended)
                for rank, row in enumerate(found, start=1)
            )
            ambiguous = bool(found) and self._ambiguous(pool, *found[0][:2], belief)
            yield Mapping(term, candidates, ambiguous, self._note(term), belief.no_match)

    def _searches(
        self, terms: list[_Asked], channel: Channel, limits: _Limits
    ) -> Iterator[tuple[str, _Search]]:
        for start in range(0, len(terms), _BATCH):
            self._release(min(_BATCH, len(terms) - start))
            part = terms[start : start + _BATCH]
            read = [self._read(asked.term, limits) for asked in part]
            beside = self._contexts([asked.context for asked in part], channel, limits)
            texts = [query.texts for query, _ in read]
            # each text is encoded by itself: the last bit of a vector depends on the padding of a batch, and
            # a bit can turn a rounded cosine
            vectors = self.encoder.encode(list(chain(*texts)), alone=True)
            near, cosines = self._dense.search(vectors, _DEPTH, allowed=limits.strings)
            last = 0
            for (query, alike), context in zip(read, beside, strict=True):
                rows = slice(last, last := last + len(query.texts))
                yield (
                    query.text,
                    _Search(
                        query, vectors[rows], near[rows], cosines[rows], *context, alike, channel, limits
                    ),
                )

    def _contexts(
        self, contexts: list[str], channel: Channel, limits: _Limits
    ) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """Return what is near each context, and its vector; nothing where there is none."""
        distinct = list(dict.fromkeys(filter(None, contexts))) if channel == "fused" else []
        nothing: tuple[np.ndarray, np.ndarray | None] = (np.zeros(0, dtype=np.int64), None)
        if not distinct:
            return [nothing] * len(contexts)
        vectors = self.encoder.encode(distinct, alone=True)
        near, _ = self._dense.search(vectors, _DEPTH, allowed=limits.strings)
        known = {text: (near[row], vectors[row]) for row, text in enumerate(distinct)}
        return [known.get(context, nothing) for context in contexts]

    def _read(self, term: str, limits: _Limits) -> tuple[Query, _Alike]:
        """Return how a term is read, and what is written like it, if that was asked for.

        What may not answer does not say how a word is written either.
        """
        query, asked = understand(term), _Alike()
        last = query.last

        def alike() -> Iterator[str]:
            asked[last] = self._lexical.search(last, _DEPTH, allowed=limits.strings)
            return map(self._strings.at, asked[last][0])

        spelled = respell(last, self.encoder.words, alike)
        if spelled is not None and fold(spelled) not in map(fold, query.texts):
            query = replace(query, variants=(*query.variants, Variant(spelled, SPELLING)))
        return query, asked

    def _release(self, queries: int) -> None:
        """Count queries, and give mapped pages back now and then; a count that threads lose is no harm."""
        self._asked += queries
        if self._asked >= _RELEASED:
            self._asked = 0
            for part in (self.concepts, self._dense, self._lexical):
                part.release()

    def _pool(self, search: _Search, accepted: Sequence[int]) -> tuple[Pool, float]:
        """Return the pool of what was found, and the most that a string outside it can reach.

        The bound is one of the similarity that ranks in a single channel; there is nothing outside if it is
        minus infinity.
        """
        depth = search.near.shape[1]
        trust = np.array([1.0, *[VARIANT_TRUST] * (len(search.query.texts) - 1)])
        found = [search.near[search.near >= 0], search.around[search.around >= 0]]
        bounds = [float((trust * search.cosines[:, -1]).max()) + TOLERANCE]
        if search.channel != "dense":
            known = search.alike if depth == _DEPTH else {}
            lists = [
                known.get(text) or self._lexical.search(text, depth, allowed=search.limits.strings)
                for text in search.query.texts
            ]
            if search.channel == "lexical":
                found, bounds = [], [float(values[-1]) for _, values in lists if len(values) == depth]
            found += [rows for rows, _ in lists]
        if accepted:
            found.append(self._atoms["string"][np.isin(self._atoms["concept"], accepted)])
        rows = np.unique(np.concatenate(found).astype(np.int64))
        if search.limits.strings is not None:
            rows = rows[search.limits.strings[rows]]
        compared = [self._lexical.compare(text, rows) for text in search.query.texts]
        signals = (self._dense.cosines(search.vectors, rows), *map(np.stack, zip(*compared, strict=True)))
        cosine, similarity, explained = (
            np.round((trust[:, None] * values).max(axis=0), _DECIMALS) for values in signals
        )
        kinds = self.model.kinds
        kind = None if kinds is None else kinds.of_types(search.vectors[-1], self._types.values)
        context = None
        if search.context is not None:
            context = np.round(self._dense.cosines(search.context[None], rows)[0], _DECIMALS)
        evidence = Evidence(rows, cosine, similarity, explained, kind, context)
        pool = self._maker.make(search.query.texts, evidence, search.limits.atoms, _ORDER[search.channel])
        # with filters, fewer strings may be allowed than were asked for
        whole = depth >= len(self._dense) or bool((search.near[:, -1] < 0).all())
        return pool, -np.inf if whole else max(bounds, default=-np.inf)

    def _belief(self, pool: Pool, accepted: frozenset[int], refused: frozenset[int]) -> _Belief:
        """Part the probability among the concepts of a pool, knowing what people decided.

        What stands beside a term tells which concept is meant, not whether the index has it.

        An accepted concept is the answer: it has 1, the others 0. What was refused is not the answer, and its
        part goes to the others and to "no match".
        """
        answers = accepted & set(pool.concept.tolist())
        if answers:
            return _Belief(dict.fromkeys(answers, 1.0), 0.0, accepted, refused)
        match = float(np.round(self.model.match(pool.alone, self._expected_present), _DECIMALS))
        confidence = np.where(np.isin(pool.concept, list(refused)), 0.0, match * self.model.shares(pool))
        left = confidence.sum() + 1 - match
        confidence = np.round(confidence / left, _DECIMALS)
        no_match = float(np.round((1 - match) / left, _DECIMALS))
        return _Belief(
            dict(zip(pool.concept.tolist(), confidence.tolist(), strict=True)), no_match, accepted, refused
        )

    def _ranked(
        self, search: _Search, pool: Pool, bound: float, belief: _Belief
    ) -> Iterator[tuple[Pool, int, float]]:
        """Yield every concept that was not refused, the best first: its pool, its place there and its score.

        When no more can be said to be next, more strings are fetched; what was yielded stays as it was.
        """
        gone = set(belief.refused)
        for row in np.flatnonzero(np.isin(pool.concept, list(belief.accepted))).tolist():
            gone.add(int(pool.concept[row]))
            yield pool, row, 1.0
        score = self._scores(pool, search.channel)
        while True:
            ranking = self.model.scores(pool) if search.channel == "fused" else score
            # rows of concepts are in order of their CUIs
            for row in np.lexsort((pool.concept, -ranking)).tolist():
                if search.channel != "fused" and ranking[row] <= bound:
                    break  # something outside may come before it
                if (concept := int(pool.concept[row])) not in gone:
                    gone.add(concept)
                    yield pool, row, float(score[row])
            if bound == -np.inf:
                return
            near, cosines = self._dense.search(
                search.vectors, 4 * search.near.shape[1], allowed=search.limits.strings
            )
            search = replace(search, near=near, cosines=cosines)
            pool, bound = self._pool(search, [])
            score = np.zeros(len(pool)) if search.channel == "fused" else self._scores(pool, search.channel)

    def _scores(self, pool: Pool, channel: Channel) -> np.ndarray:
        """Return what a candidate shows as its score, of shape (concepts,)."""
        values = self.model.probabilities(pool) if channel == "fused" else pool.column(_ORDER[channel])
        return np.asarray(np.round(values, _DECIMALS))

    def _candidate(
        self, rank: int, pool: Pool, place: int, score: float, belief: _Belief, mended: str
    ) -> Candidate:
        concept, atom = int(pool.concept[place]), pool.atom[place]
        types, matched = self._types.at(concept), self._strings.at(self._atoms["string"][atom])
        term_type = self._labels["term_type"].at(atom)
        return Candidate(
            rank=rank,
            cui=self.concepts.cui(concept),
            name=self._about["name"].at(concept),
            matched=matched,
            language=self._labels["language"].at(atom),
            source=self._labels["source"].at(atom),
            term_type=term_type,
            semantic_types=tuple(types.split(";")) if types else (),
            definition=self._about["definition"].at(concept),
            match="curated" if concept in belief.accepted else _match(pool, place, matched, mended),
            cosine=float(pool.column("cosine")[place]),
            lexical=float(pool.column("lexical")[place]),
            score=score,
            confidence=belief.confidence.get(concept, 0.0),
            relation=self._code.at(atom) if term_type == LAY else "",
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

    def _ambiguous(self, pool: Pool, first_pool: Pool, place: int, belief: _Belief) -> bool:
        """Tell whether another concept carries the string that the first was found by."""
        first, row = first_pool.concept[place], self._atoms["string"][first_pool.atom[place]]
        if int(first) in belief.accepted:
            return False
        others = (pool.concept != first) & ~np.isin(pool.concept, list(belief.refused))
        (start,), (count,) = self.concepts.atoms_of(np.array([row]))
        if np.isin(pool.concept[others], self._atoms["concept"][start : start + count]).any():
            return True
        lexical = pool.column("lexical")
        alike = others & (lexical == first_pool.column("lexical")[place])  # as what reads the same is
        key = normalize(self._strings.at(row))
        return key in map(normalize, map(self._strings.at, self._atoms["string"][pool.atom[alike]]))

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


def _open_again(path: Path, options: dict[str, Any]) -> TermMapper:
    return TermMapper.open(path, **options)


def _match(pool: Pool, place: int, matched: str, mended: str) -> Match:
    """Return how a string matched: what is the same but for slips is written alike, not the same."""
    slips = bool(mended) and joined(normalize(matched)) == joined(normalize(mended))
    kinds: tuple[tuple[Match, bool], ...] = (
        ("exact", pool.column("exact")[place] == 1),
        ("normalised", pool.column("same")[place] > 0 and not slips),
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


def _beside(contexts: Sequence[str] | None, count: int) -> list[str]:
    """Return what stands beside each term, cleaned."""
    if contexts is None:
        return [""] * count
    if isinstance(contexts, str) or not all(isinstance(context, str) for context in contexts):
        raise InputError("contexts must be a list of strings.", remedy='Give "" where there is none.')
    if len(contexts) != count:
        raise InputError(f"{count} terms were given and {len(contexts)} contexts.")
    return [clean(context) for context in contexts]


def _model_of(index: Path, fingerprint: str) -> MappingModel:
    """Return the model that was fitted to an index, or the one that comes with deft."""
    own = index / OWN_MODEL
    if own.is_file():
        model = MappingModel.read(own)
        if model.about.get("encoder") in (None, fingerprint):
            return model
        logger.warning("%s: was fitted with another encoder and is not used; run `deft fit` again.", own)
    return MappingModel.read(SHIPPED)
