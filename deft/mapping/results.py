"""What a mapping says: candidates, their evidence, and decisions that can be taken again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Match = Literal["curated", "exact", "normalised", "lexical", "semantic"]


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
        The string of the concept that speaks most for it.
    language, source, term_type
        Language (LAT), source (SAB) and term type (TTY) of that string.
    semantic_types
        TUIs of the concept.
    definition
        Its definition, "" where there is none.
    match
        How the string matched: it is the query (`exact`), the same term (`normalised`, see
        `deft.text.normalize`), written alike (`lexical`), or near in meaning (`semantic`); `curated` if a
        person chose the concept.
    cosine
        Cosine similarity of the query and the concept's nearest string; what a variant of the query reaches
        counts 0.97, here and in `lexical`.
    lexical
        Character n-gram similarity of the query and the concept's most similar string, 0 to 1.
    score
        What the ranking goes by, by default from 0 to 1.
    confidence
        Probability that this concept is right, 0 to 1.
    relation
        What that string is to the concept if it is a phrase of laypeople (`deft.terminology.lay`): "exact",
        "narrower" or "broader"; "" if it is a name.
    """

    rank: int
    cui: str
    name: str
    matched: str
    language: str
    source: str
    term_type: str
    semantic_types: tuple[str, ...]
    definition: str
    match: Match
    cosine: float
    lexical: float
    score: float
    confidence: float
    relation: str = ""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A query and its candidates, the best first.

    Attributes
    ----------
    query
        The term as it was given.
    candidates
        Concepts, the best first; none if nothing passes what was asked for.
    ambiguous
        Whether another concept carries the very string that the first was found by: the term alone cannot
        tell them apart.
    note
        What else a reader should know, "" if nothing.
    no_match
        Probability that no concept of the index is right, as the model estimates it: what the confidences of
        all concepts leave of 1.
    """

    query: str
    candidates: tuple[Candidate, ...]
    ambiguous: bool = False
    note: str = ""
    no_match: float = 0.0

    @property
    def best(self) -> Candidate | None:
        """The first candidate, if there is one."""
        return self.candidates[0] if self.candidates else None

    @property
    def confidence(self) -> float:
        """Probability that the first candidate is right, 0 if there is none."""
        return self.candidates[0].confidence if self.candidates else 0.0

    def at(self, threshold: float | None = None, *, min_confidence: float | None = None) -> Mapping:
        """Decide again, without a new search.

        Parameters
        ----------
        threshold
            Smallest score of a candidate.
        min_confidence
            Smallest confidence of the first candidate: below it the answer is "no match" and no candidate is
            left.
        """
        if min_confidence is not None and self.confidence < min_confidence:
            return replace(self, candidates=(), ambiguous=False)
        if threshold is None:
            return self
        kept = tuple(candidate for candidate in self.candidates if candidate.score >= threshold)
        return replace(self, candidates=kept, ambiguous=self.ambiguous and bool(kept))

    def as_dict(self) -> dict[str, Any]:
        """Return the mapping as plain values, ready for JSON."""
        return asdict(self)
