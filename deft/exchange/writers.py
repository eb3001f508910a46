"""Mappings go out: a table to read, TSV for spreadsheets, JSON Lines for programs, SSSOM for other tools."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from deft.files import atomic_write
from deft.mapping.results import Candidate, Mapping

if TYPE_CHECKING:
    from deft.exchange.sssom import SssomMetadata

FIELDS = (
    "rank",
    "cui",
    "name",
    "matched",
    "language",
    "source",
    "term_type",
    "semantic_types",
    "definition",
    "match",
    "cosine",
    "lexical",
    "score",
    "confidence",
)
# Definitions are long: they are in TSV and in Python, not in JSON Lines.
JSON_FIELDS = tuple(field for field in FIELDS if field != "definition")

_ABOUT = ("ambiguous", "no_match", "note")  # columns of TSV that say something about the query
_WIDTH = 44  # characters of a name in a table
# Characters that JSON may hold as they are, but that some readers take for the end of a line.
_LINE_ENDS = str.maketrans({char: f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"})


def write_mappings(
    mappings: Iterable[Mapping],
    format_: str,
    path: Path | None = None,
    *,
    metadata: SssomMetadata | None = None,
) -> None:
    """Write mappings as ``table``, ``tsv``, ``jsonl`` or ``sssom`` to a file, or to standard output.

    Parameters
    ----------
    mappings
        The mappings, in the order in which they are written.
    format_
        One of the four.
    path
        The file; standard output by default.
    metadata
        What an SSSOM mapping set says about itself.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if format_ == "sssom":
        from deft.exchange.sssom import write_sssom

        write_sssom(mappings, path or sys.stdout, metadata)
        return
    lines = _WRITERS[format_](mappings)
    if path is None:
        sys.stdout.writelines(lines)
        return
    with atomic_write(path) as stream:
        stream.writelines(lines)


def to_json(mapping: Mapping) -> str:
    """Return a mapping as one line of JSON.

    It is ``{"query": ..., "ambiguous": false, "no_match": 0.1, "note": "", "candidates": [...]}``, and each
    candidate ``{"rank": 1, "cui": ..., ...}``.
    """
    candidates = [
        {field: getattr(candidate, field) for field in JSON_FIELDS} for candidate in mapping.candidates
    ]
    record = {
        "query": mapping.query,
        "ambiguous": mapping.ambiguous,
        "no_match": mapping.no_match,
        "note": mapping.note,
        "candidates": candidates,
    }
    return json.dumps(record, ensure_ascii=False).translate(_LINE_ENDS)


def _jsonl(mappings: Iterable[Mapping]) -> Iterator[str]:
    for mapping in mappings:
        yield to_json(mapping) + "\n"


def _tsv(mappings: Iterable[Mapping]) -> Iterator[str]:
    # a row a candidate, and one with empty fields for a query that has none
    yield "\t".join(("query", *FIELDS, *_ABOUT)) + "\n"
    for mapping in mappings:
        about = ("yes" if mapping.ambiguous else "", _text(mapping.no_match), _one_line(mapping.note))
        rows = [_values(candidate) for candidate in mapping.candidates] or [[""] * len(FIELDS)]
        for row in rows:
            yield "\t".join((_one_line(mapping.query), *row, *about)) + "\n"


def _table(mappings: Iterable[Mapping]) -> Iterator[str]:
    for mapping in mappings:
        yield f"{_one_line(mapping.query)}\n"
        if mapping.ambiguous:
            yield "  another concept carries the same string\n"
        if mapping.note:
            yield f"  {_one_line(mapping.note)}\n"
        if not mapping.candidates:
            yield "  no match\n"
        for candidate in mapping.candidates:
            name = candidate.name if len(candidate.name) <= _WIDTH else candidate.name[: _WIDTH - 1] + "…"
            matched = "" if candidate.matched == candidate.name else f"  ← {candidate.matched}"
            about = f"{candidate.rank:>2}  {candidate.cui}  {candidate.confidence:.3f}  {candidate.match:<10}"
            yield f"  {about}  {name:<{_WIDTH}}{matched}".rstrip() + "\n"


def _values(candidate: Candidate) -> list[str]:
    return [_one_line(_text(getattr(candidate, field))) for field in FIELDS]


def _text(value: str | float | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return ";".join(value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())


_WRITERS: dict[str, Callable[[Iterable[Mapping]], Iterator[str]]] = {
    "jsonl": _jsonl,
    "tsv": _tsv,
    "table": _table,
}
