"""Fit the mapping model: how much each signal weighs, and what a probability is worth.

Every query of the gold is seen twice: in the index as it is, and in one from which its concept is missing, so
that the model learns when to say "none of these". What is compared and what is calibrated is out of fold:
queries of one concept are in one fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from pydantic import Field
from scipy.optimize import minimize

from deft.config import Block
from deft.corpora.split import held_out
from deft.errors import InputError
from deft.index.manifest import OWN_MODEL
from deft.mapping.filters import ConceptFilter
from deft.mapping.fusion import MappingModel, reciprocal_rank_fusion
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.terminology.lexicon import GoldMapping, read_gold

if TYPE_CHECKING:
    from deft.mapping.mapper import TermMapper

_LEAST = 1e-9
_GRADIENT_BOOSTING = {"max_iter": 150, "learning_rate": 0.08, "max_leaf_nodes": 15, "min_samples_leaf": 40}


class GoldParams(Block):
    """A gold file to fit on.

    Attributes
    ----------
    path, query, cui
        Table with a column of queries and one of CUIs.
    where
        Values that a row must have.
    document, share, part
        Column of the document, and the share of documents that are held out from the encoder
        (`deft.corpora.split`); these are taken, or the others. All rows by default.
    weight
        Weight of a query of this file.
    calibrate
        Whether confidence is calibrated on it: not on what the encoder learned from, where it is surer than
        elsewhere.
    """

    path: Path
    query: str
    cui: str
    where: dict[str, str] = Field(default_factory=dict)
    document: str | None = None
    share: float = Field(default=1.0, gt=0, le=1)
    part: Literal["held_out", "others"] = "held_out"
    weight: float = Field(default=1.0, gt=0)
    calibrate: bool = True

    def takes(self, row: GoldMapping) -> bool:
        """Tell whether a row of the file is of the part that is taken."""
        return self.document is None or held_out(row.row[self.document], self.share) == (
            self.part == "held_out"
        )


class FitParams(Block):
    """How the mapping model is fitted.

    Attributes
    ----------
    gold
        Files that the evaluation does not use.
    no_match_share
        Weight of queries whose concept is missing from the index, among all.
    regularisation
        Of the squared weights of the standardised signals.
    folds, seed
        Of the cross-validation.
    """

    gold: tuple[GoldParams, ...] = Field(min_length=1)
    no_match_share: float = Field(default=0.05, ge=0, lt=1)
    regularisation: float = Field(default=1.0, gt=0)
    folds: int = Field(default=5, ge=2)
    seed: int = Field(default=13, ge=0)


@dataclass(frozen=True)
class FitQuery:
    """A gold query, its weight, and whether confidence is calibrated on it."""

    gold: GoldMapping
    weight: float = 1.0
    calibrate: bool = True


@dataclass(frozen=True)
class Example:
    """A query with its pool.

    Attributes
    ----------
    pool
        Concepts to choose from.
    right
        Which of them are right, bool of shape (concepts,); none if the concept is missing from the index.
    group
        What must stay in one fold: the gold concepts.
    weight
        Weight in the loss.
    present
        Whether the concept is in the index.
    calibrate
        Whether confidence is calibrated on it.
    """

    pool: Pool
    right: np.ndarray
    group: str
    weight: float
    present: bool
    calibrate: bool = True


def fit_index(
    index: Path, params: FitParams, out: Path | None = None, *, progress: bool = False
) -> dict[str, Any]:
    """Fit the mapping model of an index and write it.

    Parameters
    ----------
    index
        The index.
    params
        Gold to fit on, and how.
    out
        File to write; by default `mapping.json` in the index, which uses it from then on.
    progress
        Show progress on standard error.

    Returns
    -------
    dict
        `queries` of the gold with their concept in the index, and `rankings`: see `compare`.

    Raises
    ------
    InputError
        The index or a gold file cannot be read, or no query has its concept in the index.
    """
    from deft.mapping.mapper import TermMapper

    mapper = TermMapper.open(index)
    found = examples(mapper, read_fit_gold(params), params, progress=progress)
    result = {"queries": sum(example.present for example in found), "rankings": compare(found, params)}
    about = {"gold": [block.path.name for block in params.gold], "encoder": mapper.encoder.fingerprint}
    replace(fit(found, params), about=about | result).save(index / OWN_MODEL if out is None else out)
    return result


def read_fit_gold(params: FitParams) -> list[FitQuery]:
    """Read the gold of every file.

    Raises
    ------
    InputError
        A file is missing or malformed.
    """
    queries: list[FitQuery] = []
    for block in params.gold:
        columns = () if block.document is None else (block.document,)
        rows = read_gold(block.path, block.query, block.cui, where=block.where, columns=columns)
        queries += [FitQuery(row, block.weight, block.calibrate) for row in rows if block.takes(row)]
    return queries


def examples(
    mapper: TermMapper, queries: Sequence[FitQuery], params: FitParams, *, progress: bool = False
) -> list[Example]:
    """Make the examples of every gold query whose concept is in the index.

    Raises
    ------
    InputError
        No query has its concept in the index.
    """
    concepts = mapper.concepts
    current = [
        replace(query, gold=replace(query.gold, cuis=concepts.follow(query.gold.cuis) & concepts.cuis))
        for query in queries
    ]
    kept = [query for query in current if query.gold.cuis]
    if not kept:
        raise InputError("no query has its concept in the index.", field="gold")
    found = _examples(mapper, kept, ConceptFilter(), 1 - params.no_match_share, progress=progress)
    if params.no_match_share:
        for half in _halves(kept, params.seed):
            missing = ConceptFilter(exclude=frozenset(cui for query in half for cui in query.gold.cuis))
            found += _examples(mapper, half, missing, params.no_match_share, progress=progress)
    return found


def fit(found: Sequence[Example], params: FitParams) -> MappingModel:
    """Fit weights on all examples, and the calibration on what is out of fold."""
    folds = _folds(found, params)
    probabilities = _out_of_fold(found, folds, params)
    slope, intercept = _calibrate(found, probabilities)
    model = _fit_weights(found, params.regularisation)
    return replace(model, slope=slope, intercept=intercept)


def compare(found: Sequence[Example], params: FitParams) -> dict[str, dict[str, float]]:
    """Return recall@1 and recall@8 of rankings, out of fold, on the queries whose concept is in the index.

    The single channels, reciprocal rank fusion, the conditional logit of `fit`, and pointwise logistic
    regression and gradient boosting on the same signals.
    """
    folds = _folds(found, params)
    chosen = _by_fold(found, folds, lambda train: _fit_weights(train, params.regularisation).scores)
    rankings = {
        "dense": [example.pool.column("cosine") for example in found],
        "lexical": [example.pool.column("lexical") for example in found],
        "reciprocal_rank_fusion": [reciprocal_rank_fusion(example.pool) for example in found],
        "conditional_logit": chosen,
        "logistic_regression": _by_fold(found, folds, _pointwise_logistic),
        "gradient_boosting": _by_fold(found, folds, _pointwise_boosting),
    }
    ranks = {
        name: [
            _rank(example, values) for example, values in zip(found, scores, strict=True) if example.present
        ]
        for name, scores in rankings.items()
    }
    return {
        name: {f"recall_at_{k}": round(float(np.mean([rank <= k for rank in places])), 4) for k in (1, 8)}
        for name, places in ranks.items()
    }


def _examples(
    mapper: TermMapper, queries: Sequence[FitQuery], keep: ConceptFilter, weight: float, *, progress: bool
) -> list[Example]:
    cuis = mapper.concepts.concepts["cui"].to_numpy()
    pools = mapper.pools([query.gold.query for query in queries], keep=keep, progress=progress)
    return [
        Example(
            pool,
            np.isin(cuis[pool.concept], list(query.gold.cuis)),
            min(query.gold.cuis),
            weight * query.weight,
            present=keep == ConceptFilter(),
            calibrate=query.calibrate,
        )
        for query, pool in zip(queries, pools, strict=True)
        if len(pool)
    ]


def _halves(queries: Sequence[FitQuery], seed: int) -> tuple[list[FitQuery], list[FitQuery]]:
    """Split queries so that those of one concept are in one half."""
    groups = sorted({min(query.gold.cuis) for query in queries})
    chosen = set(np.random.default_rng(seed).permutation(groups)[: len(groups) // 2].tolist())
    first = [query for query in queries if min(query.gold.cuis) in chosen]
    return first, [query for query in queries if min(query.gold.cuis) not in chosen]


def _folds(found: Sequence[Example], params: FitParams) -> np.ndarray:
    """Return the fold of each example."""
    groups = sorted({example.group for example in found})
    shuffled = np.random.default_rng(params.seed).permutation(len(groups))
    fold = {group: int(place) % params.folds for group, place in zip(groups, shuffled, strict=True)}
    return np.array([fold[example.group] for example in found])


def _by_fold(found: Sequence[Example], folds: np.ndarray, learn: Any) -> list[np.ndarray]:  # noqa: ANN401
    """Return the scores of each example's concepts by a model that did not see its fold."""
    scores: list[np.ndarray] = [np.zeros(0)] * len(found)
    for fold in np.unique(folds):
        score = learn([example for example, own in zip(found, folds, strict=True) if own != fold])
        for place in np.flatnonzero(folds == fold).tolist():
            scores[place] = score(found[place].pool)
    return scores


def _out_of_fold(found: Sequence[Example], folds: np.ndarray, params: FitParams) -> list[np.ndarray]:
    return _by_fold(found, folds, lambda train: _fit_weights(train, params.regularisation).probabilities)


def _fit_weights(found: Sequence[Example], regularisation: float) -> MappingModel:
    """Maximise the regularised likelihood of the right concepts, or else of "none of these"."""
    stack = _Stack.of(found)
    centre, scale, none_scale = stack.features.mean(axis=0), _scale(stack.features), _scale(stack.none)
    # centred, for a signal may be far from 0 beside its spread, and the search would get nowhere
    stack = replace(stack, features=(stack.features - centre) / scale, none=stack.none / none_scale)
    start = np.zeros(len(FEATURES) + len(NO_MATCH_FEATURES))
    options = {"maxiter": 1000}
    # the stubs of scipy know no gradient of this type
    found_at = cast("Any", minimize)(
        stack.loss, start, (regularisation,), jac=True, method="L-BFGS-B", options=options
    )
    theta = found_at.x
    weights, no_match = theta[: len(FEATURES)] / scale, theta[len(FEATURES) :] / none_scale
    no_match[NO_MATCH_FEATURES.index("constant")] += weights @ centre  # what centring took off the others
    return MappingModel(weights, no_match)


@dataclass(frozen=True)
class _Stack:
    """Examples one below the other.

    Attributes
    ----------
    features, right, owner
        Of each concept: its signals, whether it is right, and the number of its example.
    none, weight, answered, starts
        Of each example: the signals of "none of these", its weight, whether a concept of it is right, and the
        row of its first concept.
    """

    features: np.ndarray
    right: np.ndarray
    owner: np.ndarray
    none: np.ndarray
    weight: np.ndarray
    answered: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Example]) -> _Stack:
        """Stack examples with a concept each, at least."""
        sizes = np.array([len(example.pool) for example in found])
        return cls(
            features=np.concatenate([example.pool.features for example in found]),
            right=np.concatenate([example.right for example in found]),
            owner=np.repeat(np.arange(len(found)), sizes),
            none=np.stack([example.pool.no_match for example in found]),
            weight=np.array([example.weight for example in found]),
            answered=np.array([bool(example.right.any()) for example in found]),
            starts=np.cumsum(sizes) - sizes,
        )

    def loss(self, theta: np.ndarray, regularisation: float) -> tuple[np.float64, np.ndarray]:
        """Return the regularised negative logarithm of the likelihood, and its gradient.

        `theta` holds the weights of the signals, then those of "none of these".
        """
        width = self.features.shape[1]
        score, outside = self.features @ theta[:width], self.none @ theta[width:]
        answer = _grouped(np.where(self.right, score, -np.inf), self.starts, self.owner)
        chosen = np.where(self.answered, answer, outside)
        total = np.logaddexp(_grouped(score, self.starts, self.owner), outside)
        share = np.exp(score - total[self.owner])
        among = np.where(self.answered, chosen, np.inf)[self.owner]
        own = np.where(self.right, np.exp(score - among), 0.0)
        slope = (self.weight[self.owner] * (share - own)) @ self.features
        missing = np.exp(outside - total) - ~self.answered
        gradient = np.concatenate([slope, (self.weight * missing) @ self.none]) + regularisation * theta
        value = (self.weight * (total - chosen)).sum() + regularisation / 2 * theta @ theta
        return np.float64(value), gradient


def _grouped(values: np.ndarray, starts: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the logarithm of the sum of exponentials of each example's values."""
    highest = np.maximum.reduceat(values, starts)
    highest = np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.add.reduceat(np.exp(values - highest[owner]), starts)) + highest)


def _scale(features: np.ndarray) -> np.ndarray:
    spread = features.std(axis=0)
    return np.asarray(np.where(spread > 0, spread, 1.0))


def _calibrate(found: Sequence[Example], probabilities: Sequence[np.ndarray]) -> tuple[float, float]:
    """Fit slope and intercept of a logistic curve from the first concept's log-odds to its being right."""
    chosen = [
        (example, values) for example, values in zip(found, probabilities, strict=True) if example.calibrate
    ]
    first = [int(np.argmax(values)) for _, values in chosen]
    best = np.array([values[place] for (_, values), place in zip(chosen, first, strict=True)])
    odds = np.log(np.clip(best, _LEAST, 1 - _LEAST) / (1 - np.clip(best, _LEAST, 1 - _LEAST)))
    hit = np.array([float(example.right[place]) for (example, _), place in zip(chosen, first, strict=True)])
    weight = np.array([example.weight for example, _ in chosen])

    def loss(theta: np.ndarray) -> np.float64:
        margin = theta[0] * odds + theta[1]
        return np.float64((weight * (np.logaddexp(0, margin) - hit * margin)).sum())

    slope, intercept = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(intercept)


def _pointwise(found: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.concatenate([example.pool.features for example in found]),
        np.concatenate([example.right for example in found]),
    )


def _pointwise_logistic(found: Sequence[Example]) -> Any:  # noqa: ANN401 - a function from pool to scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(*_pointwise(found))
    return lambda pool: model.decision_function(pool.features)


def _pointwise_boosting(found: Sequence[Example]) -> Any:  # noqa: ANN401 - a function from pool to scores
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(random_state=0, **_GRADIENT_BOOSTING).fit(*_pointwise(found))
    return lambda pool: model.decision_function(pool.features)


def _rank(example: Example, scores: np.ndarray) -> int:
    """Return the rank of the best right concept; ties go by CUI, as in a mapping."""
    order = np.lexsort((np.arange(len(scores)), -scores))
    places = np.flatnonzero(example.right[order])
    return 1 + int(places[0]) if len(places) else len(scores) + 1
