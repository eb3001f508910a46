"""Mappings as SSSOM, the Simple Standard for Sharing Ontological Mappings (https://mapping-commons.github.io/sssom).

A query has no identifier of its own: each row is a *literal mapping*, whose subject is the query itself. What
is the same for all rows stands once, in the metadata block. Columns, numbers and quotes follow the canonical
form of the standard; rows do not, they keep the order of the queries and of their candidates.

The library of the standard (sssom-py 0.4.21) parses and validates literal mappings. Its `sssom convert` keeps
them in RDF and OWL, drops every one in JSON, with a message each, and stops at FHIR and OntoPortal JSON,
which want a `subject_id`.

The standard has no mark for text that a spreadsheet would compute. Its slots of free text take any text: an
apostrophe stands before such a one here too (`deft.corpora.cells`), and the comment of the row says so.
"""

from __future__ import annotations

import csv
import io
import json
import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import yaml

import deft
from deft.corpora.cells import guard
from deft.errors import InputError
from deft.exchange.origins import ROW, Origin, labels, with_origins
from deft.files import atomic_write
from deft.mapping.results import Candidate, Mapping
from deft.text import clean

UNSPECIFIED_LICENSE = "https://w3id.org/sssom/license/unspecified"
PREFIXES = {
    "orcid": "https://orcid.org/",
    "SAB": "https://uts.nlm.nih.gov/uts/umls/vocabulary/",
    "UMLS": "https://uts.nlm.nih.gov/uts/umls/concept/",
    "sty": "https://uts.nlm.nih.gov/uts/umls/semantic-network/",
}
# Slots of a row in the order of the standard; those that no row fills are left out.
COLUMNS = (
    "subject_label",
    "predicate_id",
    "object_id",
    "object_label",
    "object_category",
    "mapping_justification",
    "object_source",
    "confidence",
    "match_string",
    "similarity_score",
    "similarity_measure",
    "comment",
)

_JUSTIFICATION = {
    "curated": "semapv:ManualMappingCuration",
    "exact": "semapv:LexicalMatching",
    "normalised": "semapv:LexicalMatching",
    "lexical": "semapv:LexicalSimilarityThresholdMatching",
    "semantic": "semapv:SemanticSimilarityThresholdMatching",
}
_SAME_STRING = {"exact", "normalised"}
# What the concept is to a phrase of laypeople that is written as the query
_BY_RELATION = {"exact": "skos:closeMatch", "narrower": "skos:broadMatch", "broader": "skos:narrowMatch"}
_AMBIGUOUS = "another concept carries the same string"
_GUARDED = "an apostrophe keeps a spreadsheet from computing a text of this row"
_METATHESAURUS = "MTH"  # the vocabulary of the Metathesaurus itself: where nothing was found
_SETS = "https://w3id.org/sssom/mappings/"  # where the library of the standard puts sets without identifier
_URI = re.compile(
    r"https?://[^\s/]\S*"
)  # `sssom parse` takes other schemes, such as urn:, for unknown prefixes
_ORCID = re.compile(r"(?:orcid:|https?://orcid\.org/)?((?:[0-9]{4}-){3}[0-9]{3}[0-9X])", re.IGNORECASE)
_ROW_SLOT = f"ext_{ROW}"
_CURIES = ("object_id", "object_category", "object_source")


@dataclass(frozen=True, slots=True)
class SssomMetadata:
    """What a mapping set says about itself.

    Attributes
    ----------
    mapping_set_id
        http(s) URI of the set; by default one made from its content, so that equal sets have equal
        identifiers.
    license
        http(s) URI of its licence; by default the one that states none. Names of the Metathesaurus are
        licensed.
    creators
        Who made it: an ORCID becomes a `creator_id`, any other name a `creator_label`.
    mapping_date
        Day on which the mappings were made; left out by default, so that equal runs give equal files.
    mapping_set_description
        A sentence about it, for example the index and the filters.
    object_source_version
        Release of the Metathesaurus, "2026AA".

    Raises
    ------
    InputError
        An identifier or a licence is no URI.
    """

    mapping_set_id: str = ""
    license: str = UNSPECIFIED_LICENSE
    creators: tuple[str, ...] = ()
    mapping_date: date | None = None
    mapping_set_description: str = ""
    object_source_version: str = ""

    def __post_init__(self) -> None:
        """Check the URIs."""
        for field in ("mapping_set_id", "license"):
            value = getattr(self, field)
            if value and not _URI.fullmatch(value):
                remedy = "For example: https://creativecommons.org/licenses/by/4.0/."
                raise InputError(f"{value!r} is no http(s) URI.", field=field, remedy=remedy)


def write_sssom(
    mappings: Iterable[Mapping],
    out: str | Path | TextIO,
    metadata: SssomMetadata | None = None,
    origins: Sequence[Origin] | None = None,
) -> None:
    """Write mappings as an SSSOM/TSV file: a row a candidate, and one for each query that has none.

    The predicate is `skos:exactMatch` where the query is a name of that concept and of no other proposed one:
    an atom of it is the same string, or a person accepted it. All others are `skos:closeMatch`: a similarity
    does not show that two things are the same, nor which is the broader; nor does a string that several
    concepts share, nor a phrase of laypeople, and `skos:exactMatch` is transitive, it would make those
    concepts one. A query that is such a phrase, of a concept that is broader or narrower than it, is
    `skos:broadMatch` or `skos:narrowMatch`. How far to trust a row is its `confidence`.

    Parameters
    ----------
    mappings
        The mappings, in the order of the rows.
    out
        A file to write, or a text stream.
    metadata
        What the set says about itself.
    origins
        The row that each mapping came from, one a mapping: its number and its columns become extension slots
        (`ext_row`, `ext_NAME`), which `sssom parse` leaves out. A row without a term has no label to map, and
        is left out here.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    text = sssom_text(mappings, metadata, origins)
    if isinstance(out, str | Path):
        with atomic_write(Path(out)) as stream:
            stream.write(text)
    else:
        out.write(text)


def sssom_text(
    mappings: Iterable[Mapping],
    metadata: SssomMetadata | None = None,
    origins: Sequence[Origin] | None = None,
) -> str:
    """Return what `write_sssom` writes."""
    metadata = metadata or SssomMetadata()
    extensions = _extensions(origins)
    rows = [
        _safe(row | _extended(origin, extensions))
        for mapping, origin in with_origins(mappings, origins)
        for row in _rows(mapping)
    ]
    columns = [column for column in COLUMNS if not rows or any(row.get(column) for row in rows)]
    columns += ([_ROW_SLOT] if origins is not None else []) + [*extensions.values()]
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t", lineterminator="\n")
    writer.writerow(columns)
    quoted = csv.writer(table, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        cells = [row.get(column, "") for column in columns]
        # a line that begins with # would be read as metadata
        (quoted if cells[0].startswith("#") else writer).writerow(cells)
    content = table.getvalue()
    header = "".join(f"#{line}\n" for line in _header(metadata, rows, content, columns))
    return header + content


def _extensions(origins: Sequence[Origin] | None) -> dict[str, str]:
    """Return the extension slot of each column that goes along; the names of slots are NCNames."""
    slots: dict[str, str] = {}
    for name, label in labels(origins, ()).items():
        slot = "ext_" + re.sub(r"[^\w.-]", "_", label)
        while slot in slots.values():
            slot += "_"
        slots[name] = slot
    return slots


def _extended(origin: Origin | None, extensions: dict[str, str]) -> dict[str, str]:
    if origin is None:
        return {}
    own = {slot: clean(origin.columns.get(name, "")) for name, slot in extensions.items()}
    return {_ROW_SLOT: str(origin.row), **own}


def _header(
    metadata: SssomMetadata, rows: list[dict[str, str]], content: str, columns: list[str]
) -> Iterator[str]:
    curies = (curie for row in rows for slot in _CURIES for curie in row.get(slot, "").split("|"))
    found = [(creator, _ORCID.fullmatch(creator)) for creator in map(clean, metadata.creators) if creator]
    people = [f"orcid:{orcid[1].upper()}" for _, orcid in found if orcid]
    used = {curie.partition(":")[0] for curie in (*curies, *people)}
    prefixes = [f"  {prefix}: {uri}" for prefix, uri in PREFIXES.items() if prefix in used]
    yield from ["curie_map:", *prefixes] if prefixes else []
    slots = {
        "mapping_set_id": metadata.mapping_set_id or f"{_SETS}{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "mapping_set_description": metadata.mapping_set_description,
        "creator_id": people,
        "creator_label": [name for name, orcid in found if not orcid],
        "license": metadata.license,
        "subject_type": "rdfs literal",
        "object_source_version": metadata.object_source_version,
        "mapping_tool": "deft",
        "mapping_tool_version": deft.__version__,
        "mapping_date": metadata.mapping_date,
    }
    for slot, value in slots.items():
        if isinstance(value, list):
            yield from [f"{slot}:", *(f"  - {_scalar(entry)}" for entry in value)] if value else []
        elif value:
            yield f"{slot}: {_scalar(value)}"
    extensions = [column for column in columns if column not in COLUMNS]
    yield from ["extension_definitions:"] if extensions else []
    for slot in extensions:
        yield f"  - slot_name: {slot}"
        yield from ["    type_hint: xsd:integer"] if slot == _ROW_SLOT else []


def _scalar(value: str | date) -> str:
    """Return a value as YAML, in quotes only where it would be read as something else."""
    if isinstance(value, date):
        return value.isoformat()
    text = clean(value)
    try:
        plain = yaml.safe_load(f"- {text}") == [text] and yaml.safe_load(f"slot: {text}") == {"slot": text}
    except yaml.YAMLError:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _rows(mapping: Mapping) -> Iterator[dict[str, str]]:
    label = clean(mapping.query)
    if not label:
        return
    same = _same_concept(mapping)
    for candidate in mapping.candidates:
        yield {
            "subject_label": label,
            "predicate_id": _predicate(candidate, same),
            **_row(mapping, candidate),
        }
    if not mapping.candidates:
        yield {
            "subject_label": label,
            "predicate_id": "skos:exactMatch",
            "object_id": "sssom:NoTermFound",
            "mapping_justification": "semapv:CompositeMatching",
            "object_source": f"SAB:{_METATHESAURUS}",
            "comment": clean(mapping.note),
        }


def _predicate(candidate: Candidate, same: str | None) -> str:
    if candidate.relation and candidate.match in _SAME_STRING:
        return _BY_RELATION[candidate.relation]
    return "skos:exactMatch" if candidate.cui == same else "skos:closeMatch"


def _row(mapping: Mapping, candidate: Candidate) -> dict[str, str]:
    shared = candidate.match in _SAME_STRING
    remarks = [
        "" if shared else f"matched string: {candidate.matched}",
        f"phrase of laypeople, {candidate.relation}" if candidate.relation else "",
        _AMBIGUOUS if mapping.ambiguous and candidate.rank == 1 else "",
        mapping.note,
    ]
    return {
        "object_id": f"UMLS:{candidate.cui}",
        "object_label": clean(candidate.name),
        "object_category": "|".join(f"sty:{tui}" for tui in candidate.semantic_types),
        "mapping_justification": _JUSTIFICATION[candidate.match],
        "object_source": f"SAB:{quote(candidate.source)}" if candidate.source else "",
        "confidence": _number(candidate.confidence),
        "match_string": _list_value(candidate.matched) if shared else "",
        **_similarity(candidate),
        "comment": clean("; ".join(filter(None, remarks))),
    }


def _safe(row: dict[str, str]) -> dict[str, str]:
    """Return a row that a spreadsheet computes nothing of, and that says so where it was changed."""
    guarded = {slot: guard(text) for slot, text in row.items()}
    if guarded == row:
        return row
    return {**guarded, "comment": "; ".join(filter(None, (guarded["comment"], _GUARDED)))}


def _same_concept(mapping: Mapping) -> str | None:
    """Return the CUI of the one concept that the query names; None if there is none or there are several."""
    curated = [candidate.cui for candidate in mapping.candidates if candidate.match == "curated"]
    named = [candidate.cui for candidate in mapping.candidates if candidate.match in _SAME_STRING]
    if curated:  # a person knew more than the string says
        return curated[0] if len(curated) == 1 else None
    return named[0] if len(named) == 1 and not mapping.ambiguous else None


def _similarity(candidate: Candidate) -> dict[str, str]:
    """Return the similarity that justifies the row; the standard has it between 0 and 1."""
    if candidate.match == "curated":
        return {}
    if candidate.match == "semantic":
        score, measure = candidate.cosine, "cosine similarity of sentence embeddings"
    else:
        score, measure = candidate.lexical, "character n-gram similarity"
    return {"similarity_score": _number(score), "similarity_measure": measure}


def _number(value: float) -> str:
    return f"{min(max(value, 0.0), 1.0):.3f}".rstrip("0").rstrip(".")


def _list_value(text: str) -> str:
    # a list of one value: its separators are escaped
    return clean(text).replace("\\", "\\\\").replace("|", "\\|")
