"""Words that are written wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import OSA

from deft.mapping.spelling import respell

STRINGS = (
    "Pneumothorax",
    "Volvulus de l'intestin",
    "Accident vasculaire cérébral",
    "Diabète de type 2",
    "Hépato-splénomégalie",
    "thrombose veineuse profonde",
)
KNOWN = frozenset({"pneumothorax", "diabete", "cerebral", "vasculaire"})


def read(text, strings=STRINGS, known=KNOWN):
    return respell(text, known, lambda: strings)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("Pneumotorax", "pneumothorax"),
        ("vlvulus", "volvulus"),
        ("accidnt vasculiare cérébral", "accident vasculaire cerebral"),
        ("cérébra1 vasculaire", "cerebral vasculaire"),
        ("diab ète de type 2", "diabete de type 2"),
        ("diabète detype 2", "diabete de type 2"),
        ("acc. vasc. cérébral", "accident vasculaire cerebral"),
        ("thromb. veineuse prof.", "thrombose veineuse profonde"),
        ("hépato-splénomégalle", "hepato splenomegalie"),
    ],
)
def test_what_is_written_wrong(text, right):
    assert read(text) == right


@pytest.mark.parametrize(
    "text",
    [
        "pneumothorax",  # known
        "maladie grave",  # French
        "volvulus",  # a string has it
        "osx",  # too short to tell
        "12345",
        "zzzzzzzz",  # nothing is near
        "bander",  # a word of French, though "cander" may be near
        "",
        "...",
    ],
)
def test_what_stays(text):
    assert read(text, (*STRINGS, "cander")) is None


def test_strings_are_asked_for_only_in_doubt():
    def alike():
        raise AssertionError

    assert respell("diabète grave", KNOWN, alike) is None


def test_the_nearest_is_taken_and_of_equally_near_ones_the_first():
    assert read("pnemothorax", ("pneumothoraxe", "pneumothorax"), frozenset()) == "pneumothorax"
    assert read("voltulus", ("voltulux", "volvulus"), frozenset()) == "voltulux"


@given(
    st.text("abcd", min_size=1, max_size=12), st.lists(st.text("abcd", min_size=3, max_size=12), max_size=5)
)
def test_a_word_becomes_a_near_one_of_the_strings_or_stays(word, strings):
    fixed = read(word, strings, frozenset())
    slips = {string: OSA.distance(word, string) for string in strings}
    most = 1 if len(word) <= 5 else 2 if len(word) <= 11 else 3
    near = min(slips.values(), default=99) <= most
    if len(word) < 4 or word in strings or not near:
        assert fixed is None
    elif fixed is not None:  # it may be French
        assert slips[fixed] == min(slips.values())
