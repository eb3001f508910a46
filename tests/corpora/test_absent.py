"""Queries that no concept answers."""

import re

from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.absent import capitals, held_off
from deft.mapping.pool import hedges

NAMES = ("Phlébite", "asthme", "HTA", "hernie discale", "Infarctus du myocarde")


def test_what_is_held_off_is_said_in_french():
    said = {text for seed in range(200) for text in held_off(NAMES, 5, seed)}
    assert {"pas de phlébite", "antécédent d'asthme", "suspicion HTA", "père : hernie discale"} <= said
    assert not [text for text in said if re.search(r"[{}]|\bde [aeiouyéè]|\bd'[bcdfgkmp]", text)]


def test_a_mapping_hears_that_it_is_held_off():
    said = {text for seed in range(200) for text in held_off(NAMES, 5, seed)}
    assert [text for text in said if not hedges(text)] == []


@given(number=st.integers(0, 9), seed=st.integers(0, 99))
def test_it_is_the_same_twice_whatever_the_order(number, seed):
    found = held_off(NAMES, number, seed)
    assert found == held_off(NAMES[::-1] + NAMES, number, seed)
    assert len(found) == min(number, len(NAMES))


@given(number=st.integers(0, 50), seed=st.integers(0, 99))
def test_abbreviations_of_anything(number, seed):
    found = capitals(number, seed)
    assert found == capitals(number, seed)
    assert len(found) == number
    assert all(re.fullmatch("[A-Z]{2,4}", text) for text in found)
