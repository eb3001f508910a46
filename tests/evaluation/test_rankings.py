"""Rankings held against each other."""

from dataclasses import replace

import numpy as np
from demo import draw_examples, example

from deft.evaluation import rankings as module
from deft.evaluation.rankings import compare_rankings
from deft.mapping.fit import FitParams, folds_of
from deft.mapping.pool import FEATURES

PARAMS = FitParams(gold=({"path": "g.tsv", "query": "q", "cui": "c"},), folds=3)


def test_ranks_are_those_of_a_mapping_ties_by_concept():
    own = example([[0.0]] * 4, [False, True, False, True])
    assert module._rank(own, np.array([3.0, 2.0, 2.0, 1.0])) == 2
    assert module._rank(own, np.array([2.0, 2.0, 3.0, 3.0])) == 2
    assert module._rank(own, np.array([1.0, 2.0, 1.0, 2.0])) == 1
    assert module._rank(own, np.array([9.0, 1.0, 9.0, 2.0])) == 3
    assert module._rank(example([[0.0]] * 4, [False] * 4), np.zeros(4)) == 5


def test_rankings_are_compared_on_answerable_queries_only():
    present = [example([[0.5, 0], [1.0, 0]], [False, True], f"C{place}") for place in range(6)]
    absent = [example([[1.0, 0]], [False], f"C{place}", weight=0.2) for place in range(6)]
    scores = compare_rankings([*present, *absent], PARAMS)
    assert set(scores) == {
        "dense",
        "lexical",
        "reciprocal_rank_fusion",
        "conditional_logit",
        "logistic_regression",
        "gradient_boosting",
    }
    assert scores["dense"] == {"recall_at_1": 1.0, "recall_at_8": 1.0}
    assert scores["lexical"] == {"recall_at_1": 0.0, "recall_at_8": 1.0}  # equal, and the first is wrong
    assert scores["conditional_logit"]["recall_at_1"] == 1.0


def test_queries_count_by_their_weight():
    right = [example([[0.5, 0], [1.0, 0]], [False, True], f"C{place}") for place in range(6)]
    wrong = [example([[1.0, 0], [0.5, 0]], [False, True], f"D{place}", weight=0.5) for place in range(6)]
    assert compare_rankings([*right, *wrong], PARAMS)["dense"]["recall_at_1"] == round(6 / 9, 4)


def test_a_fitted_model_ranks_better_than_a_channel_where_both_tell_something():
    truth = np.zeros(len(FEATURES))
    truth[FEATURES.index("cosine")] = truth[FEATURES.index("lexical")] = 3.0
    scores = compare_rankings(draw_examples(300, weights=truth, none=-9.0), PARAMS)
    best = max(scores[name]["recall_at_1"] for name in ("dense", "lexical"))
    assert scores["conditional_logit"]["recall_at_1"] > best + 0.1


def test_only_the_first_draw_counts():
    found = draw_examples(60, weights=np.ones(len(FEATURES)))
    more = [replace(own, draw=1) for own in draw_examples(60, seed=1)]
    assert compare_rankings([*found, *more], PARAMS) == compare_rankings(found, PARAMS)


def test_what_scores_an_example_did_not_see_its_concept():
    found = draw_examples(60)
    folds = folds_of(found, PARAMS)
    asked = []

    def learn(train):
        groups = {own.group for own in train}
        return lambda pool: asked.append(groups) or np.full(len(pool), float(len(train)))

    scores = module._by_fold(found, folds, learn)
    assert [len(values) for values in scores] == [len(own.pool) for own in found]
    order = np.argsort(folds, kind="stable")
    for place, groups in zip(order, asked, strict=True):
        assert found[place].group not in groups
