"""The split by document."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.corpora.split import held_out

DOCUMENTS = [str(number) for number in range(2000)]


@given(st.text(max_size=12), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_holds_out_more(document, one, other):
    small, large = sorted((one, other))
    assert held_out(document, small) <= held_out(document, large)
    assert not held_out(document, 0)
    assert held_out(document, 1)


TEXT = st.characters(codec="utf-8", exclude_characters="_")


@given(st.text(TEXT, max_size=8), st.text(TEXT, max_size=5), st.floats(0, 1))
def test_parts_of_a_document_stay_together(document, part, share):
    assert held_out(f"{document}_{part}", share) == held_out(document, share)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_the_share_is_about_what_was_asked_for(share):
    assert sum(held_out(document, share) for document in DOCUMENTS) / 2000 == pytest.approx(share, abs=0.03)


def test_every_program_gets_the_same_answer():
    """The encoder that is shipped learned from what this split gave it: it must never change."""
    chosen = [document for document in DOCUMENTS[:40] if held_out(document, 0.3)]
    assert chosen == ["2", "6", "13", "16", "17", "23", "27", "33", "37"]
