"""Look at the vocabulary of laypeople, check and add one's own."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from deft.cli.common import print_places
from deft.cli.index import Memory, Threads, print_manifest
from deft.errors import InputError


class LayFormat(StrEnum):
    """How the vocabulary is written."""

    tsv = "tsv"
    rrf = "rrf"


Phrases = Annotated[Path, typer.Argument(help="Table with the columns cui and phrase; see deft lay check.")]


def lay_export(
    out: Annotated[Path, typer.Argument(help="File to write: lay_fr.tsv, or MRCONSO.RRF.")],
    *,
    output_format: Annotated[
        LayFormat, typer.Option("--format", help="The table as it is, or lines of MRCONSO.RRF.")
    ] = LayFormat.tsv,
) -> None:
    """Write the vocabulary that comes with deft: what laypeople say, concept by concept.

    In RRF its source (SAB) is LAYFR, its term type (TTY) LAY, and the code of a phrase its relation.

    Example: deft lay export lay_fr.tsv

    Example: deft lay export MRCONSO.RRF --format rrf
    """
    from deft.files import atomic_write
    from deft.terminology.lay import find_lay, read_lay, rrf_lines

    path = find_lay()
    with atomic_write(out) as stream:
        if output_format is LayFormat.tsv:
            stream.write(path.read_text(encoding="utf-8"))
        else:
            stream.writelines(rrf_lines(read_lay(path)))
    print_places(out)


def lay_check(
    phrases: Phrases,
    *,
    index: Annotated[Path, typer.Option(help="Index that has the concepts.")] = Path("umls_index"),
) -> None:
    """Check a table of phrases: its form, its concepts, and phrases that say what a name says already.

    Columns: cui, phrase; and, where they are not exact and everyday: relation (exact, narrower, broader),
    register (everyday, colloquial, child, regional:QC ...), and a note, such as offensive.

    Example: deft lay check our_phrases.tsv --index umls_index
    """
    from deft.index.releases import open_release
    from deft.terminology.concepts import Concepts
    from deft.terminology.lay import LANGUAGE, ambiguous, find_faults, read_lay

    found = read_lay(phrases)
    names = open_release(index, Concepts.open).names({phrase.cui for phrase in found}, LANGUAGE)
    faults = find_faults(found, names)
    for fault in faults:
        typer.echo(f"{phrases}:{fault.line}: {fault.problem}")
    shared = ambiguous(found)
    for said in shared.values():
        concepts = ", ".join(phrase.cui for phrase in said)
        typer.echo(
            f"{phrases}:{said[0].line}: {said[0].phrase!r} is said of {concepts}, and not broader on each"
        )
    if faults or shared:
        raise InputError(
            f"{len(faults) + len(shared)} faults.", path=phrases, remedy="Mend them and check again."
        )
    typer.echo(f"{len(found)} phrases on {len({phrase.cui for phrase in found})} concepts: no fault.")


def lay_add(
    index: Annotated[Path, typer.Argument(help="Folder of the index.")],
    phrases: Phrases,
    *,
    source: Annotated[
        str, typer.Option(help="What the phrases are known by (SAB); those that the index has by it go.")
    ],
    memory: Memory = 1024,
    threads: Threads = None,
) -> None:
    """Add a table of phrases to an index, for the concepts that it has.

    Example: deft lay add umls_index our_phrases.tsv --source LAYHUG
    """
    from deft.index.build import Resources, add_lay_to_index

    resources = Resources(memory, threads)
    print_manifest(add_lay_to_index(index, phrases, source, resources=resources, progress=True))
