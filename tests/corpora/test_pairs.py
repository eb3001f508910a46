"""Tables of sentence pairs."""

import pytest

from deft.corpora.deft2020 import SentencePair
from deft.corpora.pairs import read_pairs
from deft.errors import InputError


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_graded_pairs(tmp_path):
    path = put(tmp_path / "p.csv", 'sentence1,sentence2,score\n"Un, deux.",Trois  quatre.,2.5\nA,B,0\n')
    assert read_pairs(path) == [
        SentencePair("0", "Un, deux.", "Trois quatre.", 2.5),
        SentencePair("1", "A", "B", 0.0),
    ]


def test_other_columns_and_another_scale(tmp_path):
    path = put(tmp_path / "p.tsv", "l\tr\tg\nA\tB\t0.5\n")
    assert read_pairs(path, "l", "r", "g", highest=1) == [SentencePair("0", "A", "B", 2.5)]


def test_parallel_text(tmp_path):
    path = put(tmp_path / "p.tsv", "source\ten\tfr\nX\theart\tcœur\n")
    assert read_pairs(path, "en", "fr", None) == [SentencePair("0", "heart", "cœur", None)]


@pytest.mark.parametrize(
    ("row", "field", "problem"),
    [
        ("A,B,6", "score", "from 0 to 5, found '6'"),
        ("A,B,-0.1", "score", "found '-0.1'"),
        ("A,B,nan", "score", "found 'nan'"),
        ("A,B,", "score", "found ''"),
        (",B,1", "sentence1", "is empty. Fill it in"),
        ("A,\x00,1", "sentence2", "is empty"),
    ],
)
def test_bad_rows(tmp_path, row, field, problem):
    with pytest.raises(InputError, match=problem) as caught:
        read_pairs(put(tmp_path / "p.csv", f"sentence1,sentence2,score\nA,B,1\n{row}\n"))
    assert (caught.value.line, caught.value.field) == (3, field)


def test_missing_column(tmp_path):
    with pytest.raises(InputError, match="no column 'score'"):
        read_pairs(put(tmp_path / "p.csv", "sentence1,sentence2\nA,B\n"))
