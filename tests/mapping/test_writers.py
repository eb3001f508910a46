"""Mappings as table, TSV and JSON Lines."""

import csv
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.mapping.mapper import Candidate, Mapping
from deft.mapping.writers import to_json, write_mappings

FIRST = Candidate(
    1,
    "C0000003",
    "infarctus",
    "crise cardiaque",
    "FRE",
    "DEMO",
    ("T047", "T033"),
    "Une\tnécrose.\nAiguë.",
    0.75,
    0.75,
)
SECOND = Candidate(2, "C0000004", "cœur", "cœur", "FRE", "DEMO", (), "", 0.5, 0.5)
MAPPINGS = [Mapping("crise\tdu cœur", (FIRST, SECOND)), Mapping("rien", ())]


def test_jsonl_is_of_the_promised_shape(tmp_path):
    write_mappings(MAPPINGS, "jsonl", tmp_path / "m.jsonl")
    first, second = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(first) == {
        "query": "crise\tdu cœur",
        "candidates": [
            {
                "rank": 1,
                "cui": "C0000003",
                "name": "infarctus",
                "matched": "crise cardiaque",
                "language": "FRE",
                "source": "DEMO",
                "semantic_types": ["T047", "T033"],
                "cosine": 0.75,
                "score": 0.75,
            },
            {
                "rank": 2,
                "cui": "C0000004",
                "name": "cœur",
                "matched": "cœur",
                "language": "FRE",
                "source": "DEMO",
                "semantic_types": [],
                "cosine": 0.5,
                "score": 0.5,
            },
        ],
    }
    assert json.loads(second) == {"query": "rien", "candidates": []}
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
    assert rows[0] | {"query": ""} == {
        "query": "",
        "rank": "1",
        "cui": "C0000003",
        "name": "infarctus",
        "matched": "crise cardiaque",
        "language": "FRE",
        "source": "DEMO",
        "semantic_types": "T047;T033",
        "definition": "Une nécrose. Aiguë.",
        "cosine": "0.750000",
        "score": "0.750000",
    }
    assert rows[2]["rank"] == rows[2]["cui"] == ""


def test_table_on_standard_output(capsys):
    write_mappings(
        [*MAPPINGS, Mapping("long", (Candidate(1, "C1", "a" * 90, "b", "", "", (), "", 1, -0.5),))], "table"
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "crise du cœur"
    assert lines[1].split() == ["1", "C0000003", "0.750", "infarctus", "←", "crise", "cardiaque"]
    assert lines[2] == "   2  C0000004   0.500  cœur"
    assert lines[3:5] == ["rien", "  no match"]
    assert "a" * 43 + "…  ← b" in lines[6]
    assert "-0.500" in lines[6]


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
