"""Tables with a header."""

import csv
import gzip
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.delimited import Rows, read_rows
from deft.errors import InputError

cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
multiline = st.text(max_size=12).map(lambda text: text.replace("\r", ""))


def put(path, data, encoding="utf-8"):
    path.write_bytes(data if isinstance(data, bytes) else data.encode(encoding))
    return path


@given(
    st.lists(st.tuples(multiline, multiline, multiline)),
    st.sampled_from(",;\t|:^~#!$&*/"),
    st.booleans(),
)
def test_csv_survives_any_delimiter_quotes_and_line_breaks(tmp_path, rows, delimiter, mark):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([("Terme", "Explication au grand public", "Sources"), *rows])
    path = put(tmp_path / "t.csv", stream.getvalue(), "utf-8-sig" if mark else "utf-8")
    table = read_rows(path, ("Terme", "Sources"))
    assert table.names == ("Terme", "Explication au grand public", "Sources")
    assert [tuple(row) for row in table.cells] == rows


@given(st.lists(st.tuples(cells, cells).map(lambda row: tuple(cell.replace("\t", " ") for cell in row))))
def test_tsv_has_no_quotes(tmp_path, rows):
    lines = ["query\tcuis", *("\t".join(row) for row in rows)]
    table = read_rows(put(tmp_path / "t.tsv", "\n".join(lines)), ("cuis",))
    assert [tuple(row) for row in table.cells] == rows


def column(path, name):
    return [row[name] for _, row in read_rows(path, (name,))]


def test_rows_know_their_line(tmp_path):
    path = put(tmp_path / "t.csv", 'a,b\r\n1,"x\r\ny"\r\n\r\n2,\r\n')
    rows = read_rows(path, ("b",))
    assert rows == Rows(("a", "b"), [2, 5], [["1", "x\r\ny"], ["2", ""]])
    assert list(rows) == [(2, {"a": "1", "b": "x\r\ny"}), (5, {"a": "2", "b": ""})]
    header = read_rows(put(tmp_path / "h.csv", "a,b\n"))
    assert (header.names, list(header)) == (("a", "b"), [])


def test_delimiter_in_the_cells_or_in_the_header(tmp_path):
    path = put(tmp_path / "t.csv", 'Terme;"a, b, c";d\nx;"1,2;3";y\n')
    assert read_rows(path).cells == [["x", "1,2;3", "y"]]
    path = put(tmp_path / "t.csv", 'Terme;"a, b, c, d"\nx;1\n')
    assert column(path, "Terme") == ["x"]


def test_one_column_without_a_delimiter(tmp_path):
    assert column(put(tmp_path / "t.csv", "Terme\na b\n\nc\n"), "Terme") == ["a b", "c"]


def test_spare_delimiters_of_a_spreadsheet(tmp_path):
    assert column(put(tmp_path / "t.csv", "Terme;b;;\nx;y;;\n"), "b") == ["y"]


def test_gzip(tmp_path):
    path = put(tmp_path / "t.tsv.gz", gzip.compress(b'a\tb\n"x\ty\n'))
    assert column(path, "a") == ['"x']


@pytest.mark.parametrize("mark", ["sep=;", '"sep=;"', "\ufeffsep=;"])
def test_the_directive_of_excel_is_no_header(tmp_path, mark):
    path = put(tmp_path / "t.csv", f"{mark}\r\na,b;c\r\nx;y\r\n")
    assert list(read_rows(path, ("c",))) == [(3, {"a,b": "x", "c": "y"})]


def test_quotes_between_tabs_that_do_not_pair_are_letters(tmp_path):
    text = 'id\tname\n1\t"Main" (syndrome)\n2\t"Diabète\n3\tToux\n'
    assert column(put(tmp_path / "CONCEPT.csv", text), "name") == ['"Main" (syndrome)', '"Diabète', "Toux"]
    paired = 'id\tname\n1\t"a\tb"\n'
    assert column(put(tmp_path / "t.csv", paired), "name") == ["a\tb"]


def test_a_name_that_comes_again_matters_only_if_it_is_asked_for(tmp_path):
    path = put(tmp_path / "t.csv", "code,note,note,note.2,note\n1,a,b,c,d\n")
    assert next(iter(read_rows(path, ("code",))))[1] == {
        "code": "1", "note": "a", "note.3": "b", "note.2": "c", "note.4": "d",
    }  # fmt: skip
    with pytest.raises(InputError, match="the header names note twice"):
        read_rows(path, ("note",))


def test_text_that_was_read_in_the_wrong_encoding_is_warned_of(tmp_path, caplog):
    read_rows(put(tmp_path / "t.csv", "Terme\nFiÃ¨vre\nl’Ã©tat\nPÂTÉ À LA CRÈME\n"))
    assert [message.partition(": ")[2] for message in caplog.messages] == [
        "2 cells look like UTF-8 that was read as Windows-1252 (Ã© for é): export them anew."
    ]


def test_a_hundred_thousand_columns(tmp_path):
    names = [f"c{number}" for number in range(100_000)]
    path = put(tmp_path / "t.csv", ",".join(names) + "\n" + ",".join("x" * 100_000) + "\n")
    (row,) = read_rows(path, ("c7",)).cells
    assert len(row) == 100_000
    with pytest.raises(InputError, match=r"no column 'd'\. The header has: 'c0'.*, \.\.\.\. Name"):
        read_rows(path, ("d",))


@pytest.mark.parametrize("text", ["x" * 140_000 + ",b\n", "a,b\n" + "x" * 140_000 + ",1\n"])
def test_cells_without_end(tmp_path, text):
    with pytest.raises(InputError, match="is not a readable table"):
        read_rows(put(tmp_path / "t.csv", text))


@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.tsv", "t.csv.gz", "t.xlsx"]))
def test_anything_is_a_table_or_is_refused(tmp_path, data, name):
    with suppress(InputError):
        read_rows(put(tmp_path / name, data), ("a",))


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a,b\n1,2\n3\n", 3, "expected 2 fields as in the header, found 1. Is a delimiter"),
        ("a,b\n1,2,3\n", 2, "found 3"),
        ('a,b\n1,2\n"3,4\n', 3, "is not a readable table"),
        ('a,b\n1,"2"x\n', 2, "is not a readable table"),
        ("", None, "is empty. A header"),
        ("\n\n", None, "is empty"),
        ("a,b,a\n1,2,3\n", 1, "the header names a twice"),
        ("x,y\n1,2\n", 1, r"no column 'a'\. The header has: 'x', 'y'\. Name another column"),
    ],
)
def test_bad_tables(tmp_path, text, line, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read_rows(put(tmp_path / "t.csv", text), ("a",))
    assert caught.value.line == line
    assert "t.csv" in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_encodings(tmp_path, encoding):
    assert column(put(tmp_path / "t.csv", "Terme\nfièvre\n", encoding), "Terme") == ["fièvre"]


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_rows(tmp_path / "absent.csv")
