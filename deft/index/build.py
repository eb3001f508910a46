"""Build an index: concept tables, vectors, encoder and manifest, in one folder that can be moved anywhere."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

from deft.encoder.bundle import FILES as ENCODER_FILES
from deft.encoder.runtime import Encoder
from deft.files import atomic_folder
from deft.index.dense import DenseIndex, Kind
from deft.index.lexical import LexicalIndex
from deft.index.manifest import NAME, FileRecord, Manifest
from deft.index.vectors import StoredVectors, encode_with_store
from deft.terminology.concepts import Concepts
from deft.terminology.rrf import AtomFilter, find

logger = logging.getLogger(__name__)

ENCODER = "encoder"
OWN_MODEL = "mapping.json"
"""A mapping model that was fitted to the index, if there is one."""
_INPUTS = ("MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF", "MRCUI.RRF")


def build_index(
    umls: str | Path,
    encoder: str | Path,
    out: str | Path,
    keep: AtomFilter | None = None,
    *,
    kind: Kind | None = None,
    vectors: str | Path | None = None,
    progress: bool = False,
) -> Manifest:
    """Build the index of a Metathesaurus.

    Parameters
    ----------
    umls
        Folder with MRCONSO.RRF and MRSTY.RRF (in it or in its META).
    encoder
        Encoder bundle; a copy of it goes into the index.
    out
        Folder of the index. It is replaced when the new one is complete, not before.
    keep
        Filter of the atoms.
    kind
        Kind of vector index; by default chosen by size.
    vectors
        Folder written by `deft encode` with the same encoder: strings found there are not embedded again.
    progress
        Show progress on standard error.

    Raises
    ------
    InputError
        An input is missing or malformed, nothing passes the filter, or `out` cannot be written or is no
        index.
    """
    umls, encoder, out, keep = Path(umls), Path(encoder), Path(out), keep or AtomFilter()
    model = Encoder.open(encoder)
    if (out / OWN_MODEL).exists():
        logger.warning("%s: its own mapping model goes with it; fit it again with `deft fit`.", out)
    store = None if vectors is None else StoredVectors.open(Path(vectors))
    concepts = Concepts.read_umls(umls, keep, progress=progress)
    with atomic_folder(out, marker=NAME) as folder:
        rows = encode_with_store(concepts.strings["string"].to_list(), model, store, progress=progress)
        dense = DenseIndex.build(rows, kind=kind)
        dense.save(folder)
        LexicalIndex.build(concepts.strings["string"].to_list()).save(folder)
        concepts.save(folder)
        (folder / ENCODER).mkdir()
        for name in ENCODER_FILES:
            shutil.copyfile(encoder / name, folder / ENCODER / name)
        manifest = _describe(folder, umls, keep, concepts, model, dense.kind)
        manifest.write(folder)
    return manifest


def _describe(
    folder: Path, umls: Path, keep: AtomFilter, concepts: Concepts, model: Encoder, kind: str
) -> Manifest:
    inputs = {path.name: FileRecord.of(path) for name in _INPUTS if (path := find(umls, name, optional=True))}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Manifest(
        inputs=inputs,
        filters=asdict(keep),
        rows={
            "strings": len(concepts.strings),
            "atoms": len(concepts.atoms),
            "concepts": len(concepts.concepts),
        },
        encoder={
            "fingerprint": model.fingerprint,
            "dimension": model.dimension,
            "precision": model.info.precision,
            "engine": model.info.engine,
        },
        kind=kind,
        files={path.relative_to(folder).as_posix(): FileRecord.of(path) for path in files},
    )
