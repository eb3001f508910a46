"""Files as people have them: small inputs that failed once, and what is right."""

import json
from pathlib import Path

import pytest

CASES = Path(__file__).parents[2] / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the cases in ../shared/cases are not here")


@pytest.fixture
def mapped(run, built, tmp_path, capsys, caplog):
    """Map a file of the cases with a small index; give what was said and the mapping of each row."""

    def call(name, *options):
        out = tmp_path / "out.jsonl"
        done = run(
            "map", "--input", CASES / name, "--index", built, "--format", "jsonl", "--output", out, *options
        )
        rows = (
            [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
            if out.exists()
            else []
        )
        return done, rows

    return call


@pytest.mark.parametrize(
    ("name", "options", "queries"),
    [
        ("20-usagi-input/codes.csv", ("--column", "sourceName"), "Hypertension artérielle, essentielle"),
        ("22-excel-sep-line/codes.csv", ("--column", "sourceName"), "Hypertension artérielle"),
        ("26-csv-dup-header/codes.csv", ("--column", "libelle"), "diabète"),
        ("32-xlsx-input/terms.xlsx", (), None),
        ("35-omop-leading-quote/CONCEPT.csv", ("--column", "concept_name"), '"Main étrangère" (syndrome)'),
        ("35-omop-leading-quote/CONCEPT.tsv", ("--column", "concept_name"), '"Main étrangère" (syndrome)'),
    ],
)
def test_tables_are_read(mapped, name, options, queries):
    done, rows = mapped(name, *options)
    assert done.code == 0, done.err
    assert rows
    assert queries in {None, rows[0]["query"]}


def test_rows_of_usagi_come_back_with_their_columns(mapped):
    _, rows = mapped("20-usagi-input/codes.csv", "--column", "sourceName", "--keep-columns")
    assert [row["columns"]["sourceCode"] for row in rows] == ["D001", "D002", "D003"]
    assert rows[0]["columns"]["sourceFrequency"] == "5120"


def test_cells_without_a_term_have_no_match(mapped):
    done, rows = mapped("25-csv-na-values/codes.csv", "--column", "libelle")
    assert done.code == 0, done.err
    missing = [row for row in rows if row["query"] in {"", "nan", "None", "NULL", "null", "N/A", "NA"}]
    assert missing
    assert all(row["candidates"] == [] and row["no_match"] == 1.0 for row in missing)


def test_mojibake_is_warned_of(mapped, caplog):
    mapped("33-mojibake/terms.csv")
    assert any("read as Windows-1252" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("name", "said"), [("08-rrf-split-gz/umls", "Join them: cat "), ("09-rrf-zip", "Unpack it")]
)
def test_releases_that_must_be_joined_or_unpacked_say_so(run, bundle, tmp_path, name, said):
    done = run("index", "build", "--umls", CASES / name, "--encoder", bundle, "--out", tmp_path / "i")
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
