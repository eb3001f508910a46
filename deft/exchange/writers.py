"""Mappings go out: a table to read, TSV for spreadsheets, JSON Lines for programs, SSSOM for other tools.

In TSV what a spreadsheet would compute has an apostrophe before it (`deft.corpora.cells`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from deft.corpora.cells import guard
from deft.exchange.origins import ROW, Origin, labels, with_origins
from deft.files import atomic_write
from deft.mapping.results import Candidate, Mapping
from deft.text import clean

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
    "relation",
)
# Definitions are long: they are in TSV and in Python, not in JSON Lines.
JSON_FIELDS = tuple(field for field in FIELDS if field != "definition")

_Value: TypeAlias = str | float | tuple[str, ...]

_ABOUT = ("ambiguous", "no_match", "note")  # columns of TSV that say something about the query
_WIDTH = 44  # characters of a name in a table
_PLAIN = str.maketrans({"←": "<-", "…": "...", "’": "'"})
# Characters that JSON may hold, but that some readers take for the end of a line, or UTF-8 has no bytes for.
_ESCAPED = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029, *range(0xD800, 0xE000))}


def write_mappings(
    mappings: Iterable[Mapping],
    format_: str,
    path: Path | None = None,
    *,
    metadata: SssomMetadata | None = None,
    origins: Sequence[Origin] | None = None,
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
    origins
        The row that each mapping came from, one a mapping: its number and its columns are written too, as
        columns, in JSON as ``row`` and ``columns``, in SSSOM as extension slots.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if format_ == "sssom":
        lines = _sssom(mappings, metadata, origins)
    else:
        lines = _WRITERS[format_](mappings, origins)
    if path is not None:
        with atomic_write(path) as stream:
            stream.writelines(lines)
    elif format_ == "table":
        show(lines)
    else:
        _send(lines)


def show(lines: Iterable[str]) -> None:
    """Print lines for a person; what the encoding of the console lacks becomes a plain sign or ``?``."""
    for line in lines:
        sys.stdout.write(_legible(line, sys.stdout.encoding or "utf-8"))


def _legible(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def _send(lines: Iterable[str]) -> None:
    """Write lines to standard output for a program: in UTF-8 wherever it runs, as they would be in a file."""
    binary = getattr(sys.stdout, "buffer", None)
    if binary is None:  # somebody put a stream of text in its place
        sys.stdout.writelines(lines)
        return
    sys.stdout.flush()
    binary.writelines(line.encode() for line in lines)


def to_json(mapping: Mapping, origin: Origin | None = None) -> str:
    """Return a mapping as one line of JSON.

    It is ``{"query": ..., "ambiguous": false, "no_match": 0.1, "note": "", "candidates": [...]}``, and each
    candidate ``{"rank": 1, "cui": ..., ...}``. What has an origin has ``"row": 3, "columns": {...}`` too.
    """
    candidates = [
        {field: getattr(candidate, field) for field in JSON_FIELDS} for candidate in mapping.candidates
    ]
    record: dict[str, object] = {
        "query": mapping.query,
        "ambiguous": mapping.ambiguous,
        "no_match": mapping.no_match,
        "note": mapping.note,
        "candidates": candidates,
    }
    if origin is not None:
        record |= {ROW: origin.row, "columns": dict(origin.columns)}
    return json.dumps(record, ensure_ascii=False).translate(_ESCAPED)


def _jsonl(mappings: Iterable[Mapping], origins: Sequence[Origin] | None) -> Iterator[str]:
    for mapping, origin in with_origins(mappings, origins):
        yield to_json(mapping, origin) + "\n"


def _tsv(mappings: Iterable[Mapping], origins: Sequence[Origin] | None) -> Iterator[str]:
    # a row a candidate, and one with empty fields for a query that has none
    header = ("query", *FIELDS, *_ABOUT)
    kept = labels(origins, header)
    yield _line((*header, *([ROW] if origins is not None else []), *kept.values()))
    for mapping, origin in with_origins(mappings, origins):
        about: tuple[_Value, ...] = ("yes" if mapping.ambiguous else "", mapping.no_match, mapping.note)
        if origin is not None:
            about += (origin.row, *(origin.columns.get(name, "") for name in kept))
        for values in [_values(candidate) for candidate in mapping.candidates] or [("",) * len(FIELDS)]:
            yield _line((mapping.query, *values, *about))


def _sssom(
    mappings: Iterable[Mapping], metadata: SssomMetadata | None, origins: Sequence[Origin] | None
) -> Iterator[str]:
    from deft.exchange.sssom import sssom_text

    yield sssom_text(mappings, metadata, origins)


def _table(mappings: Iterable[Mapping], origins: Sequence[Origin] | None) -> Iterator[str]:
    for mapping, origin in with_origins(mappings, origins):
        yield f"{clean(mapping.query)}\n"
        if origin is not None and origin.columns:
            kept = (
                f"{clean(name)}: {clean(value)}" for name, value in origin.columns.items() if clean(value)
            )
            yield f"  {'; '.join((f'row {origin.row}', *kept))}\n"
        yield from (f"  {line}\n" for line in _answer(mapping))


def _answer(mapping: Mapping) -> Iterator[str]:
    if mapping.ambiguous:
        yield "another concept carries the same string"
    if mapping.note:
        yield clean(mapping.note)
    if not mapping.candidates:
        yield "no match"
    for candidate in mapping.candidates:
        name, matched = clean(candidate.name), clean(candidate.matched)
        origin = "" if matched == name else f"  ← {matched}"
        shown = name if len(name) <= _WIDTH else name[: _WIDTH - 1] + "…"
        about = f"{candidate.rank:>2}  {candidate.cui}  {candidate.confidence:.3f}  {candidate.match:<10}"
        yield f"{about}  {shown:<{_WIDTH}}{origin}".rstrip()


def _line(values: Iterable[_Value]) -> str:
    return "\t".join(guard(clean(_text(value))) for value in values) + "\n"


def _values(candidate: Candidate) -> tuple[_Value, ...]:
    return tuple(getattr(candidate, field) for field in FIELDS)


def _text(value: _Value) -> str:
    if isinstance(value, tuple):
        return ";".join(value)
    return f"{value:.6f}" if isinstance(value, float) else str(value)


_WRITERS: dict[str, Callable[[Iterable[Mapping], Sequence[Origin] | None], Iterator[str]]] = {
    "jsonl": _jsonl,
    "tsv": _tsv,
    "table": _table,
}
