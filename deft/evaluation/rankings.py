"""Ways to rank the concepts of a pool, held against each other on what a mapping model is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from deft.mapping.fit import Example, FitParams, first_draw, fit_weights, folds_of
from deft.mapping.fusion import reciprocal_rank_fusion

_GRADIENT_BOOSTING = {"max_iter": 150, "learning_rate": 0.08, "max_leaf_nodes": 15, "min_samples_leaf": 40}


def compare_rankings(found: Sequence[Example], params: FitParams) -> dict[str, dict[str, float]]:
    """Return recall@1 and recall@8 of rankings, out of fold, on the queries whose concept is in the index.

    Queries count by their weight, when rankings learn and when they are scored. The rankings are the single
    channels, reciprocal rank fusion, the conditional logit of `fit`, and pointwise logistic regression and
    gradient boosting on the same signals.
    """
    found = first_draw(found)
    folds = folds_of(found, params)
    chosen = _by_fold(found, folds, lambda train: fit_weights(train, params.regularisation).scores)
    rankings = {
        "dense": [example.pool.column("cosine") for example in found],
        "lexical": [example.pool.column("lexical") for example in found],
        "reciprocal_rank_fusion": [reciprocal_rank_fusion(example.pool) for example in found],
        "conditional_logit": chosen,
        "logistic_regression": _by_fold(found, folds, _pointwise_logistic),
        "gradient_boosting": _by_fold(found, folds, _pointwise_boosting),
    }
    weights = [example.weight for example in found if example.present]
    ranks = {
        name: np.array(
            [_rank(example, values) for example, values in zip(found, scores, strict=True) if example.present]
        )
        for name, scores in rankings.items()
    }
    return {
        name: {f"recall_at_{k}": round(float(np.average(places <= k, weights=weights)), 4) for k in (1, 8)}
        for name, places in ranks.items()
    }


def _by_fold(found: Sequence[Example], folds: np.ndarray, learn: Any) -> list[np.ndarray]:  # noqa: ANN401
    """Return the scores of each example's concepts by a model that did not see its fold."""
    scores: list[np.ndarray] = [np.zeros(0)] * len(found)
    for fold in np.unique(folds):
        score = learn([example for example, own in zip(found, folds, strict=True) if own != fold])
        for place in np.flatnonzero(folds == fold).tolist():
            scores[place] = score(found[place].pool)
    return scores


def _pointwise(found: Sequence[Example]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the signals of each concept, whether it is right, and the weight of its query."""
    return (
        np.concatenate([example.pool.features for example in found]),
        np.concatenate([example.right for example in found]),
        np.repeat([example.weight for example in found], [len(example.pool) for example in found]),
    )


def _pointwise_logistic(found: Sequence[Example]) -> Any:  # noqa: ANN401 - a function from pool to scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    signals, right, weight = _pointwise(found)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(signals, right, logisticregression__sample_weight=weight)
    return lambda pool: model.decision_function(pool.features)


def _pointwise_boosting(found: Sequence[Example]) -> Any:  # noqa: ANN401 - a function from pool to scores
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=0, **_GRADIENT_BOOSTING)
    model.fit(*_pointwise(found))
    return lambda pool: model.decision_function(pool.features)


def _rank(example: Example, scores: np.ndarray) -> int:
    """Return the rank of the best right concept; ties go by CUI, as in a mapping."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    places = np.flatnonzero(example.right[order])
    return 1 + int(places[0]) if len(places) else len(scores) + 1
