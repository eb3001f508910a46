"""Files as people have them: small inputs that failed once, and what is right."""

import json
from pathlib import Path

import pytest

from deft.index.build import build_index
from deft.mapping.mapper import TermMapper
from deft.terminology.lexicon import read_terms
from deft.terminology.rrf import AtomFilter

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


class TestWords:
    """What people type, asked of a part of the open terminologies: every eighth concept and those near."""

    UMLS = CASES.parent / "data" / "umls_open"
    NEAR = frozenset(
        [
            "C0014591",
            "C0019069",
            "C0032326",
            "C0042961",
            "C0035579",
            "C0022417",
            "C0026769",
            "C0017636",
            "C0020074",
            "C0343192",
            "C0043459",
            "C0022661",
            "C0020538",
            "C0149871",
            "C0004238",
            "C0027051",
            "C0024117",
            "C0034067",
            "C0019554",
            "C0042870",
            "C0015503",
            "C0015815",
            "C0024473",
            "C0007789",
            "C0006142",
            "C0011860",
            "C0011849",
            "C0014553",
            "C0010200",
            "C0034065",
            "C0031542",
            "C0019214",
            "C0038379",
            "C0003873",
            "C0206093",
            "C0003855",
        ]
    )

    @pytest.fixture(scope="class")
    @staticmethod
    def ask(tmp_path_factory):
        """Map the terms of a case; give each with its concepts, the first confidence, and how it was read."""
        umls = tmp_path_factory.mktemp("cases") / "META"
        umls.mkdir()
        for path in TestWords.UMLS.glob("META/*.RRF"):
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line[:8] in TestWords.NEAR or int(line[1:8]) % 8 == 0]
            (umls / path.name).write_text("".join(kept), encoding="utf-8")
        build_index(umls.parent, None, umls.parent / "index", AtomFilter(languages=("FRE", "ENG")))
        mapper = TermMapper.open(umls.parent / "index")

        def call(case):
            terms = read_terms(CASES / case / "terms.csv")
            return {found.query: found for found in mapper.map(terms, k=8)}

        return call

    def test_slips(self, ask):
        found = ask("61-typos")
        right = {
            "épistaxie": "C0014591",
            "hémophylie A": "C0019069",
            "Pneumotorax": "C0032326",
            "Vlvulus": "C0042961",
        }
        assert {term: found[term].best.cui for term in right} == right
        assert found["Rahitisme"].best.cui == "C0035579"
        assert found["Articlations"].best.cui == "C0022417"

    def test_short_ones(self, ask):
        found = ask("62-short-overconfident")
        right = {"SEP": "C0026769", "sep": "C0026769", "IRC": "C0022661"}
        assert {term: found[term].best.cui for term in right} == right
        loud = {term for term, mapping in found.items() if mapping.confidence >= 0.5}
        assert loud <= {*right, "GB"}  # GB is nearly GBM, a glioblastoma: not quiet yet

    def test_abbreviations_in_small_letters(self, ask):
        found = ask("63-lowercase-abbreviations")
        right = {"hta": "C0020538", "tvp": "C0149871", "fa": "C0004238", "idm": "C0027051"}
        assert {term: found[term].best.cui for term in right} == right
        assert found["bpco"].best.cui in {"C0024117", "C0034067"}

    def test_absent_concepts(self, ask):
        loud = {
            term for term, found in ask("64-absent-concept-overconfident").items() if found.confidence >= 0.5
        }
        assert loud <= {"facteur VII", "vitamine D"}  # of these it has the deficiency: not quiet yet

    def test_what_somebody_does_not_have(self, ask):
        assert max(found.confidence for found in ask("65-negation").values()) < 0.5

    def test_hyphens(self, ask):
        found = ask("66-hyphen")
        assert found["hépato-splénomégalie"].best.cui == "C0019214"
        assert found["hépato-splénomégalie"].best.match == "normalised"
        assert found["Tumeurs neuro-ectodermiques"].best.cui == "C0206093"
