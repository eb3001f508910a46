"""Mappings as SSSOM, checked by eye and by the library of the standard."""

import csv
import io
import re
from datetime import date

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import deft
from deft.corpora.cells import unguard
from deft.errors import InputError
from deft.exchange.origins import Origin
from deft.exchange.sssom import COLUMNS, PREFIXES, SssomMetadata, write_sssom
from deft.exchange.writers import write_mappings
from deft.mapping.results import Candidate, Mapping
from deft.text import clean


def candidate(rank=1, cui="C0000003", match="semantic", **changes):
    values = {
        "name": "infarctus",
        "matched": "crise cardiaque",
        "language": "FRE",
        "source": "MSHFRE",
        "term_type": "SY",
        "semantic_types": ("T047", "T033"),
        "definition": "Une nécrose.",
        "cosine": 0.75,
        "lexical": 0.25,
        "score": 2.0,
        "confidence": 0.875,
    }
    return Candidate(rank=rank, cui=cui, match=match, **(values | changes))


def parse(text):
    """Return metadata and rows of a file."""
    lines = text.split("\n")
    head = [line[1:] for line in lines if line.startswith("#")]
    table = "\n".join(lines[len(head) :])
    return yaml.safe_load("\n".join(head)), list(csv.DictReader(io.StringIO(table), delimiter="\t"))


def written(mappings, metadata=None):
    stream = io.StringIO()
    write_sssom(mappings, stream, metadata)
    return stream.getvalue()


BUILT_IN = {"owl", "rdf", "rdfs", "semapv", "skos", "sssom"}  # prefixes that the standard has
MAPPINGS = [
    Mapping("crise du cœur", (candidate(), candidate(2, "C0000004", cosine=-0.5, confidence=0.0004))),
    Mapping("Crise | cardiaque", (candidate(match="exact", lexical=1.0, confidence=1.0),)),
    Mapping("zzz", (), note="nothing above the threshold"),
    Mapping("fuite", (candidate(match="curated", confidence=1.0, semantic_types=(), source=""),)),
]


def test_rows_and_metadata():
    metadata, rows = parse(
        written(
            MAPPINGS,
            SssomMetadata(
                mapping_set_id="https://example.org/set",
                license="https://example.org/licence",
                creators=("https://orcid.org/0000-0002-1825-009x", "Ada: L. #1", "0000-0002-1825-0097"),
                mapping_date=date(2026, 2, 1),
                mapping_set_description="index: French # and English",
                object_source_version="2026AA",
            ),
        )
    )
    assert metadata == {
        "curie_map": PREFIXES,
        "mapping_set_id": "https://example.org/set",
        "mapping_set_description": "index: French # and English",
        "creator_id": ["orcid:0000-0002-1825-009X", "orcid:0000-0002-1825-0097"],
        "creator_label": ["Ada: L. #1"],
        "license": "https://example.org/licence",
        "subject_type": "rdfs literal",
        "object_source_version": "2026AA",
        "mapping_tool": "deft",
        "mapping_tool_version": deft.__version__,
        "mapping_date": date(2026, 2, 1),
    }
    assert [row["subject_label"] for row in rows] == [
        "crise du cœur",
        "crise du cœur",
        "Crise | cardiaque",
        "zzz",
        "fuite",
    ]
    assert rows[0] == {
        "subject_label": "crise du cœur",
        "predicate_id": "skos:closeMatch",
        "object_id": "UMLS:C0000003",
        "object_label": "infarctus",
        "object_category": "sty:T047|sty:T033",
        "mapping_justification": "semapv:SemanticSimilarityThresholdMatching",
        "object_source": "SAB:MSHFRE",
        "confidence": "0.875",
        "match_string": "",
        "similarity_score": "0.75",
        "similarity_measure": "cosine similarity of sentence embeddings",
        "comment": "matched string: crise cardiaque",
    }
    assert rows[1]["similarity_score"] == rows[1]["confidence"] == "0"  # within the bounds of the slots
    assert rows[2]["match_string"] == "crise cardiaque"
    assert rows[2]["similarity_score"] == "1"
    assert rows[2]["similarity_measure"] == "character n-gram similarity"
    assert rows[4]["similarity_score"] == rows[4]["object_source"] == ""


def test_no_match():
    row = parse(written(MAPPINGS))[1][3]
    assert {slot: value for slot, value in row.items() if value} == {
        "subject_label": "zzz",
        "predicate_id": "skos:exactMatch",
        "object_id": "sssom:NoTermFound",
        "mapping_justification": "semapv:CompositeMatching",
        "object_source": "SAB:MTH",
        "comment": "nothing above the threshold",
    }


@pytest.mark.parametrize(
    ("match", "justification", "predicate"),
    [
        ("exact", "LexicalMatching", "exactMatch"),
        ("normalised", "LexicalMatching", "exactMatch"),
        ("curated", "ManualMappingCuration", "exactMatch"),
        ("lexical", "LexicalSimilarityThresholdMatching", "closeMatch"),
        ("semantic", "SemanticSimilarityThresholdMatching", "closeMatch"),
    ],
)
def test_justification_and_predicate(match, justification, predicate):
    others = (candidate(2, "C0000004"), candidate(3, "C0000005", "lexical"))
    row = parse(written([Mapping("q", (candidate(match=match), *others))]))[1][0]
    assert row["mapping_justification"] == f"semapv:{justification}"
    assert row["predicate_id"] == f"skos:{predicate}"


@pytest.mark.parametrize(
    ("relation", "match", "predicate"),
    [
        ("exact", "exact", "closeMatch"),
        ("narrower", "exact", "broadMatch"),
        ("broader", "normalised", "narrowMatch"),
        ("broader", "semantic", "closeMatch"),  # the query is another phrase
        ("narrower", "curated", "exactMatch"),  # a person decided
    ],
)
def test_a_phrase_of_laypeople_says_what_it_is_to_the_concept(relation, match, predicate):
    said = candidate(match=match, source="LAYFR", term_type="LAY", relation=relation)
    (row,) = parse(written([Mapping("q", (said,))]))[1]
    assert row["predicate_id"] == f"skos:{predicate}"
    assert row["object_source"] == "SAB:LAYFR"
    assert f"phrase of laypeople, {relation}" in row["comment"]


@pytest.mark.parametrize(
    ("matches", "ambiguous", "exact"),
    [
        (["exact", "normalised"], True, []),
        (["exact"], True, []),  # the other concept of that name was cut off
        (["curated", "exact"], True, [0]),  # a person decided
        (["curated", "curated"], False, []),
        (["semantic", "exact"], False, [1]),
    ],
)
def test_two_concepts_are_never_both_exact(matches, ambiguous, exact):
    candidates = [candidate(rank, f"C{rank}", match) for rank, match in enumerate(matches, start=1)]
    rows = parse(written([Mapping("q", tuple(candidates), ambiguous)]))[1]
    assert [place for place, row in enumerate(rows) if row["predicate_id"] == "skos:exactMatch"] == exact
    said = ["another concept carries the same string" in row.get("comment", "") for row in rows]
    assert said == [ambiguous, *[False] * (len(matches) - 1)]


def test_columns_and_prefixes_that_nothing_fills_are_left_out():
    bare = candidate(match="exact", semantic_types=())
    metadata, rows = parse(written([Mapping("q", (bare,))]))
    assert list(metadata["curie_map"]) == ["SAB", "UMLS"]
    assert [column for column in COLUMNS if column not in rows[0]] == ["object_category", "comment"]
    assert [*rows[0]] == [column for column in COLUMNS if column in rows[0]]
    assert parse(written([]))[1] == []


def test_the_separator_of_lists_is_escaped():
    row = parse(written([Mapping("q", (candidate(match="exact", matched=r"a|b\c"),))]))[1][0]
    assert row["match_string"] == r"a\|b\\c"


def test_nothing_becomes_a_formula_and_the_comment_says_so():
    odd = candidate(match="exact", name="=1", matched="=1", cosine=-1.0)
    rows = parse(written([Mapping("- toux", (odd, candidate(2))), Mapping("＝x", ()), Mapping("a", (odd,))]))[
        1
    ]
    assert [row["subject_label"] for row in rows] == ["'- toux", "'- toux", "'＝x", "a"]
    assert rows[0]["object_label"] == rows[0]["match_string"] == "'=1"
    remark = "an apostrophe keeps a spreadsheet from computing a text of this row"
    assert [row["comment"] for row in rows] == [
        remark,
        f"matched string: crise cardiaque; {remark}",
        remark,
        remark,
    ]


def test_equal_mappings_give_equal_files_and_others_another_identifier():
    one, again, other = written(MAPPINGS), written(list(MAPPINGS)), written(MAPPINGS[:1])
    assert one == again
    assert parse(one)[0]["mapping_set_id"] != parse(other)[0]["mapping_set_id"]
    assert parse(one)[0]["mapping_set_id"].startswith("https://w3id.org/sssom/mappings/")
    assert "creator_id" not in parse(one)[0]
    assert "mapping_date" not in parse(one)[0]


def test_it_is_a_format_of_write_mappings(tmp_path, capsys):
    metadata = SssomMetadata(object_source_version="2026AA")
    write_mappings(MAPPINGS, "sssom", tmp_path / "m.sssom.tsv", metadata=metadata)
    assert (tmp_path / "m.sssom.tsv").read_text(encoding="utf-8") == written(MAPPINGS, metadata)
    write_mappings(MAPPINGS, "sssom")
    assert capsys.readouterr().out == written(MAPPINGS)


@pytest.mark.parametrize("field", ["mapping_set_id", "license"])
@pytest.mark.parametrize("value", ["CC BY", "urn:uuid:1", "https://", "https://a b"])
def test_what_must_be_a_uri(field, value):
    with pytest.raises(InputError, match=rf"field {field}: '{value}' is no http\(s\) URI"):
        SssomMetadata(**{field: value})


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_sssom(MAPPINGS, tmp_path / "file" / "m.sssom.tsv")


@given(st.text(), st.text(), st.text())
@example("#", "", "")
def test_any_text_can_be_read_back(query, name, note):
    metadata, rows = parse(
        written(
            [Mapping(query, (candidate(name=name),), note=note), Mapping("last", ())],
            SssomMetadata(mapping_set_description=note),
        )
    )
    assert len(rows) == 1 + bool(clean(query))  # what has no label cannot be mapped
    if not clean(query):
        return
    labels = (rows[0]["subject_label"], rows[0].get("object_label", ""))
    assert tuple(map(unguard, labels)) == (clean(query), clean(name))
    assert metadata.get("mapping_set_description", "") == clean(note)


ORIGINS = [
    Origin(row, {"code": code, "row": "own", "fréquence (n)": "- 5", "fréquence [n]": "a\tb"})
    for row, code in enumerate(["D1", "D2", "", "D4"], start=1)
]


def test_rows_keep_where_they_came_from():
    stream = io.StringIO()
    write_sssom([*MAPPINGS[:3], Mapping("", ())], stream, origins=ORIGINS)
    metadata, rows = parse(stream.getvalue())
    slots = ["ext_row", "ext_code", "ext_row.row", "ext_fréquence__n_", "ext_fréquence__n__"]
    assert [entry["slot_name"] for entry in metadata["extension_definitions"]] == slots
    assert metadata["extension_definitions"][0]["type_hint"] == "xsd:integer"
    assert [*rows[0]][-5:] == slots
    assert [(row["ext_row"], row["ext_code"]) for row in rows] == [
        *(("1", "D1"), ("1", "D1")),
        *(("2", "D2"), ("3", "")),
    ]
    assert [rows[0][slot] for slot in slots[2:]] == ["own", "'- 5", "a b"]


class TestLibrary:
    """What the library of the standard makes of a file."""

    @pytest.fixture
    def read(self, tmp_path, caplog):
        parsers = pytest.importorskip("sssom.parsers")

        def call(mappings, metadata=None):
            path = tmp_path / "m.sssom.tsv"
            write_sssom(mappings, path, metadata)
            return parsers.parse_sssom_table(path)  # its `strict` takes right metadata for wrong

        return call

    @pytest.fixture
    def command(self, tmp_path):
        """Run `sssom` on a file."""
        pytest.importorskip("sssom.cli")
        from click.testing import CliRunner
        from sssom.cli import main

        def call(verb, mappings, metadata=None, *options, origins=None):
            write_sssom(mappings, tmp_path / "m.sssom.tsv", metadata, origins)
            out = tmp_path / "out"
            done = CliRunner().invoke(main, [verb, str(tmp_path / "m.sssom.tsv"), "-o", str(out), *options])
            assert done.exit_code == 0, done.output
            return out.read_text(encoding="utf-8")

        return call

    METADATA = (
        None,
        SssomMetadata(
            mapping_set_id="https://example.org/set",
            license="https://creativecommons.org/licenses/by/4.0/",
            creators=("0000-0002-1825-0097", "Ada"),
            mapping_date=date(2026, 2, 1),
            mapping_set_description="deft: « essai » #1",
            object_source_version="2026AA",
        ),
    )

    @pytest.mark.parametrize("metadata", METADATA)
    def test_the_command_parses_it(self, command, metadata):
        text = command("parse", MAPPINGS, metadata).replace("# ", "#")
        back, rows = parse(text)
        mine, wanted = parse(written(MAPPINGS, metadata))
        assert {"UMLS", "SAB"} <= {*back.pop("curie_map")} < {*mine.pop("curie_map"), *BUILT_IN}
        assert {name: str(value) for name, value in back.items()} == {
            name: str(value) for name, value in mine.items()
        }
        assert len(rows) == len(wanted)

    def test_the_command_parses_rows_with_their_origin(self, command):
        text = command("parse", MAPPINGS, None, origins=ORIGINS)
        assert "slot_name: ext_code" in text
        assert "crise du cœur" in text

    def test_the_command_converts_it_to_rdf(self, command):
        graph = command("convert", MAPPINGS, None, "-O", "rdf")
        assert graph.count("a owl:Axiom") == len(parse(written(MAPPINGS))[1])
        assert "crise du cœur" in graph

    def test_every_slot_is_one_of_the_schema(self):
        """Which slots there are, which are lists, and what their values may be."""
        schema = pytest.importorskip("linkml_runtime.utils.schemaview")
        from importlib.resources import files

        view = schema.SchemaView(str(files("sssom_schema") / "schema" / "sssom_schema.yaml"))
        metadata, rows = parse(written(MAPPINGS, self.METADATA[1]))
        slots = {name: view.induced_slot(name, "mapping set") for name in metadata}
        for name, value in metadata.items():
            assert bool(slots[name].multivalued) == isinstance(value, list | dict), name
            assert "added_in" not in slots[name].annotations, name  # all are of version 1.0
        assert metadata["subject_type"] in view.get_enum("entity_type_enum").permissible_values
        assert {slot.name for slot in view.class_induced_slots("mapping set") if slot.required} <= {*metadata}
        for name in COLUMNS:
            slot = view.induced_slot(name, "mapping")
            assert bool(slot.multivalued) == (name == "match_string")
            values = {row[name] for row in rows if row[name]}
            assert "added_in" not in slot.annotations, name
            assert all(re.fullmatch(slot.pattern, value) for value in values if slot.pattern), name
            if slot.range == "double":
                assert all(slot.minimum_value <= float(value) <= slot.maximum_value for value in values), name
        required = {slot.name for slot in view.class_induced_slots("mapping") if slot.required}
        assert required <= {*COLUMNS}

    @pytest.mark.parametrize("metadata", METADATA)
    def test_it_is_valid(self, read, metadata, caplog):
        from sssom.validators import validate

        parsed = read(MAPPINGS, metadata)
        assert all(not report.results for report in validate(parsed).values())
        assert not caplog.records  # a row that it cannot use is left out with a warning
        rows = {(row["subject_label"], row["object_id"]): row for row in parse(written(MAPPINGS))[1]}
        assert len(parsed.df) == len(rows)
        for row in parsed.df.to_dict("records"):  # in an order of its own
            mine = rows[row["subject_label"], row["object_id"]]
            assert row["subject_type"] == "rdfs literal"
            assert row["mapping_tool_version"] == deft.__version__
            assert all(row[slot] == mine[slot] for slot in ("predicate_id", "mapping_justification"))
            assert not mine["confidence"] or float(row["confidence"]) == float(mine["confidence"])

    def test_it_counts_the_concepts_of_a_query(self, read):
        parsed = read(MAPPINGS)
        parsed.infer_cardinality()
        columns = ["subject_label", "object_id", "mapping_cardinality"]
        found = parsed.df[columns].itertuples(index=False, name=None)
        assert {(query, concept[-1]): cardinality for query, concept, cardinality in found} == {
            ("crise du cœur", "3"): "n:n",
            ("crise du cœur", "4"): "1:n",
            ("Crise | cardiaque", "3"): "n:1",
            ("zzz", "d"): "1:0",
            ("fuite", "3"): "n:1",
        }
