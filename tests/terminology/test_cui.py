"""What is a CUI and what only looks like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.cui import check_cui, cui_of, is_cui, number_of


@given(st.integers(0, 10**7 - 1))
def test_there_and_back(number):
    assert number_of(cui_of(number)) == number
    assert check_cui(cui_of(number)) == cui_of(number)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C",
        "abc",
        "12569",
        "C12569",
        "X0012569",
        "c0012569",
        "C00125690",
        " C0012569",
        "C001256x",
        "C٠٠١٢٥٦٩",
    ],
)
def test_what_is_none_is_not_guessed(text):
    assert not is_cui(text)
    for read in (check_cui, number_of):
        with pytest.raises(InputError, match="field cui: expected a CUI such as C0012569, found '"):
            read(text)
