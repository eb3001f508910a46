"""Map terms, explain and review mappings, fit the model behind them."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from deft.cli.common import EXPERIMENTS, Channel, ChannelName, ExpectedPresent, Index, Values, print_record
from deft.errors import InputError

if TYPE_CHECKING:
    from deft.exchange.sssom import SssomMetadata
    from deft.mapping.mapper import TermMapper


_OPTION = re.compile(r"-[A-Za-z]|--[A-Za-z][^\s=]*(=.*)?", re.DOTALL)


class TermCommand(TyperCommand):
    """A command whose terms may begin with a dash: "- toux" is one, a mistyped option is not."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's, or typer's copy of it
        """Take what no option looks like for a term; after ``--`` everything is one."""
        known = {name for option in self.get_params(ctx) for name in (*option.opts, *option.secondary_opts)}
        options = (word.partition("=")[0] for word in takewhile("--".__ne__, args) if _OPTION.fullmatch(word))
        ctx.ignore_unknown_options = known.issuperset(options)
        return super().parse_args(ctx, args)


class MapFormat(StrEnum):
    """How mappings are printed."""

    table = "table"
    tsv = "tsv"
    jsonl = "jsonl"
    sssom = "sssom"


CuratedFile = Annotated[
    Path | None, typer.Option(help="Curated mappings: accepted ones come first, rejected ones never.")
]


def open_mapper(index: Path, curated: Path | None, expected_present: float) -> TermMapper:
    """Open an index, with the curated mappings of a file if there is one."""
    from deft.exchange.curated import read_curated
    from deft.mapping.mapper import TermMapper

    decided = None if curated is None else read_curated(curated)
    return TermMapper.open(index, curated=decided, expected_present=expected_present)


def map_terms(
    terms: Annotated[
        Values,
        typer.Argument(
            help="Terms to map, each in quotes if it has spaces; those that look like an option after --.",
            metavar="[--] TERM",
        ),
    ] = None,
    *,
    index: Index = Path("umls_index"),
    top_k: Annotated[int, typer.Option(min=1, help="Concepts a term.")] = 5,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Below this confidence of the first concept: no match."),
    ] = None,
    expected_present: ExpectedPresent = 0.7,
    threshold: Annotated[
        float | None, typer.Option(min=-1.0, max=1.0, help="Smallest score of a candidate.")
    ] = None,
    channel: Channel = ChannelName.fused,
    language: Annotated[
        Values, typer.Option(help="Only strings of this language (FRE ...). May be repeated.")
    ] = None,
    source: Annotated[
        Values, typer.Option(help="Only strings of this source (SAB). May be repeated.")
    ] = None,
    without_source: Annotated[
        Values, typer.Option(help="No strings of this source: LAYFR for names alone. May be repeated.")
    ] = None,
    semantic_type: Annotated[
        Values, typer.Option(help="Only concepts of this semantic type (TUI). May be repeated.")
    ] = None,
    semantic_group: Annotated[
        Values, typer.Option(help="Only concepts of this semantic group (DISO ...). May be repeated.")
    ] = None,
    curated: CuratedFile = None,
    output_format: Annotated[
        MapFormat | None, typer.Option("--format", help="Default: table for terms, tsv for a file.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option("--input", help="Table (CSV or TSV) of terms instead of TERM..., - for standard input."),
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the terms in --input.")] = "Terme",
    group_column: Annotated[
        str | None,
        typer.Option(help="Column of --input with the semantic group that each term must be mapped to."),
    ] = None,
    context_column: Annotated[
        str | None,
        typer.Option(
            help='Column of --input with what stands beside each term, such as an explanation; "" for none.'
        ),
    ] = None,
    keep_columns: Annotated[
        bool, typer.Option("--keep-columns", help="Write the columns of --input too, beside the row number.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="File to write instead of standard output.")] = None,
    mapping_set_id: Annotated[
        str, typer.Option(help="SSSOM: URI of the mapping set; by default made from its content.")
    ] = "",
    license_: Annotated[
        str, typer.Option("--license", help="SSSOM: URI of the licence; by default none is stated.")
    ] = "",
    creator: Annotated[
        Values, typer.Option(help="SSSOM: ORCID or name of who made the mappings. May be repeated.")
    ] = None,
    review: Annotated[
        Path | None, typer.Option(help="Write a review sheet (.xlsx or .csv) too; see deft review apply.")
    ] = None,
) -> None:
    """Map terms to concepts, the best first, with the probability that each is right.

    Example: deft map "crise cardiaque" "vision double" --index umls_index

    Example: deft map --input lexicon.csv --column Terme --format sssom --output mapping.sssom.tsv
    """
    from deft.exchange.origins import map_rows, origins_of
    from deft.exchange.writers import write_mappings
    from deft.mapping.filters import ConceptFilter
    from deft.terminology.lexicon import read_queries
    from deft.text import clean

    if bool(terms) == (table is not None):
        raise InputError(
            "give terms or --input, one of the two.", remedy='For example: deft map "vision double"'
        )
    if keep_columns and table is None:
        raise InputError("terms have no columns to keep.", remedy="Give them as a table, with --input.")
    if (group_column or context_column) and table is None:
        raise InputError("terms have no columns.", remedy="Give them as a table, with --input.")
    rows = None if table is None else read_queries(table, column, group_column, context_column or None)
    chosen = output_format or (MapFormat.table if table is None else MapFormat.tsv)
    metadata = _metadata(chosen, mapping_set_id, license_, creator)
    mapper = open_mapper(index, curated, expected_present)
    options: dict[str, Any] = {
        "k": top_k,
        "threshold": threshold,
        "channel": channel.value,
        "min_confidence": min_confidence,
        "keep": ConceptFilter(
            languages=language or (),
            sources=source or (),
            semantic_types=semantic_type or (),
            semantic_groups=semantic_group or (),
            without_sources=without_source or (),
        ),
    }
    if rows is None:
        mappings, origins = mapper.map([clean(term) for term in terms or ()], **options), None
    else:
        mappings = map_rows(mapper, rows, progress=True, **options)
        origins = origins_of(rows, columns=keep_columns)
    write_mappings(mappings, chosen.value, output, metadata=metadata, origins=origins)
    if review is not None:
        from deft.exchange.review import write_review

        write_review(mappings, review, origins)


def _metadata(
    chosen: MapFormat, mapping_set_id: str, license_: str, creators: Values
) -> SssomMetadata | None:
    given = {"mapping_set_id": mapping_set_id, "license": license_, "creators": tuple(creators or ())}
    stated: dict[str, Any] = {field: value for field, value in given.items() if value}
    if not stated:
        return None
    if chosen is not MapFormat.sssom:
        raise InputError("only SSSOM says who made it, under what.", remedy="Add --format sssom.")
    from deft.exchange.sssom import SssomMetadata

    return SssomMetadata(**stated)


def explain_term(
    term: Annotated[
        str, typer.Argument(help="Term to explain, in quotes if it has spaces.", metavar="[--] TERM")
    ],
    *,
    index: Index = Path("umls_index"),
    top_k: Annotated[int, typer.Option(min=1, help="Concepts to show.")] = 5,
    context: Annotated[
        str, typer.Option(help="What stands beside the term, such as an explanation in plain words.")
    ] = "",
    curated: CuratedFile = None,
    expected_present: ExpectedPresent = 0.7,
) -> None:
    """Show why a concept is proposed for a term, and why those close to it came after it.

    The differences to the first concept are in log-odds: 1 is a factor of 2.7 in its favour.

    Example: deft explain "vision double" --index umls_index
    """
    from deft.exchange.writers import show
    from deft.mapping.explain import explain

    show(
        f"{line}\n"
        for line in explain(open_mapper(index, curated, expected_present), term, top_k, context).lines()
    )


def review_apply(
    sheet: Annotated[Path, typer.Argument(help="Review sheet with decisions, .xlsx or .csv.")],
    *,
    curated: Annotated[Path, typer.Option(help="Curated mappings (.tsv) to merge the decisions into.")],
) -> None:
    """Merge the decisions of a review sheet into a file of curated mappings.

    The exit code is 2 if rows had to be left out; all others are merged.

    Example: deft review apply review.xlsx --curated curated.tsv
    """
    from deft.exchange.review import apply_review

    result = apply_review(sheet, curated)
    for problem in result.problems:
        typer.echo(f"{sheet}:{problem.line}: {problem.message}", err=True)
    print_record(
        {"accepted": result.accepted, "rejected": result.rejected, "undecided": result.undecided}
        | {"left_out": len(result.problems)}
    )
    if result.problems:
        raise typer.Exit(InputError.exit_code)


def fit_model(
    *,
    params: Annotated[Path, typer.Option(help="Parameter file: gold to fit on.")] = (
        EXPERIMENTS / "mapping" / "params.yaml"
    ),
    held_out_synonyms: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Instead of gold, fit on a string each of N concepts of the index; 0: nothing is fitted.",
        ),
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option(help="Table of an evaluation: no such string is of its concepts. May be repeated."),
    ] = None,
    held_out_cui_column: Annotated[str, typer.Option(help="Column of the CUIs in --held-out.")] = "CUI",
    index: Index = Path("umls_index"),
    out: Annotated[
        Path | None, typer.Option(help="Model file to write; by default into the index, which then uses it.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write the comparison of rankings to this file, as JSON.")
    ] = None,
) -> None:
    """Fit how signals weigh and what a confidence is worth, on gold of your own or on strings of the index.

    An index without a model of its own uses the one that comes with deft.

    Example: deft fit --params experiments/mapping/params.yaml --index umls_index

    Example: deft fit --held-out-synonyms 2000 --index umls_index
    """
    from deft.config import read_block
    from deft.evaluation.rankings import compare_rankings
    from deft.files import write_json
    from deft.mapping.fit import FitParams, fit_index

    if held_out_synonyms == 0:  # so that a pipeline can leave it out by a parameter
        print_record({"queries": 0})
        return
    if held_out_synonyms is None:
        chosen = read_block(params, FitParams)
    else:
        chosen = FitParams(
            held_out_synonyms=held_out_synonyms,
            noise_weight=0.3,
            context_weight=0.3,
            held_out=tuple(held_out or ()),
            held_out_cui_column=held_out_cui_column,
        )
    result = fit_index(index, chosen, out, compare=compare_rankings, progress=True)
    if output is not None:
        write_json(output, result)
    print_record(result)
