"""What a spreadsheet would compute is marked as text, and comes back as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.cells import guard, guard_row, unguard

SIGNS = "=+-@＝＋－＠"


@pytest.mark.parametrize(
    "text",
    [
        *(f"{sign}1+1" for sign in SIGNS),
        "\t=1",
        "\r=1",
        "\na",
        " =1",
        "\u00a0@a",
        "'=1",
        "''-a",
        "-1+1",
        "- toux",
    ],
)
def test_what_is_guarded(text):
    assert guard(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a", "a=b", "l'œil", "'a", "C0000001", "-5", "-0.500000", "-1,5", "5"])
def test_what_is_not(text):
    assert guard(text) == unguard(text) == text


def test_numbers_of_a_row_stay_numbers():
    assert guard_row(["=a", -1.5, 3, None, "b"]) == ["'=a", -1.5, 3, None, "b"]


@given(st.text() | st.from_regex(rf"'*[\t\r\n ]*[{SIGNS}']*\w*", fullmatch=True))
def test_everything_comes_back(text):
    guarded = guard(text)
    assert unguard(guarded) == text
    bare = guarded.lstrip()
    assert not bare.startswith(tuple(SIGNS)) or float(bare.replace(",", ".")) < 1
