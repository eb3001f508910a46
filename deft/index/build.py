"""Build an index: concept tables, vectors, encoder and manifest, in a folder that can be moved anywhere.

Every build is the same chain: atoms are gathered (from a release, or from the index that there is), tables
made of them, strings embedded, searched, described. What changes an index makes it anew, but embeds only
strings that it did not have: the result is that of a fresh build.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from deft.encoder.bundle import CARD, SETTINGS, SHIPPED, find_encoder
from deft.encoder.bundle import FILES as ENCODER_FILES
from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index.dense import CODES, VECTORS, DenseIndex, Kind, open_vectors
from deft.index.lexical import LexicalIndex
from deft.index.manifest import ENCODER, FORMAT, NAME, FileRecord, Manifest
from deft.index.parts import Parts
from deft.index.releases import POINTER, new_release, open_release
from deft.index.vectors import Known, OldIndex, StoredVectors, embed
from deft.terminology.concepts import FILES as TABLES
from deft.terminology.concepts import Concepts
from deft.terminology.cui import check_cui
from deft.terminology.lay import LANGUAGE as LAY_LANGUAGE
from deft.terminology.lay import LAY, find_lay, read_lay
from deft.terminology.lay import SHIPPED as SHIPPED_LAY
from deft.terminology.lay import SOURCE as LAY_SOURCE
from deft.terminology.rrf import AtomFilter, find
from deft.terminology.table_maker import MEMORY_MIB, TableMaker

logger = logging.getLogger(__name__)

_SHORT_OF_MEMORY = re.compile(r"out of ?memory|bad_?alloc|failed to allocate|cannot allocate", re.IGNORECASE)
_SOURCE = re.compile("[A-Z][A-Z0-9_-]{1,19}")
_INPUTS = ("MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF", "MRCUI.RRF")


@dataclass(frozen=True, slots=True)
class Resources:
    """What a build may use.

    Attributes
    ----------
    memory_mib
        Memory for the tables while they are made; what does not fit goes to the disk.
    threads
        Threads of the encoder; by default one a processor.
    """

    memory_mib: int = MEMORY_MIB
    threads: int | None = None


@dataclass(frozen=True)
class _Phrases:
    """A file of phrases of laypeople, if there is to be one, and the source that they are known by."""

    path: Path | None
    source: str = LAY_SOURCE

    @property
    def record(self) -> dict[str, FileRecord]:
        """What the manifest says of it."""
        return {} if self.path is None else {f"lay {self.source}": FileRecord.of(self.path)}

    def add_to(self, maker: TableMaker) -> None:
        """Put them in the place of those of this source."""
        if self.path is not None:
            maker.remove(sources=[self.source])
            maker.add_lay(read_lay(self.path), self.source)


@dataclass(frozen=True)
class _Plan:
    """What an index is made of.

    Attributes
    ----------
    encoder, model
        Encoder bundle, and the same opened.
    inputs, filters
        What the manifest says of its origin.
    job
        What else tells this build from others.
    gather
        Gives the atoms to a maker.
    base
        The release that it is made from, if it is.
    """

    encoder: Path
    model: Encoder
    inputs: dict[str, FileRecord]
    filters: dict[str, Any]
    job: dict[str, Any]
    gather: Callable[[TableMaker], None]
    base: Path | None = None


def build_index(  # noqa: PLR0913 - each is one choice, and all but three are named
    umls: str | Path,
    encoder: str | Path | None,
    out: str | Path,
    keep: AtomFilter | None = None,
    *,
    kind: Kind | None = None,
    vectors: str | Path | None = None,
    lay: str | Path | None = SHIPPED_LAY,
    resources: Resources | None = None,
    progress: bool = False,
) -> Manifest:
    """Build the index of a Metathesaurus, with what laypeople say for its concepts.

    A build that was interrupted, by whatever, goes on where it was when it is started again.

    Parameters
    ----------
    umls
        Folder with MRCONSO.RRF and MRSTY.RRF (in it or in its META).
    encoder
        Encoder bundle, or None for the one that comes with deft; a copy of it goes into the index, with its
        card.
    out
        Folder of the index. It is replaced when the new one is complete, not before.
    keep
        Filter of the atoms.
    kind
        Kind of vector index; by default chosen by size.
    vectors
        Folder written by `deft encode`, or an index, of the same encoder: strings found there are not
        embedded again.
    lay
        File of phrases of laypeople (`deft.terminology.lay`), by default the vocabulary that comes with deft;
        None for none. There are none either where `keep` asks for languages without French.
    resources
        What it may use.
    progress
        Show progress on standard error.

    Raises
    ------
    InputError
        An input is missing or malformed, nothing passes the filter, `out` cannot be written, is no index or
        is being written by another process, or memory is short.
    """
    umls, keep = Path(umls), keep or AtomFilter()
    bundle, resources = find_encoder(encoder or SHIPPED), resources or Resources()
    french = not keep.languages or LAY_LANGUAGE in keep.languages
    phrases = _Phrases(find_lay(lay) if lay is not None and french else None)

    def gather(maker: TableMaker) -> None:
        maker.add_release(umls, keep, progress=progress)
        phrases.add_to(maker)

    plan = _Plan(
        bundle,
        Encoder.open(bundle, threads=resources.threads),
        {**_records(umls), **phrases.record},
        asdict(keep),
        {},
        gather,
    )
    known = None if vectors is None else _known(Path(vectors))
    return _build(plan, Path(out), known, resources, kind=kind, progress=progress)


def add_to_index(
    index: str | Path,
    umls: str | Path,
    keep: AtomFilter | None = None,
    *,
    resources: Resources | None = None,
    progress: bool = False,
) -> Manifest:
    """Add the atoms of a folder of RRF files to an index; only strings it did not have are embedded.

    Parameters
    ----------
    index
        The index; it is replaced when the new one is complete.
    umls, keep, resources, progress
        As for `build_index`; a filter that is not given is the one the index was built with.

    Raises
    ------
    InputError
        As for `build_index`.
    """
    index, umls, resources = Path(index), Path(umls), resources or Resources()
    old = _old(index, resources.threads)
    filters = old.manifest.filters
    keep = keep or AtomFilter(**{name: _tuple(filters[name]) for name in asdict(AtomFilter())})

    had = LAY_SOURCE in old.concepts.labels("atoms", "source").values
    phrases = _Phrases(find_lay() if had else None)  # for the concepts that come in as well

    def gather(maker: TableMaker) -> None:
        maker.add_tables(old.concepts)
        maker.add_release(umls, keep, progress=progress)
        phrases.add_to(maker)

    added = {f"added {umls.name}/{name}": record for name, record in _records(umls).items()}
    plan = _Plan(
        old.encoder,
        old.model,
        {**old.manifest.inputs, **added, **phrases.record},
        filters,
        {"index": old.identity, "added": asdict(keep)},
        gather,
        old.folder,
    )
    return _build(plan, index, old.vectors, resources, progress=progress)


def add_lay_to_index(
    index: str | Path,
    lay: str | Path,
    source: str,
    *,
    resources: Resources | None = None,
    progress: bool = False,
) -> Manifest:
    """Add a file of phrases of laypeople to an index, for the concepts that it has.

    Parameters
    ----------
    index, resources, progress
        As for `add_to_index`.
    lay
        The file (`deft.terminology.lay`).
    source
        What its phrases are known by (SAB); they take the place of those that the index has by it.

    Raises
    ------
    InputError
        As for `build_index`, the source is no name of one or that of the vocabulary that comes with deft, or
        the index has names of that source.
    """
    if not _SOURCE.fullmatch(source) or source == LAY_SOURCE:
        problem = f"{source!r} cannot be the source of phrases of one's own."
        raise InputError(problem, field="source", remedy="Give a short name in capitals, such as LAYHUG.")
    index, resources = Path(index), resources or Resources()
    old, phrases = _old(index, resources.threads), _Phrases(find_lay(lay), source)
    source_of, type_of = (old.concepts.labels("atoms", name) for name in ("source", "term_type"))
    if (source_of.isin([source]) & ~type_of.isin([LAY])).any():
        problem = f"has names of the source {source}, which are no phrases of laypeople."
        raise InputError(problem, path=index, remedy="Give the phrases another --source.")

    def gather(maker: TableMaker) -> None:
        maker.add_tables(old.concepts)
        phrases.add_to(maker)

    plan = _Plan(
        old.encoder,
        old.model,
        {**old.manifest.inputs, **phrases.record},
        old.manifest.filters,
        {"index": old.identity, "source": source},
        gather,
        old.folder,
    )
    return _build(plan, index, old.vectors, resources, progress=progress)


def remove_from_index(
    index: str | Path,
    *,
    cuis: Iterable[str] = (),
    sources: Iterable[str] = (),
    resources: Resources | None = None,
    progress: bool = False,
) -> Manifest:
    """Take concepts and sources out of an index; nothing is embedded.

    Raises
    ------
    InputError
        A CUI is none, the index does not have one of them, or nothing would be left.
    """
    index, resources = Path(index), resources or Resources()
    gone = {"cuis": sorted({check_cui(cui) for cui in cuis}), "sources": sorted(set(sources))}
    if not any(gone.values()):
        remedy = "For example: --cui C0012569, or --source ICD10."
        raise InputError("give a concept or a source to take out.", remedy=remedy)
    old = _old(index, resources.threads)

    def gather(maker: TableMaker) -> None:
        maker.add_tables(old.concepts)
        if absent := maker.remove(**gone):
            problem = f"has no atom of {', '.join(absent)}."
            raise InputError(problem, path=index, remedy="Nothing was changed.")

    filters = old.manifest.filters
    plan = _Plan(
        old.encoder,
        old.model,
        old.manifest.inputs,
        {**filters, "removed": [*filters.get("removed", ()), gone]},
        {"index": old.identity},
        gather,
        old.folder,
    )
    return _build(plan, index, old.vectors, resources, progress=progress)


def _build(
    plan: _Plan,
    out: Path,
    known: Known | None,
    resources: Resources,
    *,
    kind: Kind | None = None,
    progress: bool,
) -> Manifest:
    job = {
        "format": FORMAT,
        "inputs": {name: record.sha256 for name, record in plan.inputs.items()},
        "filters": plan.filters,
        "encoder": plan.model.fingerprint,
        **plan.job,
    }
    with _enough_memory(), new_release(out, job, worth=VECTORS, base=plan.base) as folder:
        manifest = _fill(folder, plan, known, kind, memory_mib=resources.memory_mib, progress=progress)
        Parts.open(folder)
    return manifest


def _fill(
    folder: Path,
    plan: _Plan,
    known: Known | None,
    kind: Kind | None,
    *,
    memory_mib: int,
    progress: bool,
) -> Manifest:
    concepts = _tables(plan, folder, memory_mib)
    embed(concepts, plan.model, folder, known, progress=progress)
    (folder / CODES).unlink(missing_ok=True)  # of an interrupted build
    dense = DenseIndex.build(open_vectors(folder), kind=kind)
    dense.save_codes(folder)
    strings = (string for part in concepts.all_strings() for string in part)
    LexicalIndex.write(strings, folder)
    (folder / ENCODER).mkdir(exist_ok=True)
    for name in (*ENCODER_FILES, SETTINGS, CARD):
        if name in ENCODER_FILES or (plan.encoder / name).exists():
            shutil.copyfile(plan.encoder / name, folder / ENCODER / name)
    manifest = _describe(folder, plan, concepts, dense)
    manifest.write(folder)
    return manifest


def _tables(plan: _Plan, folder: Path, memory_mib: int) -> Concepts:
    """Make the tables, unless an interrupted build has made them; that of the strings is written last."""
    if not (folder / TABLES[-1]).exists():
        order = plan.filters.get("languages") or ()
        with TableMaker(order, memory_mib=memory_mib, spill=folder) as maker:
            plan.gather(maker)
            maker.make().save(folder)
    return Concepts.open(folder)


def _describe(folder: Path, plan: _Plan, concepts: Concepts, dense: DenseIndex) -> Manifest:
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    listed = [path for path in paths if not any(part.startswith(".") for part in path.parts)]
    unlisted = {NAME, f"{ENCODER}/{SETTINGS}"}
    return Manifest(
        inputs=plan.inputs,
        filters=plan.filters,
        rows=concepts.rows,
        encoder={
            "fingerprint": plan.model.fingerprint,
            "dimension": plan.model.dimension,
            "precision": plan.model.info.precision,
            "engine": plan.model.info.engine,
        },
        kind=dense.kind,
        search=dense.search_settings,
        files={
            path.as_posix(): FileRecord.of(folder / path)
            for path in listed
            if path.as_posix() not in unlisted
        },
    )


@dataclass(frozen=True)
class _Old:
    """An index that is there, what was built of it, and its vectors."""

    folder: Path
    manifest: Manifest
    concepts: Concepts
    vectors: OldIndex
    model: Encoder

    @classmethod
    def open(cls, folder: Path, threads: int | None) -> _Old:
        """Open a release and check every file: what is made of it should not inherit damage."""
        manifest = Manifest.read(folder)
        manifest.verify(folder)
        concepts = Concepts.open(folder)
        model = Encoder.open(folder / ENCODER, threads=threads)
        return cls(folder, manifest, concepts, OldIndex(folder, model.fingerprint, concepts), model)

    @property
    def encoder(self) -> Path:
        """Its encoder bundle."""
        return self.folder / ENCODER

    @property
    def identity(self) -> str:
        """Tell one index from another by its strings, atoms and concepts."""
        return " ".join(self.manifest.files[name].sha256 for name in TABLES)


def _records(umls: Path) -> dict[str, FileRecord]:
    return {path.name: FileRecord.of(path) for name in _INPUTS if (path := find(umls, name, optional=True))}


def _old(index: Path, threads: int | None = None) -> _Old:
    return open_release(index, lambda folder: _Old.open(folder, threads))


def _known(folder: Path) -> Known:
    return _old(folder).vectors if (folder / POINTER).exists() else StoredVectors.open(folder)


def _tuple(value: Any) -> Any:  # noqa: ANN401 - JSON knows lists alone
    return tuple(value) if isinstance(value, list) else value


@contextmanager
def _enough_memory() -> Iterator[None]:
    """Word what libraries say when memory is short."""
    try:
        yield
    except Exception as error:  # each library has its own; what is something else goes on
        if not isinstance(error, MemoryError) and not _SHORT_OF_MEMORY.search(f"{type(error)} {error}"):
            raise
        remedy = (
            "Lower --memory or --threads, close other programs, or keep fewer languages or sources; "
            "strings that were embedded are not embedded again."
        )
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"memory is short ({said}).", remedy=remedy) from error
