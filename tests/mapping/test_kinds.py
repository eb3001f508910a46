"""What kind of thing a query names."""

import numpy as np
import pytest

from deft.mapping.kinds import OTHER, Kinds

DRAW = np.random.default_rng(3)
CENTRES = {"DISO": [3, 0, 0], "CHEM": [0, 3, 0], OTHER: [0, 0, 3]}


@pytest.fixture(scope="module")
def kinds():
    groups = [group for group in CENTRES for _ in range(40)]
    vectors = np.array([CENTRES[group] for group in groups]) + DRAW.normal(size=(120, 3))
    return Kinds.fit(vectors.astype(np.float32), groups)


def test_it_tells_kinds_apart(kinds):
    for group, centre in CENTRES.items():
        known = kinds.probabilities(np.array(centre, dtype=np.float32))
        assert sum(known.values()) == pytest.approx(1)
        assert max(known, key=known.__getitem__) == group


def test_types_stand_for_their_groups(kinds):
    disease = np.array(CENTRES["DISO"])
    one, other, both, unknown, none = kinds.of_types(disease, ["T047", "T121", "T047;T121", "T083", ""])
    known = kinds.probabilities(disease)
    assert one == pytest.approx(np.log(known["DISO"]), abs=1e-4)
    assert other == pytest.approx(np.log(max(known["CHEM"], 1e-3)), abs=1e-4)
    assert both == pytest.approx(np.log(known["DISO"] + known["CHEM"]), abs=1e-4)
    assert unknown == pytest.approx(np.log(1e-3), abs=1e-4)  # a place, of which it has seen none
    assert none == 0


def test_it_is_what_was_written(kinds):
    again = Kinds.of(kinds.to_dict())
    assert again.groups == kinds.groups
    assert again.weights.tolist() == kinds.weights.tolist()
    assert again.intercepts.tolist() == kinds.intercepts.tolist()


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({}, "no rows"),
        ({"DISO": [1.0], "CHEM": [1.0, 2.0]}, "of one length|inhomogeneous"),
        ({"DISO": [float("nan"), 1.0]}, "of finite numbers"),
    ],
)
def test_damage_is_refused(rows, problem):
    with pytest.raises(ValueError, match=problem):
        Kinds.of(rows)
