"""Lay lexicons and gold mappings."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.lexicon import (
    GoldMapping,
    LexiconEntry,
    read_cuis,
    read_gold,
    read_lexicon,
    read_queries,
    read_terms,
)
from deft.text import clean

HEADER = ("Terme", "Explication au grand public", "Sources")
terms = st.text(min_size=1, max_size=20).filter(clean)


def put(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


@given(
    st.lists(st.tuples(terms, st.text(max_size=20), st.text(max_size=5)), max_size=4),
    st.sampled_from(",;\t|:^"),
    st.sampled_from(["utf-8", "utf-8-sig"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_any_lexicon(tmp_path, rows, delimiter, encoding, end):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([HEADER, *rows])
    entries = read_lexicon(put(tmp_path / "l.csv", stream.getvalue(), encoding))
    assert entries == [LexiconEntry(*map(clean, row)) for row in rows]


def test_other_columns_in_another_order(tmp_path):
    path = put(tmp_path / "l.tsv", "sens\tmot\nmal au crâne\tcéphalée\n")
    assert read_lexicon(path, term="mot", explanation="sens") == [
        LexiconEntry("céphalée", "mal au crâne", "")
    ]
    assert read_terms(path, "sens") == ["mal au crâne"]


def test_gold(tmp_path):
    path = put(tmp_path / "g.tsv", "query\tcuis\nmal  au crâne\tC0000006\nrhume\tC0000001; C0000002;\n")
    assert read_gold(path, "query", "cuis") == [
        GoldMapping("mal au crâne", frozenset({"C0000006"})),
        GoldMapping("rhume", frozenset({"C0000001", "C0000002"})),
    ]
    assert read_cuis(path, "cuis")[1] == {"C0000001", "C0000002"}


def test_some_rows_of_a_gold_file(tmp_path):
    rows = "a\tC0000001\tdev\tx\nb\tC0000002\tfinal\tx\nc\tC0000003\tdev\ty\n"
    path = put(tmp_path / "g.tsv", f"Terme\tCUI\tpart\tkind\n{rows}")
    assert [row.query for row in read_gold(path, where={"part": "dev"})] == ["a", "c"]
    assert [row.query for row in read_gold(path, where={"part": "dev", "kind": "y"})] == ["c"]
    with pytest.raises(InputError, match=r"g\.tsv: field part: no row with 'test'\. It has dev, final\."):
        read_gold(path, where={"part": "test"})
    with pytest.raises(InputError, match="no column 'absent'"):
        read_gold(path, where={"absent": "x"})


def test_gold_keeps_every_row_and_its_other_columns(tmp_path):
    rows = "rhume\tC0000001\t DISO \t1\nrhume\tC0000002\t\t2\n"
    path = put(tmp_path / "g.tsv", f"Terme\tCUI\tgroup\tdoc\n{rows}")
    read = read_gold(path, columns=("group",))
    assert [(item.query, item.row) for item in read] == [
        ("rhume", {"group": "DISO", "doc": "1"}),
        ("rhume", {"group": "", "doc": "2"}),
    ]
    assert len(set(read)) == 2
    with pytest.raises(InputError, match=r"g\.tsv:1: no column 'subset'"):
        read_gold(path, columns=("subset",))


def test_columns_without_a_name_are_left_out(tmp_path):
    (item,) = read_gold(put(tmp_path / "g.csv", "Terme,CUI,,\nrhume,C0000001,x,y\n"))
    assert item.row == {}


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        (",C0000001", "Terme", "is empty. Fill it in or remove the row"),
        ("\u200b\x00,C0000001", "Terme", "is empty"),
        ("a,", "CUI", "expected CUIs such as C0012569, found nothing"),
        ("a,C001", "CUI", "found C001"),
        ("a,C0000001 C0000002", "CUI", "found C0000001 C0000002. Separate several CUIs by semicolons"),
        ("a,c0000001", "CUI", "found c0000001"),
        ("a,C٠٠٠٠٠٠١", "CUI", "expected CUIs"),
    ],
)
def test_bad_rows(tmp_path, row, field, problem):
    path = put(tmp_path / "g.csv", f'Terme,CUI\n"x\ny",C0000001\n{row}\n')
    with pytest.raises(InputError, match=problem) as caught:
        read_gold(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, 4, field)


@pytest.mark.parametrize(
    ("column", "read"), [("Terme", read_terms), ("Terme", read_lexicon), ("CUI", read_cuis)]
)
def test_missing_columns(tmp_path, column, read):
    with pytest.raises(
        InputError, match=rf"g\.csv:1: no column '{column}'. The header has: 'a', 'b'. Name another"
    ):
        read(put(tmp_path / "g.csv", "a,b\n1,2\n"))


def test_both_missing_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="no column 'q', 'c'"):
        read_gold(put(tmp_path / "g.csv", "a,b\n1,2\n"), "q", "c")


def test_a_header_alone_is_an_empty_lexicon(tmp_path):
    assert read_lexicon(put(tmp_path / "l.csv", "Terme;Sources\n")) == []


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_encodings(tmp_path, encoding):
    path = put(tmp_path / "l.csv", "Terme;Sources\nfièvre;x\n", encoding)
    assert read_lexicon(path) == [LexiconEntry("fièvre", sources="x")]


def test_queries_are_what_can_be_mapped(tmp_path, caplog):
    path = tmp_path / "l.csv"
    rows = ["rhume;DISO", "  ;DISO", "mal  au crâne; diso", "rhume;", "\u200b;", "cœur; ANAT "]
    lines = ["Terme;groupe", *rows]
    path.write_bytes("\n".join(lines).encode() + "\nfièvre;XYZ\n".encode("latin-1"))
    rows = read_queries(path, "Terme", "groupe")
    assert [(row.number, row.text, row.group, row.note) for row in rows] == [
        (1, "rhume", "DISO", ""),
        (2, "", "DISO", "the cell holds no term"),
        (3, "mal au crâne", "", ""),
        (4, "rhume", "", ""),
        (5, "", "", "the cell holds no term"),
        (6, "cœur", "ANAT", ""),
        (7, "fièvre", "", ""),
    ]
    assert rows[2].cells == {"Terme": "mal  au crâne", "groupe": " diso"}
    assert sorted(message.partition(" ")[2] for message in caplog.messages) == [
        "1 lines are not UTF-8 and were read as Windows-1252: 8.",
        "2 rows hold no term and have no match: lines 3, 6.",
        "line 4: there is no semantic group 'diso'; none is asked for.",
        "line 8: there is no semantic group 'XYZ'; none is asked for.",
    ]


def test_queries_without_groups(tmp_path, caplog):
    rows = read_queries(put(tmp_path / "l.csv", "Terme\nrhume\nrhume\n"))
    assert [(row.text, row.group) for row in rows] == [("rhume", ""), ("rhume", "")]
    assert not caplog.messages


def test_marks_of_a_missing_value_are_no_terms(tmp_path):
    cells = ["NA", "null", "None", "N/A", "nan", "Na", "none", "nanisme"]
    rows = read_queries(put(tmp_path / "l.csv", "Terme\n" + "\n".join(cells) + "\n"))
    assert [row.text for row in rows if not row.note] == ["Na", "none", "nanisme"]
    assert [row.text for row in rows] == cells


def test_queries_that_cannot_be_read(tmp_path):
    path = put(tmp_path / "l.csv", "Terme,g\n ,\n")
    with pytest.raises(InputError, match=r"l\.csv: field Terme: holds no term"):
        read_queries(path)
    with pytest.raises(InputError, match="no column 'absent'"):
        read_queries(path, "Terme", "absent")
    with pytest.raises(InputError, match="no column 'absent'"):
        read_queries(path, "absent")
