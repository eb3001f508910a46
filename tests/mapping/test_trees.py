"""Trees as arrays: the same answers as scikit-learn, and what is on disk."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.mapping.trees import Trees


@pytest.fixture(scope="module")
def data():
    generator = np.random.default_rng(0)
    signals = np.round(generator.normal(size=(600, 4)), 3)
    right = signals[:, 0] * signals[:, 1] + generator.normal(size=600) / 4 > 0
    return signals, right, generator.uniform(0.5, 2, size=600)


@pytest.fixture(scope="module")
def trees(data):
    return Trees.fit(*data, seed=3)


def test_a_tree_by_hand():
    """Levels of questions on signals 0, then 1, then 2: left if at most the threshold."""
    trees = Trees(
        np.array([[0, 1, 1, 2, 2, 2, 2]]),
        np.array([[0.0, -1.0, 1.0, 0.0, 0.0, 5.0, 0.0]]),
        np.arange(8.0)[None],
        start=10.0,
    )
    rows = np.array([[0, -1, 0], [0, -1, 1], [0, 0, 0], [1, 1, 5], [1, 1, 6], [1, 2, 0], [1, 2, 1]])
    assert trees(rows.astype(float)).tolist() == [10, 11, 12, 14, 15, 16, 17]


def test_they_answer_as_scikit_learn_does(data, trees):
    from sklearn.ensemble import GradientBoostingClassifier

    from deft.mapping import trees as module

    signals, right, weight = data
    model = GradientBoostingClassifier(max_depth=module.DEPTH, random_state=3, **module._TRAINING)
    model.fit(signals, right, sample_weight=weight)
    np.testing.assert_allclose(trees(signals), model.decision_function(signals), atol=1e-4)


def test_branches_that_end_early(data):
    signals, _, weight = data
    right = signals[:, 0] > 0  # one question says it all
    trees = Trees.fit(signals, right, weight, seed=0)
    assert ((trees(signals) > 0) == right).all()


def test_they_learn_what_no_line_tells(data, trees):
    signals, right, _ = data
    assert ((trees(signals) > 0) == right).mean() > 0.85


@given(rows=st.lists(st.integers(0, 599), max_size=5))
def test_a_row_does_not_depend_on_the_others(data, trees, rows):
    together = trees(data[0][rows])
    assert together.tolist() == [trees(data[0][[row]])[0] for row in rows]


def test_they_survive_json(data, trees):
    again = Trees.of(trees.to_dict(), signals=4)
    assert again(data[0]).tolist() == trees(data[0]).tolist()
    assert again.to_dict() == trees.to_dict()


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("start"),
        lambda values: values.update(value=values["value"][1:]),
        lambda values: values["signal"].__setitem__(0, "9 0 0 0 0 0 0"),
        lambda values: values["signal"].__setitem__(0, "-1 0 0 0 0 0 0"),
        lambda values: values["threshold"].__setitem__(0, "1 2"),
        lambda values: values["value"].__setitem__(0, "a"),
        lambda values: values.update(value=3),
    ],
)
def test_what_is_no_trees(trees, change):
    values = trees.to_dict()
    change(values)
    with pytest.raises(ValueError, match=r".+"):
        Trees.of(values, signals=4)
    with pytest.raises(ValueError, match="no trees"):
        Trees.of(None, signals=4)
