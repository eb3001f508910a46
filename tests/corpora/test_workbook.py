"""Workbooks, as tables."""

import io
import zipfile

import pytest

from deft.corpora import workbook as module
from deft.corpora.delimited import read_rows
from deft.corpora.workbook import read_sheet
from deft.errors import InputError

openpyxl = pytest.importorskip("openpyxl")


def put(path, *rows, title="Feuil1"):
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_a_workbook_is_a_table_like_others(tmp_path):
    path = put(tmp_path / "t.xlsx", ("Terme", "n", None), ("fièvre", 12, None), (), ("toux", None, None))
    assert list(read_rows(path, ("Terme",))) == [
        (2, {"Terme": "fièvre", "n": "12"}),
        (4, {"Terme": "toux", "n": ""}),
    ]


def test_a_sheet_is_found_by_its_title(tmp_path):
    book = openpyxl.Workbook()
    book.active.append(("other",))
    book.create_sheet("review").append(("this",))
    book.save(tmp_path / "t.xlsx")
    assert read_sheet(tmp_path / "t.xlsx", "review") == ([1], [["this"]])
    assert read_sheet(tmp_path / "t.xlsx") == ([1], [["other"]])


def test_a_row_far_below_costs_nothing(tmp_path):
    path = put(tmp_path / "t.xlsx", ("Terme",), ("toux",))
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    sheet = parts["xl/worksheets/sheet1.xml"]
    parts["xl/worksheets/sheet1.xml"] = sheet.replace(b'<row r="2"', b'<row r="999999999"').replace(
        b'r="A2"', b'r="A999999999"'
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    assert read_sheet(path)[1] == [["Terme"]]


@pytest.mark.parametrize("limit", ["_MOST_BYTES", "_MOST_CELLS"])
def test_what_is_too_much(tmp_path, monkeypatch, limit):
    path = put(tmp_path / "t.xlsx", *[("a", "b")] * 20)
    monkeypatch.setattr(module, limit, 10)
    with pytest.raises(InputError, match=r"t\.xlsx.*(unpacks to|more than 10 cells).*CSV UTF-8"):
        read_sheet(path)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "is an old workbook, or has a password"),
        (b"Terme;n\n", "is no readable workbook"),
        (b"PK\x03\x04", "is no readable workbook"),
        (b"", "is no readable workbook"),
    ],
)
def test_what_is_no_workbook(tmp_path, data, problem):
    (tmp_path / "t.xlsx").write_bytes(data)
    with pytest.raises(InputError, match=f"{problem}.*Save it again"):
        read_rows(tmp_path / "t.xlsx")


def test_no_folder_and_no_absent_file(tmp_path):
    for path in (tmp_path / "absent.xlsx", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_sheet(path)


def test_an_archive_that_is_none(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.txt", "x")
    (tmp_path / "t.xlsx").write_bytes(stream.getvalue())
    with pytest.raises(InputError, match="is no readable workbook"):
        read_sheet(tmp_path / "t.xlsx")
