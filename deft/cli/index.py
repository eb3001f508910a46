"""Build and check an index."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from deft.cli.common import Encoder, Values, print_record
from deft.errors import InputError

if TYPE_CHECKING:
    from deft.index.manifest import Manifest


Memory = Annotated[
    int,
    typer.Option(min=64, help="MiB that the tables may take while they are made; the rest goes to the disk."),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Threads of the encoder; default: one a processor.", show_default=False),
]
Release = Annotated[
    Path, typer.Option(help="Folder with MRCONSO.RRF and MRSTY.RRF, in it or in its META; plain or .gz.")
]


class IndexKind(StrEnum):
    """Kind of vector index."""

    auto = "auto"
    flat = "flat"
    ivf = "ivf"


def index_build(
    *,
    encoder: Encoder = Path("shipped"),
    umls: Annotated[
        Path | None,
        typer.Option(help="Folder with MRCONSO.RRF and MRSTY.RRF, in it or in its META; plain or .gz."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the index; replaced once the new index is complete.")
    ] = Path("umls_index"),
    language: Annotated[
        Values, typer.Option(help="Keep this language (FRE, ENG ...). May be repeated; default: all.")
    ] = None,
    source: Annotated[
        Values, typer.Option(help="Keep this source (SAB). May be repeated; default: all.")
    ] = None,
    term_type: Annotated[
        Values, typer.Option(help="Keep this term type (TTY). May be repeated; default: all.")
    ] = None,
    semantic_type: Annotated[
        Values, typer.Option(help="Keep this semantic type (TUI). May be repeated; default: all.")
    ] = None,
    semantic_group: Annotated[
        Values, typer.Option(help="Keep this semantic group (DISO, ANAT ...). May be repeated.")
    ] = None,
    suppressed: Annotated[bool, typer.Option("--suppressed", help="Keep suppressible atoms too.")] = False,
    kind: Annotated[
        IndexKind, typer.Option(help="Exact search (flat), or cells of codes that propose strings (ivf).")
    ] = IndexKind.auto,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Vectors that `deft encode` wrote, or an index (that of the last release, say): strings in "
            "it are not embedded again."
        ),
    ] = None,
    lay: Annotated[
        bool,
        typer.Option("--lay/--no-lay", help="Add what laypeople say, the vocabulary that comes with deft."),
    ] = True,
    memory: Memory = 1024,
    threads: Threads = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="Take the filters, and --umls if not given, from the block `prepare` of this file, and kind "
            "and lay from its block `index`."
        ),
    ] = None,
) -> None:
    """Build an index: every distinct string of the Metathesaurus is embedded once.

    What laypeople say for its concepts is added, by the source LAYFR: deft lay export shows it.

    Interrupted, it goes on where it was when the same command is run again.

    The index is read by every command that maps (`--index`, by default umls_index). It has a copy of its
    encoder and can be moved. Until a new index is complete, the old one answers.

    Example: deft index build --umls data/umls --language FRE --language ENG
    """
    from deft.config import Params
    from deft.index.build import Resources, build_index
    from deft.terminology.lay import SHIPPED
    from deft.terminology.rrf import AtomFilter

    keep = AtomFilter(
        languages=tuple(language or ()),
        sources=tuple(source or ()),
        term_types=tuple(term_type or ()),
        semantic_types=tuple(semantic_type or ()),
        semantic_groups=tuple(semantic_group or ()),
        suppressed=suppressed,
    )
    if params is not None:
        if keep != AtomFilter():
            raise InputError("the filters come from --params or from options, not from both.")
        blocks = Params.read(params)
        umls, keep = umls or blocks.prepare.umls, AtomFilter(**blocks.prepare.atom_filters())
        kind, lay = IndexKind(blocks.index.kind), lay and blocks.index.lay
    if umls is None:
        remedy = "For example: deft index build --umls data/umls --language FRE."
        raise InputError("give --umls, the folder of a Metathesaurus, or --params.", remedy=remedy)
    chosen = None if kind is IndexKind.auto else cast("Any", kind.value)
    resources = Resources(memory, threads)
    manifest = build_index(
        umls,
        encoder,
        out,
        keep,
        kind=chosen,
        vectors=vectors,
        lay=SHIPPED if lay else None,
        resources=resources,
        progress=True,
    )
    print_manifest(manifest)


def index_add(
    index: Annotated[Path, typer.Argument(help="Folder of the index.")],
    *,
    umls: Release,
    memory: Memory = 1024,
    threads: Threads = None,
) -> None:
    """Add the atoms of a folder of RRF files to an index: new sources, new names, new concepts.

    The filters are those the index was built with. Only strings that the index did not have are embedded; the
    result is that of a build on both together.

    For a new release that replaces the old one: deft index build --umls NEW --vectors OLD_INDEX ...

    Example: deft index add umls_index --umls local_terms
    """
    from deft.index.build import Resources, add_to_index

    print_manifest(add_to_index(index, umls, resources=Resources(memory, threads), progress=True))


def index_remove(
    index: Annotated[Path, typer.Argument(help="Folder of the index.")],
    *,
    cui: Annotated[Values, typer.Option(help="Take out this concept. May be repeated.")] = None,
    source: Annotated[
        Values, typer.Option(help="Take out the atoms of this source (SAB). May be repeated.")
    ] = None,
    memory: Memory = 1024,
) -> None:
    """Take concepts or sources out of an index; nothing is embedded.

    If the index does not have one of them, nothing is changed.

    Example: deft index remove umls_index --source ICD10 --cui C0012569
    """
    from deft.index.build import Resources, remove_from_index

    resources = Resources(memory)
    print_manifest(
        remove_from_index(index, cuis=cui or (), sources=source or (), resources=resources, progress=True)
    )


def print_manifest(manifest: Manifest) -> None:
    """Print what an index holds."""
    print_record({**manifest.rows, "kind": manifest.kind})


def index_verify(index: Annotated[Path, typer.Argument(help="Folder of the index.")]) -> None:
    """Check that an index is whole: every file against its checksum, and that it opens.

    Example: deft index verify umls_index
    """
    from deft.index.manifest import Manifest
    from deft.index.releases import open_release
    from deft.mapping.mapper import TermMapper

    open_release(index, lambda folder: Manifest.read(folder).verify(folder))
    TermMapper.open(index)  # with its encoder, the settings of that, and its own mapping model
    typer.echo("The index is whole.")
