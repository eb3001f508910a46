"""The curated file: decisions of people about queries and concepts, a line each.

The mapper takes them first; `deft review apply` merges review sheets into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from deft.corpora.cells import guard
from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.files import atomic_write
from deft.mapping.decisions import Curated, Decision
from deft.text import clean, fold

COLUMNS = ("query", "cui", "decision", "name", "comment")
ACCEPT, REJECT = "accept", "reject"

# A cross is in neither: some people tick with it, others strike out.
_WORDS = {
    **dict.fromkeys((ACCEPT, "accepted", "accepter", "accepte", "oui", "o", "yes", "y", "ok"), True),
    **dict.fromkeys((REJECT, "rejected", "rejeter", "rejete", "non", "n", "no"), False),
}


def read_curated(path: str | Path) -> Curated:
    """Read a curated file: TSV in UTF-8 with columns `query`, `cui` and `decision`.

    Raises
    ------
    InputError
        The file is missing or no such table, or a line lacks its query or CUI, has an unknown decision, or
        contradicts another line.
    """
    path = curated_path(path)
    first: dict[tuple[str, str], Decision] = {}
    for decision in _decisions(path):
        same = first.setdefault(decision.pair, decision)
        if same.accepted != decision.accepted:
            raise InputError(
                f"contradicts line {same.line}: one accepts {decision.cui} for {decision.query!r}, the other "
                "rejects it.",
                path=path,
                line=decision.line,
                remedy="Delete one of the two lines.",
            )
    return Curated.of(path, first.values())


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
            stream.write("\t".join(guard(clean(cell)) for cell in cells) + "\n")


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
