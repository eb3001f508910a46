"""Spoilt files of every kind are answered, or refused in one line."""

import pytest

from tests.fuzz import run_door
from tests.fuzz_doors import DOORS


@pytest.mark.parametrize("door", DOORS)
def test_spoilt_files_are_answered_or_refused_in_one_line(door):
    assert run_door(door, seed=7, count=120) == []
