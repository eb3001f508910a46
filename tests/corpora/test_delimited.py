"""Tables with a header."""

import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.delimited import Rows, read_rows, read_table
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
    table = read_table(path, ("Terme", "Sources"))
    assert list(table.columns) == ["Terme", "Explication au grand public", "Sources"]
    assert [tuple(row) for row in table.itertuples(index=False)] == rows


@given(st.lists(st.tuples(cells, cells).map(lambda row: tuple(cell.replace("\t", " ") for cell in row))))
def test_tsv_has_no_quotes(tmp_path, rows):
    lines = ["query\tcuis", *("\t".join(row) for row in rows)]
    table = read_table(put(tmp_path / "t.tsv", "\n".join(lines)), ("cuis",))
    assert [tuple(row) for row in table.itertuples(index=False)] == rows


def test_the_index_is_the_line(tmp_path):
    table = read_table(put(tmp_path / "t.csv", 'a,b\r\n1,"x\r\ny"\r\n\r\n2,z\r\n'))
    assert table.index.to_list() == [2, 5]
    assert table["b"].to_list() == ["x\r\ny", "z"]


def test_delimiter_in_the_cells_or_in_the_header(tmp_path):
    path = put(tmp_path / "t.csv", 'Terme;"a, b, c";d\nx;"1,2;3";y\n')
    assert read_table(path).loc[2].to_list() == ["x", "1,2;3", "y"]
    path = put(tmp_path / "t.csv", 'Terme;"a, b, c, d"\nx;1\n')
    assert read_table(path, ("Terme",))["Terme"].to_list() == ["x"]


def test_one_column_without_a_delimiter(tmp_path):
    assert read_table(put(tmp_path / "t.csv", "Terme\na b\n\nc\n"), ("Terme",))["Terme"].to_list() == [
        "a b",
        "c",
    ]


def test_spare_delimiters_of_a_spreadsheet(tmp_path):
    assert read_table(put(tmp_path / "t.csv", "Terme;b;;\nx;y;;\n"), ("b",))["b"].to_list() == ["y"]


def test_gzip(tmp_path):
    path = put(tmp_path / "t.tsv.gz", gzip.compress(b'a\tb\n"x\ty\n'))
    assert read_table(path)["a"].to_list() == ['"x']


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a,b\n1,2\n3\n", 3, "expected 2 fields as in the header, found 1. Is a delimiter"),
        ("a,b\n1,2,3\n", 2, "found 3"),
        ('a,b\n1,2\n"3,4\n', 3, "is not a readable table"),
        ('a,b\n1,"2"x\n', 2, "is not a readable table"),
        ("", None, "is empty. A header"),
        ("\n\n", None, "is empty"),
        ("a,b,a\n", 1, "the header names a twice"),
        ("x,y\n1,2\n", 1, r"no column 'a'\. The header has: 'x', 'y'\. Name another column"),
    ],
)
def test_bad_tables(tmp_path, text, line, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read_table(put(tmp_path / "t.csv", text), ("a",))
    assert caught.value.line == line
    assert "t.csv" in str(caught.value)


@pytest.mark.parametrize(("encoding", "likely"), [("latin-1", "WINDOWS-1252"), ("utf-16", "UTF-16")])
def test_bad_encodings(tmp_path, encoding, likely):
    with pytest.raises(InputError, match=f"is not UTF-8. Convert it.*{likely}"):
        read_table(put(tmp_path / "t.csv", "Terme\nfièvre\n", encoding))


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_table(tmp_path / "absent.csv")


def test_rows_and_data_frame_are_one_table(tmp_path):
    path = put(tmp_path / "t.csv", 'a,b\r\n1,"x\r\ny"\r\n\r\n2,\r\n')
    rows, table = read_rows(path, ("b",)), read_table(path, ("b",))
    assert rows == Rows(("a", "b"), [2, 5], [["1", "x\r\ny"], ["2", ""]])
    assert list(rows) == [(2, {"a": "1", "b": "x\r\ny"}), (5, {"a": "2", "b": ""})]
    assert list(rows) == list(zip(table.index, table.to_dict("records"), strict=True))
    header = put(tmp_path / "h.csv", "a,b\n")
    assert (read_rows(header).names, list(read_rows(header))) == (("a", "b"), [])
    assert list(read_table(header).columns) == ["a", "b"]
