"""Readers of the UMLS Rich Release Format (RRF), streaming, plain or gzip.

An RRF file has no header; fields are separated by ``|``, each line ends with one too, and nothing is quoted
or escaped. The columns are those of the "UMLS Reference Manual" (National Library of Medicine, chapter 3).
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from deft.errors import InputError
from deft.files import cannot_read
from deft.progress import Progress
from deft.terminology.cui import PATTERN
from deft.terminology.semantic_groups import types_of

MRCONSO = (
    "CUI", "LAT", "TS", "LUI", "STT", "SUI", "ISPREF", "AUI", "SAUI", "SCUI", "SDUI", "SAB", "TTY", "CODE",
    "STR", "SRL", "SUPPRESS", "CVF",
)  # fmt: skip
MRSTY = ("CUI", "TUI", "STN", "STY", "ATUI", "CVF")
MRDEF = ("CUI", "AUI", "ATUI", "SATUI", "SAB", "DEF", "SUPPRESS", "CVF")
MRCUI = ("CUI1", "VER", "REL", "RELA", "MAPREASON", "CUI2", "MAPIN")

_ATOM_COLUMNS = {
    "CUI": "cui",
    "LAT": "language",
    "SAB": "source",
    "TTY": "term_type",
    "CODE": "code",
    "STR": "string",
}
_BLOCK = 8 << 20  # bytes that are parsed at once: memory does not grow with the file
_CUI = f"^{PATTERN}$"

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AtomFilter:
    """Which atoms of a Metathesaurus are kept; an empty tuple keeps every value.

    Attributes
    ----------
    languages, sources, term_types
        Values of LAT, SAB and TTY.
    semantic_types, semantic_groups
        TUIs and names of semantic groups; a concept is kept if one of its types is in their union.
    suppressed
        Keep atoms that are marked suppressible (SUPPRESS other than N).
    """

    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    term_types: tuple[str, ...] = ()
    semantic_types: tuple[str, ...] = ()
    semantic_groups: tuple[str, ...] = ()
    suppressed: bool = False

    @property
    def types(self) -> frozenset[str]:
        """The semantic types that are asked for, those of the groups included."""
        return frozenset(self.semantic_types) | types_of(self.semantic_groups)


def find(folder: Path, name: str, *, optional: bool = False) -> Path | None:
    """Return the path of `name` (such as ``MRCONSO.RRF``) or of its `.gz` in `folder` or in its `META`.

    Raises
    ------
    InputError
        It is not there and not optional, or it is in parts or packed.
    """
    folder = Path(folder)
    for place in (folder, folder / "META"):
        for candidate in (place / name, place / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    splits = (f"{name}.[a-z][a-z]", f"{name}.[a-z][a-z].gz")
    parts = sorted(
        part for place in (folder, folder / "META") for form in splits for part in place.glob(form)
    )
    if parts:  # as the archives of a release hold large files
        whole = parts[0].with_name(name + ".gz" * (parts[0].suffix == ".gz"))
        command = f"cat {' '.join(map(str, parts))} > {whole}"
        raise InputError(f"{name} is in {len(parts)} parts.", path=folder, remedy=f"Join them: {command}")
    if optional:
        return None
    archives = (
        [folder] if folder.suffix in {".zip", ".nlm"} else [*folder.glob("*.zip"), *folder.glob("*.nlm")]
    )
    if archives:
        remedy = f"Unpack it, and give the folder that holds META: unzip {archives[0]}"
        raise InputError("is the archive of a release.", path=archives[0], remedy=remedy)
    raise InputError(
        f"no {name} (or {name}.gz) here.",
        path=folder,
        remedy="Give the folder of the release that holds META/MRCONSO.RRF.",
    )


def stream_atoms(
    folder: Path, keep: AtomFilter | None = None, *, progress: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield the atoms of MRCONSO that pass a filter, in file order; memory does not grow with the file.

    Yields
    ------
    pa.RecordBatch
        Columns `cui`, `language`, `source`, `term_type`, `code`, `string` (as in the file) and `preferred`
        (the preferred form of the preferred term of its concept in its language: TS P, STT PF and ISPREF Y).

    Raises
    ------
    InputError
        A line has not 18 fields and a trailing bar, a CUI or a string is malformed, or no atom passes the
        filter.
    """
    keep = keep or AtomFilter()
    path = _found(folder, "MRCONSO.RRF")
    columns = ("CUI", "LAT", "TS", "STT", "ISPREF", "SAB", "TTY", "CODE", "STR", "SUPPRESS")
    allowed = _concepts_of_types(folder, keep)
    seen = {"LAT": set[str](), "SAB": set[str](), "TTY": set[str]()}
    found = False
    for batch in _batches(path, MRCONSO, columns, progress=progress):
        _check(path, MRCONSO, batch, "STR", pc.equal(pc.utf8_trim_whitespace(batch["STR"]), ""), "is empty")
        for field, values in seen.items():
            values.update(pc.unique(batch[field]).to_pylist())
        atoms = _kept(batch, keep, allowed)
        found = found or atoms.num_rows > 0
        yield _named(atoms)
    _check_filter(path, keep, seen, found=found)


def read_atoms(folder: Path, keep: AtomFilter | None = None, *, progress: bool = False) -> pd.DataFrame:
    """Read the atoms of MRCONSO that pass a filter: columns and errors of `stream_atoms`."""
    return _frame(stream_atoms(folder, keep, progress=progress))


def stream_semantic_types(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield MRSTY: columns `cui`, `tui`, `name`.

    Raises
    ------
    InputError
        The file is missing or a line is malformed.
    """
    return _stream_columns(_found(folder, "MRSTY.RRF"), MRSTY, {"CUI": "cui", "TUI": "tui", "STY": "name"})


def read_semantic_types(folder: Path) -> pd.DataFrame:
    """Read MRSTY: columns and errors of `stream_semantic_types`."""
    return _frame(stream_semantic_types(folder))


def stream_definitions(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield MRDEF without suppressed definitions: columns `cui`, `source`, `definition`.

    There is no row where there is no such file.

    Raises
    ------
    InputError
        A line is malformed.
    """
    path = _filled(find(folder, "MRDEF.RRF", optional=True))
    names = {"CUI": "cui", "SAB": "source", "DEF": "definition", "SUPPRESS": "suppress"}
    for batch in _stream_columns(path, MRDEF, names):
        yield batch.filter(pc.equal(batch["suppress"], "N")).drop_columns(["suppress"])


def read_definitions(folder: Path) -> pd.DataFrame:
    """Read MRDEF: columns and errors of `stream_definitions`."""
    return _frame(stream_definitions(folder))


def stream_retired(folder: Path) -> Iterator[pa.RecordBatch]:
    """Yield MRCUI: columns `cui` (retired), `relation` (SY, DEL, RB, RN, RO) and `target` ("" if deleted).

    There is no row where there is no such file.

    Raises
    ------
    InputError
        A line is malformed.
    """
    path = _filled(find(folder, "MRCUI.RRF", optional=True))
    for batch in _stream_columns(path, MRCUI, {"CUI1": "cui", "REL": "relation", "CUI2": "target"}):
        known = pc.match_substring_regex(batch["target"], f"{_CUI}|^$")
        if path is not None and not pc.all(known).as_py():
            wrong = batch.rename_columns(["CUI1", "REL", "CUI2"])
            _check(path, MRCUI, wrong, "CUI2", pc.invert(known), "expected a CUI or nothing")
        yield batch


def read_retired(folder: Path) -> pd.DataFrame:
    """Read MRCUI: columns and errors of `stream_retired`."""
    return _frame(stream_retired(folder))


def _filled(path: Path | None) -> Path | None:
    """Return a path unless there is nothing in its file: a subset of a release may have no rows of a kind."""
    return path if path is not None and path.stat().st_size else None


def _stream_columns(
    path: Path | None, fields: Sequence[str], names: dict[str, str]
) -> Iterator[pa.RecordBatch]:
    """Yield the columns of a file under other names; one batch without rows if there is no file."""
    columns = list(names.values())
    if path is None:
        yield pa.RecordBatch.from_arrays([pa.array([], pa.string()) for _ in columns], columns)
        return
    for batch in _batches(path, fields, tuple(names)):
        yield batch.rename_columns(columns)


def _named(atoms: pa.RecordBatch) -> pa.RecordBatch:
    preferred = pc.and_(
        pc.and_(pc.equal(atoms["TS"], "P"), pc.equal(atoms["STT"], "PF")), pc.equal(atoms["ISPREF"], "Y")
    )
    columns = {name: atoms[field] for field, name in _ATOM_COLUMNS.items()}
    return pa.RecordBatch.from_pydict({**columns, "preferred": preferred})


def _frame(batches: Iterator[pa.RecordBatch]) -> pd.DataFrame:
    frame: pd.DataFrame = pa.Table.from_batches(list(batches)).to_pandas()
    return frame


def _found(folder: Path, name: str) -> Path:
    path = find(folder, name)
    assert path is not None
    return path


def _kept(batch: pa.RecordBatch, keep: AtomFilter, allowed: pa.Array | None) -> pa.RecordBatch:
    mask = pa.array(np.ones(batch.num_rows, dtype=bool))
    for field, values in (("LAT", keep.languages), ("SAB", keep.sources), ("TTY", keep.term_types)):
        if values:
            mask = pc.and_(mask, pc.is_in(batch[field], pa.array(values)))
    if not keep.suppressed:
        mask = pc.and_(mask, pc.equal(batch["SUPPRESS"], "N"))
    if allowed is not None:
        mask = pc.and_(mask, pc.is_in(batch["CUI"], allowed))
    return batch.filter(mask)


def _concepts_of_types(folder: Path, keep: AtomFilter) -> pa.Array | None:
    if not keep.types:
        return None
    types = read_semantic_types(folder)
    unknown = set(keep.semantic_types) - set(types["tui"])
    if unknown:
        raise InputError(
            f"no concept has the semantic type {', '.join(sorted(unknown))}.",
            path=_found(folder, "MRSTY.RRF"),
            remedy=f"It holds {', '.join(sorted(types['tui'].unique()))}.",
        )
    return pa.array(types.loc[types["tui"].isin(keep.types), "cui"].unique())


def _check_filter(path: Path, keep: AtomFilter, seen: dict[str, set[str]], *, found: bool) -> None:
    """Refuse a filter that nothing passes; warn of values that the file does not have."""
    asked = {
        "LAT": ("language", keep.languages),
        "SAB": ("source", keep.sources),
        "TTY": ("term type", keep.term_types),
    }
    for field, (what, values) in asked.items():
        absent = [value for value in values if value not in seen[field]]
        problem = f"no atom with {what} {', '.join(absent)}."
        remedy = f"It holds {', '.join(sorted(seen[field]))}."
        if absent and not found:
            raise InputError(problem, path=path, field=field, remedy=remedy)
        if absent:
            logger.warning("%s: %s %s", path, problem, remedy)
    if not found:
        remedy = "Ask for more languages, sources, term types or semantic types, or keep suppressed atoms."
        raise InputError("no atom passes the filter.", path=path, remedy=remedy)


def _batches(
    path: Path, fields: Sequence[str], columns: Sequence[str], *, progress: bool = False
) -> Iterator[pa.RecordBatch]:
    """Yield record batches of `columns`, as strings, each line checked."""
    cui, empty = columns[0], True
    try:
        with _stream(path) as stream, _bar(path, progress=progress) as bar:
            for batch in _reader(stream, [*fields, "END"], [*columns, "END"]):
                unended = pc.not_equal(batch["END"], "")
                _check(path, fields, batch, "END", unended, "the line does not end with a bar")
                misnamed = pc.invert(pc.match_substring_regex(batch[cui], _CUI))
                _check(path, fields, batch, cui, misnamed, "expected C and seven digits")
                bar.update(batch.num_rows)
                empty = False
                yield batch.select(list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise _bad_line(path, fields) or cannot_read(path, error) from error
    if empty:
        raise InputError("holds nothing but blank lines.", path=path, remedy="Is the download whole?")


def _stream(path: Path) -> pa.NativeFile:
    return pa.input_stream(str(path), compression="gzip" if path.suffix == ".gz" else None)


def _reader(stream: pa.NativeFile, names: list[str], columns: list[str]) -> csv.CSVStreamingReader:
    return csv.open_csv(
        stream,
        read_options=csv.ReadOptions(column_names=names, block_size=_BLOCK, use_threads=False),
        parse_options=csv.ParseOptions(
            delimiter="|", quote_char=False, escape_char=False, newlines_in_values=False
        ),
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), include_columns=columns, strings_can_be_null=False
        ),
    )


def _bar(path: Path, *, progress: bool) -> Progress:
    return Progress(desc=path.name, unit=" lines", unit_scale=True, disable=not progress)


def _check(
    path: Path, fields: Sequence[str], batch: pa.RecordBatch, field: str, bad: pa.Array, problem: str
) -> None:
    """Refuse a batch with a line that is `bad`."""
    if not pc.any(bad).as_py():
        return
    position = pc.index(bad, value=True).as_py()
    known = {name: batch[name][position].as_py() for name in batch.schema.names}
    line = _line_of(path, fields, known)
    found = "" if field == "END" else f", found {known[field]!r}"
    name = None if field == "END" else field
    raise InputError(f"{problem}{found}.", path=path, line=line, field=name, remedy="Is the file whole?")


def _line_of(path: Path, fields: Sequence[str], known: dict[str, str]) -> int | None:
    """Find the line with the values `known`; it reads the file again, but only to word an error."""
    places = [([*fields, "END"].index(name), value) for name, value in known.items()]
    for number, line in _raw_lines(path):
        values = line.split(b"|")
        if len(values) > len(fields) and all(values[place] == value.encode() for place, value in places):
            return number
    return None


def _bad_line(path: Path, fields: Sequence[str]) -> InputError | None:
    """Find the first line that is not of the form and word the error for it."""
    try:
        for number, line in _raw_lines(path):
            try:
                bars = line.decode("utf-8").count("|")
            except UnicodeDecodeError:
                remedy = "RRF files are UTF-8: convert it."
                return InputError("is not UTF-8.", path=path, line=number, remedy=remedy)
            if line and bars != len(fields):
                problem = f"expected {len(fields)} fields and a trailing bar, found {bars} bars."
                remedy = "Is the download whole, and this the right file?"
                return InputError(problem, path=path, line=number, remedy=remedy)
    except (OSError, EOFError, zlib.error) as error:
        return InputError(f"cannot be read to its end ({error}).", path=path, remedy="Is the download whole?")
    return None


def _raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            yield number, line.rstrip(b"\r\n").removeprefix(b"\xef\xbb\xbf")
