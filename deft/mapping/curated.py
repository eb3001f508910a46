"""The curated mapping file: what people decided about a query and a concept, used before any search."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from deft.corpora.tables import read_rows
from deft.errors import InputError
from deft.files import atomic_write
from deft.text import clean, fold, normalize

COLUMNS = ("query", "cui", "decision", "name", "comment")
ACCEPT, REJECT = "accept", "reject"

# A cross is in neither: some people tick with it, others strike out.
_WORDS = {
    **dict.fromkeys((ACCEPT, "accepted", "accepter", "accepte", "oui", "o", "yes", "y", "ok"), True),
    **dict.fromkeys((REJECT, "rejected", "rejeter", "rejete", "non", "n", "no"), False),
}


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
    def pair(self) -> tuple[str, str]:
        """What is decided about: the query, however it is spelt, and the concept."""
        return key_of(self.query), self.cui


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
    def read(cls, path: str | Path) -> Curated:
        """Read a curated file: TSV in UTF-8 with columns `query`, `cui` and `decision`.

        Raises
        ------
        InputError
            The file is missing or no such table, or a line lacks its query or CUI, has an unknown decision,
            or contradicts another line.
        """
        path = curated_path(path)
        first: dict[tuple[str, str], Decision] = {}
        for decision in _decisions(path):
            same = first.setdefault(decision.pair, decision)
            if same.accepted != decision.accepted:
                raise InputError(
                    f"contradicts line {same.line}: one accepts {decision.cui} for {decision.query!r}, the "
                    "other rejects it.",
                    path=path,
                    line=decision.line,
                    remedy="Delete one of the two lines.",
                )
        grouped = defaultdict(list)
        for (key, _), decision in first.items():
            grouped[key].append(decision)
        return cls(path, {key: tuple(decisions) for key, decisions in grouped.items()})

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
            f"{self.path}:{decision.line}: {decision.cui}, for {decision.query!r}, is not in the index; the "
            "line has no effect."
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
            f"{self.path}:{decision.line}: {decision.cui} is {_past(decision)} for {decision.query!r}, but "
            f"{other.cui} is {_past(other)} (line {other.line}), and both are {cui} now: {cui} is "
            f"{_past(other)}. Delete one of the two lines."
            for decision, other, cui in sorted(lost, key=lambda found: found[0].line)
        )

    def _about(self, query: str) -> tuple[Decision, ...]:
        return self.decisions.get(key_of(query), ())


def key_of(query: str) -> str:
    """Return what all spellings of a query share: its normalised form."""
    return normalize(query) or fold(query)  # a query of nothing but punctuation stays itself


def verdict(word: str) -> bool | None:
    """Tell whether a word accepts or rejects, in English or French; None if it does neither."""
    return _WORDS.get(fold(word))


def curated_path(path: str | Path) -> Path:
    """Return the path of a curated file.

    Raises
    ------
    InputError
        Its suffix is not `.tsv`.
    """
    path = Path(path)
    if path.suffix.lower() != ".tsv":
        raise InputError("is no curated file.", path=path, remedy="Name a file that ends in .tsv.")
    return path


def write_curated(decisions: Iterable[Decision], path: Path) -> None:
    """Write decisions about different pairs, a line each, sorted by key of the query and CUI.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    with atomic_write(path) as stream:
        stream.write("\t".join(COLUMNS) + "\n")
        for decision in sorted(decisions, key=lambda decision: decision.pair):
            word = ACCEPT if decision.accepted else REJECT
            cells = (decision.query, decision.cui, word, decision.name, decision.comment)
            stream.write("\t".join(map(clean, cells)) + "\n")


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


def _decisions(path: Path) -> Iterator[Decision]:
    rows = read_rows(path, COLUMNS[:3])
    foreign = [column for column in rows.names if column not in COLUMNS]
    if foreign:  # it would be lost at the next merge
        raise InputError(
            f"column {foreign[0]!r} has no place in a curated file.",
            path=path,
            remedy="Move it into the column comment.",
        )
    for line, row in rows:
        cells = {column: clean(row.get(column, "")) for column in COLUMNS}
        accepted = verdict(cells["decision"])
        for column, wrong in {
            "query": not cells["query"],
            "cui": not cells["cui"],
            "decision": accepted is None,
        }.items():
            if wrong:
                problem = f"{cells[column]!r} is no {column}." if cells[column] else "is empty."
                remedy = f"Write {ACCEPT} or {REJECT}." if column == "decision" else "Fill it in."
                raise InputError(problem, path=path, line=line, field=column, remedy=remedy)
        yield Decision(cells["query"], cells["cui"], bool(accepted), cells["name"], cells["comment"], line)
