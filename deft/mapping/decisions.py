"""What people decided about queries and concepts, and which decision holds where several meet."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deft.text import fold, normalize


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a query and a concept; `line` is where it stands in its file."""

    query: str
    cui: str
    accepted: bool
    name: str = ""
    comment: str = ""
    line: int = 0

    @property
    def query_key(self) -> str:
        """What all spellings of the query share."""
        return key_of(self.query)

    @property
    def pair(self) -> tuple[str, str]:
        """What is decided about: the query, however it is spelt, and the concept."""
        return self.query_key, self.cui


@dataclass(frozen=True, slots=True)
class Curated:
    """The decisions of a curated mapping file.

    Attributes
    ----------
    path
        The file.
    decisions
        Under the key of each query, the decisions about it in file order.
    """

    path: Path
    decisions: dict[str, tuple[Decision, ...]]

    @classmethod
    def of(cls, path: Path, decisions: Iterable[Decision]) -> Curated:
        """Group decisions about different pairs by query; `path` is the file that messages name."""
        grouped = defaultdict(list)
        for decision in decisions:
            grouped[decision.query_key].append(decision)
        return cls(path, {key: tuple(group) for key, group in grouped.items()})

    def __iter__(self) -> Iterator[Decision]:
        """Iterate over all decisions."""
        for decisions in self.decisions.values():
            yield from decisions

    def accepted(self, query: str) -> tuple[str, ...]:
        """Return the CUIs accepted for a query, in file order."""
        return tuple(decision.cui for decision in self._about(query) if decision.accepted)

    def rejected(self, query: str) -> frozenset[str]:
        """Return the CUIs rejected for a query."""
        return frozenset(decision.cui for decision in self._about(query) if not decision.accepted)

    def missing(self, cuis_in_index: Container[str]) -> tuple[str, ...]:
        """Return a message for each line whose CUI is not in the index, in file order."""
        absent = (decision for decision in self if decision.cui not in cuis_in_index)
        return tuple(
            f"{self.path}:{decision.line}: {decision.cui} is not in the index; the line has no effect."
            for decision in sorted(absent, key=lambda decision: decision.line)
        )

    def settled(self, query: str, current: Callable[[str], tuple[str, ...]]) -> dict[str, Decision]:
        """Return the decision that holds about each concept of today, in file order.

        Decisions about different CUIs may meet in one concept, once retired CUIs are followed. Where they
        contradict each other, the one about the CUI of today holds; if all came in through retired CUIs, the
        one that accepts.

        Parameters
        ----------
        query
            The query.
        current
            What gives the CUIs that a CUI became, or the CUI itself.
        """
        return {cui: met[0] for cui, met in _meeting(self._about(query), current).items()}

    def overruled(self, current: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        """Return a message for each decision that another one overrules (`settled`), in file order."""
        lost = [
            (decision, met[0], cui)
            for decisions in self.decisions.values()
            for cui, met in _meeting(decisions, current).items()
            for decision in met
            if decision.accepted != met[0].accepted
        ]
        return tuple(
            f"{self.path}:{decision.line}: {decision.cui} is {_past(decision)}, but "
            f"{other.cui} is {_past(other)} (line {other.line}), and both are {cui} now: {cui} is "
            f"{_past(other)}. Delete one of the two lines."
            for decision, other, cui in sorted(lost, key=lambda found: found[0].line)
        )

    def _about(self, query: str) -> tuple[Decision, ...]:
        return self.decisions.get(key_of(query), ())


def key_of(query: str) -> str:
    """Return what all spellings of a query share: its normalised form."""
    return normalize(query) or fold(query)  # a query of nothing but punctuation stays itself


def _meeting(
    decisions: Iterable[Decision], current: Callable[[str], tuple[str, ...]]
) -> dict[str, list[Decision]]:
    """Return the decisions about each concept of today, the one that holds first."""
    found: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        for cui in current(decision.cui):
            found[cui].append(decision)
    for cui, met in found.items():
        met.sort(key=lambda decision: (decision.cui != cui, not decision.accepted))
    return dict(found)


def _past(decision: Decision) -> str:
    return "accepted" if decision.accepted else "rejected"
