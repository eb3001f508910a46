"""Semantic groups."""

import pytest

from deft.errors import InputError
from deft.terminology.semantic_groups import GROUP_OF, GROUPS, types_of


def test_a_type_is_in_one_group():
    assert len(GROUPS) == 15
    assert len(GROUP_OF) == sum(map(len, GROUPS.values()))
    assert len(GROUP_OF) >= 127


@pytest.mark.parametrize(
    ("tui", "group"),
    [
        ("T047", "DISO"),
        ("T184", "DISO"),
        ("T023", "ANAT"),
        ("T061", "PROC"),
        ("T121", "CHEM"),
        ("T071", "OBJC"),
    ],
)
def test_group_of(tui, group):
    assert GROUP_OF[tui] == group


def test_types_of():
    assert types_of(("GEOG", "OCCU")) == {"T083", "T090", "T091"}
    assert types_of(()) == frozenset()
    with pytest.raises(
        InputError, match=r"no semantic group is called ANA, diso\. The groups are ACTI, ANAT"
    ):
        types_of(("ANA", "DISO", "diso"))
