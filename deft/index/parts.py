"""A release of an index, opened: its tables and both searches, which fit each other and the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deft.errors import InputError
from deft.index.dense import DenseIndex
from deft.index.lexical import LexicalIndex
from deft.index.manifest import Manifest
from deft.terminology.concepts import DAMAGED, Concepts


@dataclass(frozen=True, eq=False)
class Parts:
    """What a release holds beside its encoder."""

    manifest: Manifest
    concepts: Concepts
    dense: DenseIndex
    lexical: LexicalIndex

    @classmethod
    def open(cls, folder: Path) -> Parts:
        """Open a release (`deft.index.releases.open_release` finds it).

        Files are mapped, and what is looked up in them is checked to lie within them: a damaged file is an
        error here or gives another answer, but never a crash. `Manifest.verify` finds all damage.

        Raises
        ------
        InputError
            A file is missing, damaged, of another version or of another index.
        """
        manifest = Manifest.read(folder)
        parts = cls(manifest, Concepts.open(folder), DenseIndex.open(folder), LexicalIndex.open(folder))
        found = {
            "rows": parts.concepts.rows,
            "vectors": (len(parts.dense), parts.dense.dimension),
            "kind of vector index": parts.dense.kind,
            "strings of the lexical index": len(parts.lexical),
        }
        strings = manifest.rows.get("strings")
        wanted = (manifest.rows, (strings, manifest.encoder.get("dimension")), manifest.kind, strings)
        for (name, value), expected in zip(found.items(), wanted, strict=True):
            if value != expected:
                problem = f"is damaged: {name}: {value} instead of {expected}."
                raise InputError(problem, path=folder, remedy=DAMAGED)
        return parts
