"""Build and check an index."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from deft.cli.common import Values, print_record
from deft.errors import InputError


class IndexKind(StrEnum):
    """Kind of vector index."""

    auto = "auto"
    flat = "flat"
    pq = "pq"


def index_build(
    *,
    encoder: Annotated[Path, typer.Option(help="Encoder bundle.")],
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
        IndexKind, typer.Option(help="Exact search (flat), or codes that propose strings (pq).")
    ] = IndexKind.auto,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Vectors that `deft encode` wrote: strings in it are not embedded again."),
    ] = None,
    params: Annotated[
        Path | None,
        typer.Option(
            help="Take the filters, and --umls if not given, from the block `prepare` of this file, and the "
            "kind from its block `index`."
        ),
    ] = None,
) -> None:
    """Build an index: every distinct string of the Metathesaurus is embedded once.

    Example: deft index build --umls data/umls --encoder data/encoder --out umls_index --language FRE
    """
    from deft.config import Params
    from deft.index.build import build_index
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
        umls, keep = umls or blocks.prepare.umls, blocks.prepare.atom_filter()
        kind = IndexKind(blocks.index.kind)
    if umls is None:
        raise InputError("give --umls or --params.")
    chosen = None if kind is IndexKind.auto else cast("Any", kind.value)
    manifest = build_index(umls, encoder, out, keep, kind=chosen, vectors=vectors, progress=True)
    print_record({**manifest.rows, "kind": manifest.kind})


def index_verify(index: Annotated[Path, typer.Argument(help="Folder of the index.")]) -> None:
    """Check that an index is whole: every file against its checksum.

    Example: deft index verify umls_index
    """
    from deft.index.manifest import Manifest

    Manifest.read(index).verify(index)
    typer.echo("The index is whole.")
