"""The files of the DEFT 2020 challenge."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.deft2020 import (
    SentencePair,
    SentenceSet,
    read_choices,
    read_grades,
    read_t1,
    read_t2,
    write_choices,
    write_grades,
    write_t1,
    write_t2,
)
from deft.errors import InputError
from deft.text import clean

T1 = """<?xml version="1.0" encoding="UTF-8"?>
<doc>
  <paire id="0" moy="2.2" vote="5.0" scores="5,2,0,3,1">
    <source>Le cœur &amp; les  poumons.</source> <cible>Le <b>cœur</b>.</cible>
  </paire>
  <paire id="1"> <source>Prenez un comprimé.</source> <cible>Avalez un comprimé.</cible> </paire>
</doc>
"""
T2 = """<doc>
  <ensemble id="7" cible="2">
    <source>s</source> <cible num="1">un</cible> <cible num="2">deux</cible> <cible num="3">trois</cible>
  </ensemble>
  <ensemble id="8"> <source>t</source> <cible num="2">b</cible> <cible num="1">a</cible> </ensemble>
</doc>
"""

DECLARED = {"utf-8-sig": "utf-8", "latin-1": "iso-8859-1"}

sentences = st.text(min_size=1, max_size=12).filter(clean).map(clean)
identifiers = st.text(min_size=1, max_size=5).filter(clean).map(clean)
grades = st.none() | st.floats(0, 5)


@pytest.fixture
def write(tmp_path):
    def call(text, name="t.xml", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return call


def test_read_t1(write):
    assert read_t1(write(T1)) == [
        SentencePair("0", "Le cœur & les poumons.", "Le cœur.", 2.2),
        SentencePair("1", "Prenez un comprimé.", "Avalez un comprimé.", None),
    ]


def test_read_t2_in_the_order_of_the_numbers(write):
    assert read_t2(write(T2)) == [
        SentenceSet("7", "s", ("un", "deux", "trois"), 2),
        SentenceSet("8", "t", ("a", "b"), None),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_declared_encodings_are_read(write, encoding):
    text = T1.replace("œ", "é").replace("UTF-8", DECLARED.get(encoding, encoding))
    assert read_t1(write(text, encoding=encoding))[1].target == "Avalez un comprimé."


@given(
    st.lists(
        st.tuples(identifiers, sentences, sentences, grades),
        unique_by=lambda row: row[0],
        min_size=1,
        max_size=4,
    )
)
def test_t1_survives_its_file(tmp_path, rows):
    pairs = [SentencePair(*row) for row in rows]
    write_t1(tmp_path / "t1.xml", pairs)
    assert read_t1(tmp_path / "t1.xml") == pairs


@given(
    st.lists(
        st.tuples(identifiers, sentences, st.lists(sentences, min_size=2, max_size=11), st.booleans()),
        unique_by=lambda row: row[0],
        min_size=1,
        max_size=3,
    )
)
def test_t2_survives_its_file(tmp_path, rows):
    sets = [
        SentenceSet(name, source, tuple(cibles), len(cibles) if gold else None)
        for name, source, cibles, gold in rows
    ]
    write_t2(tmp_path / "t2.xml", sets)
    assert read_t2(tmp_path / "t2.xml") == sets


def test_sentences_are_cleaned_on_the_way_out(tmp_path):
    write_t1(tmp_path / "t1.xml", [SentencePair("a", "do\x00uleur\ud800", "b\u200bc", 1)])
    assert read_t1(tmp_path / "t1.xml") == [SentencePair("a", "do uleur", "bc", 1)]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "problem"),
    [
        ('moy="2.2"', 'moy="5.1"', 3, "moy", "from 0 to 5 was expected, found 5.1"),
        ('moy="2.2"', 'moy="-1"', 3, "moy", "from 0 to 5 was expected, found -1"),
        ('moy="2.2"', 'moy="2,2"', 3, "moy", "expected a number, found '2,2'"),
        ('moy="2.2"', 'moy="nan"', 3, "moy", "expected a number, found 'nan'"),
        ('id="1"', 'id="0"', 6, "id", "'0' stands for two items. Make identifiers unique"),
        ('id="1"', 'id=" "', 6, "id", "is missing"),
        ("<source>Prenez un comprimé.</source>", "", 6, "source", "is missing"),
        ("Prenez un comprimé.", " \u200b", 6, "source", "is empty"),
        ("Avalez un comprimé.", "", 6, "cible", "is empty"),
        ("<cible>Avalez un comprimé.</cible>", "", 6, "cible", "expected one <cible>, found 0"),
        ("</paire>\n</doc>", "</paire>\n", 8, None, "malformed XML.*Is the file whole"),
        ("&amp;", "&", 4, None, "malformed XML"),
        ("&amp;", "&nbsp;", 4, None, "malformed XML.*nbsp"),
        ("paire", "ensemble", None, None, "no <paire> element. Task 1 files hold"),
    ],
)
def test_bad_t1(write, old, new, line, field, problem):
    assert old in T1
    with pytest.raises(InputError, match=problem) as caught:
        read_t1(write(T1.replace(old, new)))
    assert (caught.value.line, caught.value.field) == (line, field)
    assert "t.xml" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "problem"),
    [
        ('cible="2"', 'cible="4"', 2, "cible", "'4' is no number of a candidate"),
        ('cible="2"', 'cible="deux"', 2, "cible", "'deux' is no number"),
        ('num="3"', 'num="4"', 2, "num", r"found numbers \['1', '2', '4'\]"),
        ('num="3"', 'num="2"', 2, "num", r"found numbers \['1', '2', '2'\]"),
        ('num="3"', "", 2, "num", "None"),
        ('<cible num="2">b</cible>', "", 5, "num", "found numbers"),
        ('id="8"', 'id="7"', 5, "id", "'7' stands for two items"),
        ("ensemble", "paire", None, None, "no <ensemble> element"),
    ],
)
def test_bad_t2(write, old, new, line, field, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read_t2(write(T2.replace(old, new)))
    assert (caught.value.line, caught.value.field) == (line, field)


def test_bytes_that_are_no_xml(write, tmp_path):
    with pytest.raises(InputError, match=r"t\.xml:?\d*: malformed XML.*UTF-8\?"):
        read_t1(write(T1.encode("latin-1", "replace")))
    for data in (b"", gzip.compress(T1.encode()), b"id\tgrade\n"):
        with pytest.raises(InputError, match="malformed XML"):
            read_t1(write(data))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_t1(tmp_path / "absent.xml")


def test_entities_of_the_file_system_stay_out(write, tmp_path):
    (tmp_path / "secret").write_text("secret")
    doctype = f'<!DOCTYPE doc [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]><doc>'
    with pytest.raises(InputError, match="malformed XML: Entity 'x' not defined"):
        read_t1(write(T1.replace("<doc>", doctype).replace("Prenez", "Prenez &x;")))


def test_entities_of_the_document_are_read(write):
    doctype = '<!DOCTYPE doc [<!ENTITY x "la">]><doc>'
    pairs = read_t1(write(T1.replace("<doc>", doctype).replace("comprimé", "&x; dose")))
    assert pairs[1].source == "Prenez un la dose."


@given(st.dictionaries(identifiers, st.floats(-1, 6).map(lambda grade: round(grade, 4)), min_size=1))
def test_grades_survive_their_file(tmp_path, predicted):
    write_grades(tmp_path / "p.tsv", predicted)
    assert read_grades(tmp_path / "p.tsv") == predicted


@given(st.dictionaries(identifiers, st.integers(1, 99), min_size=1))
def test_choices_survive_their_file(tmp_path, predicted):
    write_choices(tmp_path / "p.tsv", predicted)
    assert read_choices(tmp_path / "p.tsv") == predicted


def test_predictions_of_other_programs(write):
    assert read_grades(write(b"\xef\xbb\xbf1\t 2.5\r\n\r\n2\t3\r\n")) == {"1": 2.5, "2": 3.0}
    assert read_choices(write("1\t2\n2\t1")) == {"1": 2, "2": 1}


@pytest.mark.parametrize(
    ("read", "text", "line", "field", "problem"),
    [
        (read_grades, "id\tgrade\n", 1, "grade", "expected a number, found 'grade'"),
        (read_grades, "1\t2\n2\tinf\n", 2, "grade", "found 'inf'"),
        (read_grades, "1\t2\n1\t3\n", 2, "id", "'1' was already given"),
        (read_grades, "1\t2\n\n2 3\n", 3, None, "an identifier, a tab and a value, found 1 fields"),
        (read_grades, "1\t2\t3\n", 1, None, "found 3 fields"),
        (read_choices, "1\t0\n", 1, "number", "the number of a sentence, found '0'"),
        (read_choices, "1\t1.0\n", 1, "number", "found '1.0'"),
        (read_choices, "1\t-1\n", 1, "number", "found '-1'"),
    ],
)
def test_bad_predictions(write, read, text, line, field, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read(write(text, "p.tsv"))
    assert (caught.value.line, caught.value.field) == (line, field)


def test_predictions_in_another_encoding(write):
    with pytest.raises(InputError, match=r"p\.tsv:1: is not UTF-8. Convert it.*UTF-16"):
        read_grades(write("1\t2\n", "p.tsv", "utf-16"))
    with pytest.raises(InputError, match=r"p\.tsv:2: is not UTF-8"):
        read_grades(write("1\t2\né\t3\n", "p.tsv", "latin-1"))
