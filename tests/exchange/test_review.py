"""Review sheets: what goes out, what comes back, and the curated file."""

import csv
import io
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.exchange.curated import read_curated, write_curated
from deft.exchange.origins import Origin
from deft.exchange.review import SHEET_COLUMNS, ReviewResult, apply_review, write_review
from deft.files import only_writer
from deft.mapping.decisions import Decision, key_of
from deft.mapping.results import Candidate, Mapping
from deft.text import clean

HEART = Candidate(
    rank=1,
    cui="C0000003",
    name="infarctus du myocarde",
    matched="crise cardiaque",
    language="FRE",
    source="DEMO",
    term_type="SY",
    semantic_types=("T047", "T033"),
    definition="Une\nnécrose.",
    match="semantic",
    cosine=0.75,
    lexical=0.5,
    score=2.0,
    confidence=0.8754,
)
OTHER = replace(HEART, rank=2, cui="C0000004", name="cœur", definition="", match="lexical")
MAPPINGS = [
    Mapping("Crise du cœur", (HEART, OTHER)),
    Mapping("crise, du cœur", (HEART,)),  # the same query
    Mapping("zzz", ()),
    Mapping("-rhume", (OTHER,)),
]


class Sheet:
    """A sheet that a person fills in."""

    def __init__(self, path, mappings=MAPPINGS):
        self.path = path
        write_review(mappings, path)
        self.rows = self._load()

    def _load(self):
        if self.path.suffix == ".csv":
            text = self.path.read_text(encoding="utf-8-sig")
            return list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.load_workbook(self.path)
        return [["" if cell is None else cell for cell in row] for row in book.active.values]

    def column(self, name):
        place = self.rows[0].index(name)
        return [row[place] for row in self.rows[1:]]

    def fill(self, line, **cells):
        """Fill in cells of a line of the file."""
        for name, value in cells.items():
            self.rows[line - 1][self.rows[0].index(name)] = value
        return self

    def save(self, encoding="utf-8-sig", delimiter=";"):
        if self.path.suffix == ".csv":
            stream = io.StringIO(newline="")
            csv.writer(stream, delimiter=delimiter).writerows(self.rows)
            self.path.write_bytes(stream.getvalue().encode(encoding))
            return self.path
        import openpyxl

        book = openpyxl.Workbook()
        for row in self.rows:
            book.active.append(row)
            for cell in book.active[book.active.max_row]:
                if isinstance(cell.value, str):
                    cell.data_type = "s"
        book.save(self.path)
        return self.path


@pytest.fixture(params=["csv", "xlsx"])
def sheet(request, tmp_path):
    return Sheet(tmp_path / f"review.{request.param}")


@pytest.fixture
def table(tmp_path):
    """A sheet as CSV."""
    return Sheet(tmp_path / "review.csv")


@pytest.fixture
def curated(tmp_path):
    return tmp_path / "curated.tsv"


def lines(path):
    return path.read_text(encoding="utf-8").splitlines()


class TestWrite:
    def test_a_row_a_proposal(self, sheet):
        assert sheet.rows[0] == [*SHEET_COLUMNS]
        assert [cell.lstrip("'") for cell in sheet.column("query")] == [
            "Crise du cœur",
            "Crise du cœur",
            "zzz",
            "-rhume",
        ]
        assert sheet.column("cui") == ["C0000003", "C0000004", "", "C0000004"]
        first = dict(zip(sheet.rows[0], sheet.rows[1], strict=True))
        assert first.pop("id")[0] == "p"
        assert {name: str(cell) for name, cell in first.items()} == {
            "query": "Crise du cœur",
            "rank": "1",
            "cui": "C0000003",
            "name": "infarctus du myocarde",
            "matched": "crise cardiaque",
            "how": "semantic",
            "confidence": "0.875",
            "semantic_types": "T047;T033",
            "definition": "Une nécrose.",
            "decision": "",
            "comment": "",
        }

    def test_an_id_is_of_the_query_and_the_concept(self, table, tmp_path):
        again = Sheet(tmp_path / "b.csv", [Mapping("CRISE DU COEUR", (replace(HEART, rank=7, name="x"),))])
        assert again.column("id") == table.column("id")[:1]
        assert len(set(table.column("id"))) == 4

    @pytest.mark.parametrize("start", "=+-@＝＋－＠")
    def test_nothing_becomes_a_formula(self, start, tmp_path):
        openpyxl = pytest.importorskip("openpyxl")
        text = f"{start}1+1"
        mappings = [Mapping(text, (replace(HEART, name=text, definition=text),))]
        row = Sheet(tmp_path / "a.csv", mappings).rows[1]
        assert [cell for cell in row if cell.startswith(start)] == []
        assert row.count(f"'{text}") == 3
        write_review(mappings, tmp_path / "a.xlsx")
        cells = openpyxl.load_workbook(tmp_path / "a.xlsx").active[2]
        texts = [cell for cell in cells if cell.value == text]
        assert len(texts) == 3
        assert all(cell.data_type == "s" and cell.number_format == "@" for cell in texts)

    def test_a_workbook_offers_the_decisions(self, tmp_path):
        openpyxl = pytest.importorskip("openpyxl")
        write_review(MAPPINGS, tmp_path / "a.xlsx")
        sheet = openpyxl.load_workbook(tmp_path / "a.xlsx").active
        (choice,) = sheet.data_validations.dataValidation
        assert (choice.formula1, str(choice.sqref)) == ('"accept,reject"', "K2:K5")
        assert (sheet.freeze_panes, sheet["K1"].value) == ("A2", "decision")

    def test_a_csv_opens_in_a_french_excel(self, table):
        assert table.path.read_bytes().startswith(b"\xef\xbb\xbfid;query;rank;")

    def test_no_mappings(self, tmp_path, curated):
        for name in ("a.csv", "a.xlsx"):
            write_review([], tmp_path / name)
            assert apply_review(tmp_path / name, curated) == ReviewResult(0, 0, 0, ())

    def test_another_suffix(self, tmp_path, curated):
        for name in ("a.ods", "a"):
            with pytest.raises(InputError, match=r"ends in \.xlsx or \.csv"):
                write_review(MAPPINGS, tmp_path / name)
            with pytest.raises(InputError, match=r"ends in \.xlsx or \.csv"):
                apply_review(tmp_path / name, curated)
        assert [*tmp_path.iterdir()] == []

    def test_without_openpyxl(self, tmp_path, curated, monkeypatch):
        monkeypatch.setitem(sys.modules, "openpyxl", None)
        for call in (
            lambda: write_review(MAPPINGS, tmp_path / "a.xlsx"),
            lambda: apply_review(tmp_path / "a.xlsx", curated),
        ):
            with pytest.raises(InputError, match=r"pip install 'deft\[xlsx\]'"):
                call()


class TestOrigins:
    ORIGINS = tuple(
        Origin(row, {"code": f"D{row}", "Comment": "=1\n", "row": "x"}) for row in range(1, 1 + len(MAPPINGS))
    )

    def test_rows_keep_where_they_came_from(self, sheet):
        write_review(MAPPINGS, sheet.path, self.ORIGINS)
        sheet.rows = sheet._load()
        assert sheet.rows[0] == [*SHEET_COLUMNS, "row", "code", "row.Comment", "row.row"]
        assert sheet.column("row") == ["1;2", "1", "3", "4"]  # the second query is the first one
        assert sheet.column("code") == ["D1", "D1", "D3", "D4"]
        assert {cell.lstrip("'") for cell in sheet.column("row.Comment")} == {"=1"}

    def test_decisions_come_back_all_the_same(self, sheet, curated):
        write_review(MAPPINGS, sheet.path, self.ORIGINS)
        sheet.rows = sheet._load()
        sheet.fill(2, decision="accept", comment="vu").save()
        assert apply_review(sheet.path, curated) == ReviewResult(1, 0, 3, ())
        assert lines(curated)[1] == "Crise du cœur\tC0000003\taccept\tinfarctus du myocarde\tvu"


class TestApply:
    def test_decisions_become_a_curated_file(self, sheet, curated):
        sheet.fill(2, decision="accept", comment="vu\nen réunion").fill(3, decision="reject")
        sheet.fill(5, decision="oui")
        assert apply_review(sheet.save(), curated) == ReviewResult(2, 1, 1, ())
        assert lines(curated) == [
            "query\tcui\tdecision\tname\tcomment",
            "Crise du cœur\tC0000003\taccept\tinfarctus du myocarde\tvu en réunion",
            "Crise du cœur\tC0000004\treject\tcœur\t",
            "'-rhume\tC0000004\taccept\tcœur\t",
        ]
        read = read_curated(curated)
        assert read.accepted("crise du COEUR, SAI") == ("C0000003",)
        assert read.rejected("crise du cœur") == {"C0000004"}
        assert read.accepted("rhume") == ("C0000004",)
        assert "-rhume" in {decision.query for decision in read}
        assert (read.accepted("zzz"), read.rejected("zzz")) == ((), frozenset())

    def test_later_decisions_replace_earlier_ones(self, table, curated):
        curated.write_text(
            "query\tcui\tdecision\tname\tcomment\n"
            "crise du coeur\tC0000003\treject\told\tno longer true\n"
            "crise du coeur\tC0000004\treject\told\tstill true\n"
            "autre\tC0000009\taccept\tkept\t\n"
        )
        apply_review(table.fill(2, decision="accept").fill(3, decision="reject").save(), curated)
        assert lines(curated)[1:] == [
            "autre\tC0000009\taccept\tkept\t",
            "Crise du cœur\tC0000003\taccept\tinfarctus du myocarde\t",
            "Crise du cœur\tC0000004\treject\tcœur\tstill true",
        ]
        before = curated.read_bytes()
        apply_review(table.path, curated)
        assert curated.read_bytes() == before

    def test_several_concepts_of_a_query(self, table, curated):
        apply_review(table.fill(2, decision="accept").fill(3, decision="accept").save(), curated)
        assert read_curated(curated).accepted("crise du cœur") == ("C0000003", "C0000004")

    @pytest.mark.parametrize(
        ("word", "accepted"),
        [
            *((word, 1) for word in ("accept", " Accepter ", "ACCEPTÉ", "oui", "Yes", "ok")),
            *((word, 0) for word in ("reject", "Rejeter", "rejeté", "non", "NO")),
        ],
    )
    def test_words(self, word, accepted, table, curated):
        result = apply_review(table.fill(2, decision=word).save(), curated)
        assert (result.accepted, result.rejected, result.problems) == (accepted, 1 - accepted, ())

    @pytest.mark.parametrize("word", ["x", "?", "peut-être", "1"])
    def test_an_unknown_word(self, word, sheet, curated):
        sheet.fill(2, decision=word).fill(3, decision="accept")
        result = apply_review(sheet.save(), curated)
        assert (result.accepted, result.undecided, len(result.problems)) == (1, 2, 1)
        assert result.problems[0].line == 2
        assert f"'{word}' is no decision: write accept or reject" in result.problems[0].message

    @pytest.mark.parametrize("change", [{"id": "p0"}, {"query": "autre"}, {"cui": "C0000009"}, {"id": ""}])
    def test_an_edited_row(self, change, sheet, curated):
        sheet.fill(2, decision="accept", **change).fill(3, decision="reject")
        result = apply_review(sheet.save(), curated)
        assert (result.accepted, result.rejected) == (0, 1)
        assert [problem.line for problem in result.problems] == [2]
        assert "does not belong to" in result.problems[0].message
        assert len(lines(curated)) == 2

    def test_a_row_without_proposal(self, table, curated):
        (problem,) = apply_review(table.fill(4, decision="accept").save(), curated).problems
        assert (problem.line, "no concept to accept or reject" in problem.message) == (4, True)

    def test_contradictory_rows(self, sheet, curated):
        curated.write_text("query\tcui\tdecision\ncrise du coeur\tC0000003\treject\n")
        sheet.fill(2, decision="accept").fill(3, decision="accept")
        sheet.rows.append([*sheet.rows[1]])
        sheet.fill(6, decision="reject", query="crise du coeur")
        result = apply_review(sheet.save(), curated)
        assert (result.accepted, result.rejected) == (1, 0)
        assert [problem.line for problem in result.problems] == [2, 6]
        assert all("line 2 accepts, line 6 rejects" in problem.message for problem in result.problems)
        assert read_curated(curated).rejected("crise du coeur") == {"C0000003"}  # as before

    def test_the_same_decision_twice(self, table, curated):
        table.fill(2, decision="accept", comment="why")
        table.rows.append([*table.rows[1]])
        assert apply_review(table.fill(6, comment="").save(), curated) == ReviewResult(1, 0, 3, ())
        assert lines(curated)[1].endswith("\twhy")

    def test_problems_name_lines_of_the_file(self, table, curated):
        table.fill(2, decision="accept", comment="over\ntwo lines").fill(3, decision="?")
        table.rows.insert(2, [""] * len(table.rows[0]))
        (problem,) = apply_review(table.save(), curated).problems
        assert problem.line == 5

    @pytest.mark.parametrize(
        ("encoding", "delimiter"),
        [("utf-8", ";"), ("utf-8-sig", ","), ("cp1252", ";"), ("utf-16", "\t"), ("cp1252", "\t")],
    )
    def test_encodings_and_delimiters(self, encoding, delimiter, table, curated):
        table.fill(2, decision="accepté", comment="« déjà » ; vu, à l’œil\t!")
        assert apply_review(table.save(encoding, delimiter), curated) == ReviewResult(1, 0, 3, ())
        assert lines(curated)[1] == (
            "Crise du cœur\tC0000003\taccept\tinfarctus du myocarde\t« déjà » ; vu, à l’œil !"
        )

    def test_columns_may_move_and_go(self, table, curated):
        table.fill(2, decision="accept")
        kept = [table.rows[0].index(name) for name in ("decision", "cui", "id", "query")]
        table.rows = [[row[place] for place in kept] for row in table.rows]
        table.rows[0] = ["Decision ", "CUI", "Id", "query"]
        table.rows[2] = table.rows[2][1:0]  # a spreadsheet cuts rows of empty cells short
        assert apply_review(table.save(), curated) == ReviewResult(1, 0, 2, ())
        assert lines(curated)[1] == "Crise du cœur\tC0000003\taccept\t\t"

    @pytest.mark.parametrize("column", ["id", "query", "cui", "decision"])
    def test_a_missing_column(self, column, sheet, curated):
        sheet.fill(1, **{column: "other"})
        with pytest.raises(InputError, match=f":1: needs one column '{column}'") as caught:
            apply_review(sheet.save(), curated)
        assert "'other'" in str(caught.value)
        assert not curated.exists()

    def test_files_that_cannot_be_read(self, tmp_path, curated):
        cases = {
            "absent.csv": (None, "No such file"),
            "absent.xlsx": (None, "No such file"),
            "empty.csv": (b"\n;;\n", "is empty"),
            "quote.csv": (b'id;query;cui;decision\n"p1;a;C1;accept\n', ":2: is not a readable table"),
            "bytes.csv": (b"id;query\n\x81\x8d", ":1: needs one column 'cui' and one 'decision'"),
            "text.xlsx": (b"id;query", "no readable workbook"),
        }
        for name, (data, problem) in cases.items():
            if data is not None:
                (tmp_path / name).write_bytes(data)
            with pytest.raises(InputError, match=problem):
                apply_review(tmp_path / name, curated)
        assert not curated.exists()

    def test_a_broken_workbook(self, tmp_path, curated):
        pytest.importorskip("openpyxl")
        path = tmp_path / "a.xlsx"
        write_review(MAPPINGS, path)
        data = path.read_bytes()
        for broken in (data[: len(data) // 2], data.replace(b"xl/workbook.xml", b"xl/workbook.abc")):
            path.write_bytes(broken)
            with pytest.raises(InputError, match="no readable workbook"):
                apply_review(path, curated)

    def test_a_workbook_with_a_row_far_below(self, tmp_path, curated):
        openpyxl = pytest.importorskip("openpyxl")
        path = tmp_path / "a.xlsx"
        Sheet(path).fill(2, decision="accept").save()
        book = openpyxl.load_workbook(path)
        book.active.cell(1_000_000, 1, "end")
        book.save(path)
        data = path.read_bytes()
        with ZipFile(path) as old:
            parts = {name: old.read(name) for name in old.namelist()}
        name = "xl/worksheets/sheet1.xml"
        parts[name] = parts[name].replace(b"1000000", b"999999999")
        with ZipFile(path, "w") as new:
            for part, content in parts.items():
                new.writestr(part, content)
        assert path.read_bytes() != data
        tracemalloc.start()
        assert apply_review(path, curated) == ReviewResult(1, 0, 3, ())
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()

    @pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 99), (4, 189)])  # encrypted, packed, version
    def test_a_workbook_that_python_cannot_unpack(self, tmp_path, curated, place, value):
        pytest.importorskip("openpyxl")
        path = tmp_path / "a.xlsx"
        write_review(MAPPINGS, path)
        data = bytearray(path.read_bytes())
        for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
            at = data.find(signature)
            while at >= 0:
                data[at + place + shift] = value
                at = data.find(signature, at + 1)
        path.write_bytes(data)
        with pytest.raises(InputError, match="no readable workbook"):
            apply_review(path, curated)

    def test_a_curated_file_that_cannot_be_used_stays(self, table, curated, tmp_path):
        curated.write_text("query\tcui\tdecision\nrhume\tC0000001\tmaybe\n")
        with pytest.raises(InputError, match="'maybe' is no decision"):
            apply_review(table.fill(2, decision="accept").save(), curated)
        assert "maybe" in curated.read_text()
        with pytest.raises(InputError, match=r"ends in \.tsv"):
            apply_review(table.path, tmp_path / "curated.csv")


MERGE = """
import sys
from pathlib import Path
from deft.exchange.review import apply_review

sheets = sorted(Path(sys.argv[1]).glob("*.csv"))
print("ready", flush=True)
sys.stdin.readline()
for sheet in sheets:
    apply_review(sheet, sys.argv[2])
"""


class TestTwoWriters:
    def test_no_decision_is_lost(self, tmp_path, curated):
        asked = {}
        for person in ("ada", "bob"):
            (tmp_path / person).mkdir()
            asked[person] = [f"terme {person} {place}" for place in range(20)]
            for place, query in enumerate(asked[person]):
                sheet = Sheet(tmp_path / person / f"{place:02}.csv", [Mapping(query, (HEART,))])
                sheet.fill(2, decision="accept").save()
        # both stand ready before either begins
        started = [
            subprocess.Popen(
                [sys.executable, "-c", MERGE, tmp_path / person, curated],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for person in asked
        ]
        assert [process.stdout.readline() for process in started] == ["ready\n"] * 2
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            process.communicate(timeout=120)
        assert [process.returncode for process in started] == [0, 0]
        queries = sorted(decision.query for decision in read_curated(curated))
        assert queries == sorted(asked["ada"] + asked["bob"])

    def test_a_writer_that_is_not_done(self, table, curated, tmp_path, monkeypatch):
        monkeypatch.setattr("deft.exchange.review._PATIENCE", 0.1)
        (tmp_path / "link.tsv").symlink_to(curated)
        sheet = table.fill(2, decision="accept").save()
        with only_writer(curated.with_name(f".{curated.name}.lock"), curated):
            for path in (curated, tmp_path / "link.tsv"):
                with pytest.raises(InputError, match=r"\.tsv: is being written by another process"):
                    apply_review(sheet, path)
        assert not curated.exists()


class TestCurated:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("query\tcui\n", "no column 'decision'"),
            ("query\tcui\tdecision\n\tC1\taccept\n", ":2: field query: is empty"),
            ("query\tcui\tdecision\na\t\taccept\n", ":2: field cui: is empty"),
            ("query\tcui\tdecision\na\tC1\t\n", ":2: field decision: is empty. Write accept or reject"),
            ("query\tcui\tdecision\na\tC1\tx\n", ":2: field decision: 'x' is no decision"),
            ("query\tcui\tdecision\na\tC1\taccept\nb\tC1\taccept\nA\tC1\treject\n", ":4: contradicts line 2"),
            ("query\tcui\tdecision\twho\na\tC1\taccept\tme\n", "column 'who' has no place"),
            ("query\tcui\tdecision\na\tC1\n", ":2: expected 3 fields"),
        ],
    )
    def test_a_malformed_file(self, text, problem, curated):
        curated.write_text(text)
        with pytest.raises(InputError, match=problem):
            read_curated(curated)

    def test_a_missing_file(self, curated):
        with pytest.raises(InputError, match="No such file"):
            read_curated(curated)

    def test_concepts_that_are_not_in_the_index(self, curated):
        curated.write_text(
            "query\tcui\tdecision\nb\tC1\taccept\na\tC2\taccept\nb\tC3\treject\na\tC1\taccept\n"
        )
        first, second = read_curated(curated).missing({"C1"})
        assert first == f"{curated}:3: C2 is not in the index; the line has no effect."
        assert second.startswith(f"{curated}:4: C3 is not")

    def test_decisions_that_meet_in_one_concept(self, curated):
        rows = [
            ("a", "old", "reject"),  # overruled by line 3
            ("a", "new", "accept"),
            ("B", "old", "accept"),  # overruled by line 5
            ("b", "new", "reject"),
            ("c", "older", "reject"),  # overruled by line 7
            ("c", "old", "accept"),
            ("d", "new", "accept"),
            ("d", "old", "accept"),
            ("e", "parted", "reject"),  # overruled by line 11 as far as that goes
            ("e", "one", "accept"),
        ]
        curated.write_text("".join("\t".join(row) + "\n" for row in [("query", "cui", "decision"), *rows]))
        became = {"old": ("new",), "older": ("new",), "parted": ("one", "two")}
        read = read_curated(curated)

        def settled(query):
            found = read.settled(query, lambda cui: became.get(cui, (cui,)))
            return {cui: (decision.cui, decision.accepted) for cui, decision in found.items()}

        assert settled("A.") == {"new": ("new", True)}
        assert settled("b") == {"new": ("new", False)}
        assert settled("c") == {"new": ("old", True)}
        assert settled("d") == {"new": ("new", True)}
        assert settled("e") == {"one": ("one", True), "two": ("parted", False)}
        assert settled("f") == {}
        said = [
            (2, "old is rejected", "new is accepted (line 3)", "new", "new is accepted"),
            (4, "old is accepted", "new is rejected (line 5)", "new", "new is rejected"),
            (6, "older is rejected", "old is accepted (line 7)", "new", "new is accepted"),
            (10, "parted is rejected", "one is accepted (line 11)", "one", "one is accepted"),
        ]
        assert read.overruled(lambda cui: became.get(cui, (cui,))) == tuple(
            f"{curated}:{line}: {lost}, but {won}, and both are {cui} now: {so}. Delete one of the two lines."
            for line, lost, won, cui, so in said
        )
        assert read.overruled(lambda cui: (cui,)) == ()

    def test_queries_of_punctuation_stay_apart(self, curated):
        write_curated([Decision("?", "C1", accepted=True), Decision("!", "C2", accepted=True)], curated)
        assert read_curated(curated).accepted("!") == ("C2",)


texts = st.text(max_size=12)
queries = st.one_of(texts, st.sampled_from(["=1+1", "'-a", "a;b", 'l"œil', "Œdème, SAI", "#N/A", "1e5", "+"]))
pairs = st.dictionaries(
    st.tuples(queries.filter(clean), st.sampled_from(["C0000001", "C0000002", "C0000003"])),
    st.tuples(st.sampled_from(["accept", "rejeter", ""]), texts),
    max_size=6,
)


def round_trip(decisions, suffix):
    """Propose, decide and read back; return what is curated and what it should be."""
    mappings = [Mapping(query, (replace(HEART, cui=cui),)) for query, cui in decisions]
    first = {}
    for (query, cui), decision in decisions.items():
        first.setdefault((key_of(query), cui), decision)
    with TemporaryDirectory() as folder:
        sheet = Sheet(Path(folder) / f"a{suffix}", mappings)
        assert len(sheet.rows) == 1 + len(first)
        for line, (word, comment) in enumerate(first.values(), start=2):
            sheet.fill(line, decision=word, comment=clean(comment))
        result = apply_review(sheet.save(), Path(folder) / "c.tsv")
        read = read_curated(Path(folder) / "c.tsv")
    assert result.problems == ()
    assert result.undecided == sum(not word for word, _ in first.values())
    return {decision.pair: decision.accepted for decision in read}, {
        pair: word == "accept" for pair, (word, _) in first.items() if word
    }


@given(pairs)
def test_round_trip_through_csv(decisions):
    found, wanted = round_trip(decisions, ".csv")
    assert found == wanted


@given(pairs)
def test_round_trip_through_a_workbook(decisions):
    pytest.importorskip("openpyxl")
    found, wanted = round_trip(decisions, ".xlsx")
    assert found == wanted


any_text = st.text(max_size=12) | st.from_regex(r"'*[=+\-@＝\t] ?\w*", fullmatch=True)
decisions = st.builds(
    Decision,
    any_text.filter(clean),
    st.from_regex(r"C\d{7}", fullmatch=True),
    st.booleans(),
    any_text,
    any_text,
)


@given(st.lists(decisions, unique_by=lambda decision: decision.pair))
def test_a_curated_file_is_read_as_it_was_written(made):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "c.tsv"
        write_curated(made, path)
        read = read_curated(path)
        text = path.read_bytes()
        write_curated(read, path)
        assert path.read_bytes() == text
    back = {(row.query, row.cui, row.accepted, row.name, row.comment) for row in read}
    assert back == {
        (clean(row.query), row.cui, row.accepted, clean(row.name), clean(row.comment)) for row in made
    }
