"""Errors are one line, whatever they are made of."""

import pytest

from deft.errors import InputError, one_line, refuse_items


def test_a_message_is_one_line_with_its_place_and_its_remedy():
    error = InputError("is\nwrong.", path="a\nb.csv", line=3, field="x", remedy="Mend\r\nit.")
    assert str(error) == "a b.csv:3: field x: is wrong. Mend it."


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first\nsecond"), "first"),
        (OSError(2, "No such file", "f"), "No such file"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_what_a_library_says_in_one_line(error, said):
    assert one_line(error) == said


def test_items_with_a_problem_are_named():
    refuse_items([], "no grade")
    with pytest.raises(InputError, match="7 identifiers have no grade: a, b, c, d, e, \\.\\.\\."):
        refuse_items(list("abcdefg"), "no grade")
