"""Why a concept was proposed, and why its neighbours came after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deft.mapping.pool import FEATURES, Pool, hedges
from deft.mapping.query import Query
from deft.mapping.results import Candidate, Mapping
from deft.terminology.semantic_groups import GROUP_OF
from deft.text import normalize

if TYPE_CHECKING:
    from deft.mapping.mapper import TermMapper

KINDS = {
    "meaning": ("cosine", "cosine_gap", "agreement"),
    "spelling": ("lexical", "lexical_gap"),
    "words": ("exact", "same", "overlap", "coverage", "explained", "hedged"),
    "kind": ("kind",),
    "context": ("context", "context_gap"),
    "naming": ("name", "french", "preferred", "sources", "names", "age", "mesh"),
}
"""The signals of the model, gathered into what a person would call them."""

_SURE = 0.5
_DOUBTED = ("kind", "hedged", "explained", "same")
_UNLIKELY, _UNEXPLAINED = -1.2, 0.5  # the first is a logarithm: of three in ten
_THINGS = {
    "ANAT": "a part of the body", "CHEM": "a drug or a substance", "DEVI": "a device", "DISO": "a disorder",
    "GEOG": "a place", "LIVB": "a living being", "OBJC": "an object", "OTHER": "nothing medical",
    "PHEN": "a phenomenon", "PHYS": "a function of the body", "PROC": "a procedure or a test",
}  # fmt: skip
"""Semantic groups, and what is in none, as a person would call them."""

_HEADER = ("", "CUI", "concept", "by the string", "how", "meaning", "spelling", "confidence")
_WIDTH = 34


@dataclass(frozen=True, slots=True)
class Reason:
    """What speaks for a candidate.

    Attributes
    ----------
    candidate
        The candidate.
    missing, extra
        Words of the query that the matched string lacks, and words that it has beyond the query.
    behind
        What the candidate has less of than the first one, by kind of signal (`KINDS`), in log-odds: negative
        where it lost, positive where it is better all the same. Empty for the first.
    """

    candidate: Candidate
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    behind: dict[str, float]


@dataclass(frozen=True, slots=True)
class Explanation:
    """A mapping with its reasons.

    Attributes
    ----------
    mapping
        What was proposed.
    query
        How the query was read: its variants and the rule behind each.
    reasons
        One a candidate.
    doubts
        What speaks against any answer, as a person would say it.
    """

    mapping: Mapping
    query: Query
    reasons: tuple[Reason, ...]
    doubts: tuple[str, ...] = ()

    def lines(self) -> Iterator[str]:
        """Yield the explanation as a table to read."""
        yield self.mapping.query
        for variant in self.query.variants:
            yield f"  also read as {variant.text!r} ({variant.rule})"
        if self.mapping.ambiguous:
            yield "  ambiguous: another concept carries the same string"
        for doubt in self.doubts:
            yield f"  in doubt: {doubt}"
        if not self.reasons:
            yield "  no match"
            return
        rows = [_HEADER, *(_cells(reason.candidate) for reason in self.reasons)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
        notes = [[], *(list(_notes(reason)) for reason in self.reasons)]
        for row, below in zip(rows, notes, strict=True):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            yield ("  " + "  ".join(cells)).rstrip()
            for note in below:
                yield f"      {note}"


def explain(mapper: TermMapper, term: str, k: int = 5, context: str = "") -> Explanation:
    """Explain the `k` best concepts of a term, and of what stands beside it.

    Raises
    ------
    InputError
        The term is empty, or `k` is less than 1.
    """
    (mapping,) = mapper.map([term], k, contexts=[context])
    (pool,) = mapper.pools([term], contexts=[context])
    reasons = []
    for candidate in mapping.candidates:
        own = _words(candidate.matched)
        asked = _words(term)
        reasons.append(
            Reason(
                candidate,
                missing=tuple(word for word in asked if word not in own),
                extra=tuple(word for word in own if word not in asked),
                behind=_behind(mapper, pool, mapping.candidates[0], candidate),
            )
        )
    return Explanation(mapping, mapper.read(term), tuple(reasons), tuple(_doubts(mapper, pool, mapping)))


def _doubts(mapper: TermMapper, pool: Pool, mapping: Mapping) -> Iterator[str]:
    """Yield what speaks against the concept that the model has first, where confidence is low."""
    if not mapping.candidates or mapping.confidence >= _SURE:
        return
    first = int(np.lexsort((pool.concept, -mapper.model.scores(pool)))[0])
    kinds, value = mapper.model.kinds, {name: float(pool.column(name)[first]) for name in _DOUBTED}
    if kinds is not None and value["kind"] < _UNLIKELY:
        (vector,) = mapper.encoder.encode([mapper.read(mapping.query).last])
        known = kinds.probabilities(vector)
        kind = max(known, key=known.__getitem__)
        if kind not in {GROUP_OF.get(tui) for tui in mapping.candidates[0].semantic_types}:
            yield f"it seems to name {_THINGS.get(kind, kind)}, and what was found is none"
    if value["hedged"] < 0:
        yield f"what it names is {' and '.join(sorted(hedges(mapping.query)))}"
    if value["explained"] < _UNEXPLAINED:
        yield f"{1 - value['explained']:.0%} of how it is written is not in what was found"
    if pool.capitals and not value["same"]:
        yield "it is an abbreviation that no rule reads"


def _behind(mapper: TermMapper, pool: Pool, first: Candidate, other: Candidate) -> dict[str, float]:
    """Compare the signals of two candidates as the model weighs them; {} if one is not of the pool."""
    places = [
        np.flatnonzero(pool.concept == mapper.concepts.row_of(candidate.cui)) for candidate in (first, other)
    ]
    if first is other or not all(len(place) for place in places):
        return {}
    one, two = (pool.features[place[0]] for place in places)
    parts = dict(zip(FEATURES, (two - one) * mapper.model.weights, strict=True))
    return {kind: round(float(sum(parts[name] for name in names)), 2) for kind, names in KINDS.items()}


def _cells(candidate: Candidate) -> tuple[str, ...]:
    return (
        str(candidate.rank),
        candidate.cui,
        _short(candidate.name),
        f"{_short(candidate.matched)} [{', '.join(filter(None, (candidate.source, candidate.relation)))}]",
        candidate.match,
        f"{candidate.cosine:.3f}",
        f"{candidate.lexical:.3f}",
        f"{candidate.confidence:.3f}",
    )


def _notes(reason: Reason) -> Iterator[str]:
    differences = [
        f"{label} {', '.join(words)}"
        for label, words in (("lacks", reason.missing), ("adds", reason.extra))
        if words
    ]
    if differences:
        yield "the string " + "; ".join(differences)
    lost = sorted((value, kind) for kind, value in reason.behind.items() if value < 0)
    won = sorted((-value, kind) for kind, value in reason.behind.items() if value > 0)
    if lost:
        yield "after the first by " + ", ".join(f"{kind} {value:+.1f}" for value, kind in lost)
    if won:
        yield "before it by " + ", ".join(f"{kind} {-value:+.1f}" for value, kind in won)


def _words(text: str) -> list[str]:
    return normalize(text).split()


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
