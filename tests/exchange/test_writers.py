"""Mappings as table, TSV and JSON Lines."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.cells import unguard
from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.exchange.origins import Origin
from deft.exchange.writers import to_json, write_mappings
from deft.mapping.results import Candidate, Mapping
from deft.text import clean

FIRST = Candidate(
    rank=1,
    cui="C0000003",
    name="infarctus",
    matched="crise cardiaque",
    language="FRE",
    source="DEMO",
    term_type="SY",
    semantic_types=("T047", "T033"),
    definition="Une\tnécrose.\nAiguë.",
    match="semantic",
    cosine=0.75,
    lexical=0.5,
    score=2.0,
    confidence=0.875,
)
SECOND = replace(
    FIRST,
    rank=2,
    cui="C0000004",
    name="cœur",
    matched="cœur",
    semantic_types=(),
    definition="",
    match="lexical",
    score=-0.5,
    confidence=0.25,
)
MAPPINGS = [
    Mapping("crise\tdu cœur", (FIRST, SECOND), ambiguous=True, no_match=0.0625),
    Mapping("rien", (), note="below\nthe threshold", no_match=0.875),
]


def test_jsonl_is_of_the_promised_shape(tmp_path):
    write_mappings(MAPPINGS, "jsonl", tmp_path / "m.jsonl")
    first, second = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(first)
    assert record["candidates"].pop()["cui"] == "C0000004"
    assert record == {
        "query": "crise\tdu cœur",
        "ambiguous": True,
        "no_match": 0.0625,
        "note": "",
        "candidates": [
            {
                "rank": 1,
                "cui": "C0000003",
                "name": "infarctus",
                "matched": "crise cardiaque",
                "language": "FRE",
                "source": "DEMO",
                "term_type": "SY",
                "semantic_types": ["T047", "T033"],
                "match": "semantic",
                "cosine": 0.75,
                "lexical": 0.5,
                "score": 2.0,
                "confidence": 0.875,
                "relation": "",
            },
        ],
    }
    assert json.loads(second) == {
        "query": "rien",
        "ambiguous": False,
        "no_match": 0.875,
        "note": "below\nthe threshold",
        "candidates": [],
    }
    assert "cœur" in first  # letters, not escapes


@given(st.text())
def test_json_is_one_line_whatever_the_query(query):
    line = to_json(Mapping(query, ()))
    assert len(line.splitlines()) == 1
    assert json.loads(line)["query"] == query


def test_tsv(tmp_path):
    write_mappings(MAPPINGS, "tsv", tmp_path / "m.tsv")
    with (tmp_path / "m.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["query"] for row in rows] == ["crise du cœur", "crise du cœur", "rien"]
    assert rows[0] == {
        "query": "crise du cœur",
        "rank": "1",
        "cui": "C0000003",
        "name": "infarctus",
        "matched": "crise cardiaque",
        "language": "FRE",
        "source": "DEMO",
        "term_type": "SY",
        "semantic_types": "T047;T033",
        "definition": "Une nécrose. Aiguë.",
        "match": "semantic",
        "cosine": "0.750000",
        "lexical": "0.500000",
        "score": "2.000000",
        "confidence": "0.875000",
        "relation": "",
        "ambiguous": "yes",
        "no_match": "0.062500",
        "note": "",
    }
    assert rows[2]["rank"] == rows[2]["cui"] == rows[2]["ambiguous"] == ""
    assert [row["no_match"] for row in rows] == ["0.062500", "0.062500", "0.875000"]  # without candidates too
    assert rows[2]["note"] == "below the threshold"


def test_nothing_of_a_tsv_becomes_a_formula(tmp_path):
    odd = replace(FIRST, name="=1+1", matched="- toux", definition="＠x", cosine=-0.25)
    write_mappings([Mapping("+1", (odd,), note="=2"), Mapping("- toux", ())], "tsv", tmp_path / "m.tsv")
    rows = list(csv.DictReader((tmp_path / "m.tsv").open(encoding="utf-8"), delimiter="\t"))
    texts = ("query", "name", "matched", "definition", "note")
    assert [rows[0][name] for name in texts] == ["'+1", "'=1+1", "'- toux", "'＠x", "'=2"]
    assert (rows[0]["cosine"], rows[1]["query"]) == ("-0.250000", "'- toux")
    assert [unguard(row["query"]) for row in rows] == ["+1", "- toux"]


any_text = st.text(max_size=9) | st.from_regex(r"'*[=+\-@＝\t\"#] ?\w*", fullmatch=True)


@given(st.lists(st.tuples(any_text, any_text, any_text), max_size=4))
def test_a_tsv_is_read_as_it_was_written(made):
    mappings = [
        Mapping(query, (replace(FIRST, name=name),) if name else (), note=note) for query, name, note in made
    ]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "m.tsv"
        write_mappings(mappings, "tsv", path)
        rows = [row for _, row in read_rows(path, ("query", "name", "note"))]
    assert [tuple(row[name] for name in ("query", "name", "note")) for row in rows] == [
        tuple(map(clean, texts)) for texts in made
    ]


@pytest.mark.parametrize("format_", ["tsv", "jsonl", "table"])
def test_texts_that_utf_8_has_no_bytes_for(format_, tmp_path):
    odd = replace(FIRST, name="a\udce9", matched="b\x00")
    write_mappings([Mapping("rhu\udce9me", (odd,))], format_, tmp_path / "m")
    (text,) = ((tmp_path / "m").read_text(encoding="utf-8"),)
    assert "rhume" in text or json.loads(text)["query"] == "rhu\udce9me"


ORIGINS = [
    Origin(1, {"code": "D1", "Name": "le sien", "note": "=1"}),
    Origin(2, {"code": "D2", "Name": "", "note": ""}),
]


def test_a_tsv_keeps_where_its_rows_came_from(tmp_path):
    write_mappings(MAPPINGS, "tsv", tmp_path / "m.tsv", origins=ORIGINS)
    rows = list(csv.DictReader((tmp_path / "m.tsv").open(encoding="utf-8"), delimiter="\t"))
    assert [*rows[0]][-5:] == ["note", "row", "code", "row.Name", "row.note"]
    assert [row["name"] for row in rows] == ["infarctus", "cœur", ""]
    assert [[row[name] for name in [*rows[0]][-4:]] for row in rows] == [
        *([["1", "D1", "le sien", "'=1"]] * 2),
        ["2", "D2", "", ""],
    ]


def test_jsonl_keeps_where_its_rows_came_from(tmp_path):
    write_mappings(MAPPINGS, "jsonl", tmp_path / "m.jsonl", origins=[ORIGINS[0], Origin(7)])
    first, second = map(json.loads, (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines())
    assert (first["row"], first["columns"]) == (1, {"code": "D1", "Name": "le sien", "note": "=1"})
    assert (second["row"], second["columns"]) == (7, {})


def test_a_table_shows_where_its_rows_came_from(capsys):
    write_mappings(MAPPINGS, "table", origins=ORIGINS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["crise du cœur", "  row 1; code: D1; Name: le sien; note: =1"]
    assert "  row 2; code: D2" in lines


@pytest.mark.parametrize("format_", ["tsv", "jsonl", "table", "sssom"])
def test_each_mapping_has_one_origin(format_):
    with pytest.raises(ValueError, match="zip"):
        write_mappings(MAPPINGS, format_, origins=ORIGINS[:1])


def test_table_on_standard_output(capsys):
    long = replace(FIRST, name="a" * 90, matched="b", confidence=1)
    write_mappings([*MAPPINGS, Mapping("long", (long,))], "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["crise du cœur", "  another concept carries the same string"]
    assert lines[2].split() == ["1", "C0000003", "0.875", "semantic", "infarctus", "←", "crise", "cardiaque"]
    assert lines[3] == "   2  C0000004  0.250  lexical     cœur"
    assert lines[4:7] == ["rien", "  below the threshold", "  no match"]
    assert "a" * 43 + "…  ← b" in lines[8]


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_mappings(MAPPINGS, "tsv", tmp_path / "file" / "m.tsv")


def test_a_failure_halfway_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.tsv"
    path.write_text("old")

    def failing():
        yield MAPPINGS[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_mappings(failing(), "tsv", path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.tsv"]
