"""A mapper that answers from a table, for what is measured on the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import pandas as pd

from deft.mapping.filters import ConceptFilter


@dataclass(frozen=True)
class Candidate:
    cui: str
    name: str
    confidence: float
    matched: str = "string"
    match: str = "lexical"
    cosine: float = 0.5
    lexical: float = 0.25


@dataclass(frozen=True)
class Answer:
    query: str
    candidates: tuple[Candidate, ...]

    @property
    def confidence(self) -> float:
        return self.candidates[0].confidence if self.candidates else 0.0

    @property
    def no_match(self) -> float:
        return 1 - self.confidence


class StubMapper:
    """Answers each term with its concepts in `answers`, the order of confidence; keeps what it was asked.

    An answer is ``{cui: confidence}``, and may differ by channel: ``{(channel, term): answer}``.
    """

    def __init__(self, answers: Mapping[str | tuple[str, str], Mapping[str, float]]) -> None:
        self.answers = answers
        self.calls: list[dict[str, object]] = []
        cuis = sorted({cui for answer in answers.values() for cui in answer})
        strings = [f"nom de {cui}" for cui in cuis]
        places = range(len(cuis))
        self.concepts = SimpleNamespace(
            cuis=frozenset(cuis),
            follow=frozenset,
            strings=pd.DataFrame({"string": strings}),
            atoms=pd.DataFrame({"string": places, "concept": places}),
            concepts=pd.DataFrame({"cui": cuis, "name": strings}),
        )

    def map(
        self,
        terms: Sequence[str],
        k: int = 5,
        *,
        channel: str = "fused",
        groups: Sequence[str] | None = None,
        contexts: Sequence[str] | None = None,
        keep: ConceptFilter | None = None,
        progress: bool = False,
    ) -> list[Answer]:
        exclude = frozenset() if keep is None else keep.exclude
        call = {"terms": list(terms), "channel": channel, "groups": groups, "contexts": contexts}
        self.calls.append(call | {"exclude": exclude})
        return [self._answer(term, channel, exclude, k) for term in terms]

    def _answer(self, term: str, channel: str, exclude: frozenset[str], k: int) -> Answer:
        found = self.answers.get((channel, term), self.answers.get(term, {}))
        order = sorted((-confidence, cui) for cui, confidence in found.items() if cui not in exclude)
        return Answer(term, tuple(Candidate(cui, f"nom de {cui}", -minus) for minus, cui in order[:k]))
