"""The mapping model: probabilities by hand, and what is on disk."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deft.errors import InputError
from deft.mapping.fusion import EXPECTED_PRESENT, SHIPPED, SIGNALS, MappingModel, reciprocal_rank_fusion
from deft.mapping.kinds import Kinds
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.mapping.trees import Trees


def pool_of(**columns):
    """A pool with some signals; the others are 0."""
    count = len(next(iter(columns.values())))
    features = np.zeros((count, len(FEATURES)))
    for name, values in columns.items():
        features[:, FEATURES.index(name)] = values
    return Pool(np.arange(count), np.arange(count), features)


def model_of(weights=None, no_match=None, **options):
    weights, no_match = weights or {}, no_match or {}
    return MappingModel(
        np.array([weights.get(name, 0.0) for name in FEATURES]),
        np.array([no_match.get(name, 0.0) for name in NO_MATCH_FEATURES]),
        **options,
    )


def test_probabilities_by_hand():
    pool = pool_of(cosine=[0.5, 1.0], lexical=[1.0, 0.0])
    model = model_of({"cosine": 2, "lexical": 3}, {"constant": 1, "cosine": 0.5, "lexical": -1})
    assert model.scores(pool).tolist() == [4, 2]
    total = math.exp(4) + math.exp(2) + math.exp(1 + 0.5 - 1)
    assert model.probabilities(pool) == pytest.approx([math.exp(4) / total, math.exp(2) / total])


finite = st.floats(-50, 50)


@given(
    arrays(np.float64, st.tuples(st.integers(0, 6), st.just(len(FEATURES))), elements=finite),
    arrays(np.float64, len(FEATURES), elements=finite),
    arrays(np.float64, len(NO_MATCH_FEATURES), elements=finite),
)
def test_with_none_of_these_probabilities_sum_to_one(features, weights, no_match):
    pool = Pool(np.arange(len(features)), np.arange(len(features)), features)
    model = MappingModel(weights, no_match)
    probabilities = model.probabilities(pool)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    scores, none = model.scores(pool), float(pool.no_match @ no_match)
    parts = np.array([*scores, none])
    expected = np.exp(parts - parts.max()) / np.exp(parts - parts.max()).sum()
    np.testing.assert_allclose([*probabilities, 1 - probabilities.sum()], expected, atol=1e-9)
    assert (np.diff(probabilities[np.argsort(scores)]) >= -1e-15).all()


def test_equal_evidence_gives_equal_scores_whatever_the_order_of_sums():
    features = np.random.default_rng(0).normal(size=(40, len(FEATURES)))
    weights = np.random.default_rng(1).normal(size=len(FEATURES))
    model = MappingModel(weights, np.zeros(len(NO_MATCH_FEATURES)))
    whole = model.scores(Pool(np.arange(40), np.arange(40), features))
    alone = [model.scores(Pool(np.zeros(1), np.zeros(1), features[[row]]))[0] for row in range(40)]
    assert whole.tolist() == alone


TREES = Trees(
    np.zeros((1, 7), dtype=int),
    np.full((1, 7), 0.5),
    np.array([[-2.0] * 4 + [3.0] * 4]),  # by cosine, the first signal
    start=1.0,
)


def test_signals_by_hand():
    pool = replace(pool_of(cosine=[0.5, 0.9, 0.7], lexical=[0.25, 1.0, 0.0]), length=20)
    model = model_of({"cosine": 2, "lexical": 4}, {"constant": 3})
    signals = dict(zip(SIGNALS, model.signals(pool), strict=True))
    one, *others = (math.exp(score) for score in (5.8, 2.0, 1.4, 3.0))
    assert (signals["cosine"], signals["lexical"], signals["sources"]) == (0.9, 1.0, 0.0)
    assert signals["odds"] == pytest.approx(math.log(one / sum(others)), abs=1e-6)
    assert signals["odds_any"] == pytest.approx(math.log((one + sum(others[:2])) / math.exp(3)), abs=1e-6)
    assert signals["margin"] == pytest.approx(3.8)
    assert signals["cosine_margin"] == pytest.approx(0.2)
    assert signals["length"] == pytest.approx(math.log(20), abs=1e-6)


def test_signals_of_one_concept_alone_are_finite():
    signals = dict(zip(SIGNALS, model_of({"cosine": 1e4}).signals(pool_of(cosine=[1.0])), strict=True))
    assert np.isfinite([*signals.values()]).all()
    assert signals["margin"] == 10


def test_whether_any_concept_is_right_by_hand():
    for cosine, trees in ((0.4, -1.0), (0.9, 4.0)):
        pool = pool_of(cosine=[cosine])
        odds_any = cosine - 0.3
        model = model_of({"cosine": 1}, {"constant": 0.3}, trees=TREES, curve=(0.5, 2.0, -1.0))
        expected = 1 / (1 + math.exp(-(0.5 * trees + 2 * odds_any - 1)))
        assert model.match(pool, present=0.5) == pytest.approx(expected, abs=1e-6)


def test_the_share_that_is_expected_moves_the_odds():
    model, pool = model_of({"cosine": 1}, {"constant": 0.3}), pool_of(cosine=[0.4])
    odds = [model.match(pool, share) / (1 - model.match(pool, share)) for share in (0.5, 0.8, 0.1)]
    assert odds[1:] == pytest.approx([4 * odds[0], odds[0] / 9])
    assert model.match(pool) == model.match(pool, EXPECTED_PRESENT)


def test_kinds_are_not_told_from_the_vectors_of_another_encoder():
    kinds = Kinds(("DISO", "CHEM", "OTHER"), np.zeros((3, 2)), np.zeros(3))
    assert model_of(kinds=kinds).beside("one", 2).kinds is kinds
    fitted = model_of(kinds=kinds, about={"encoder": "one"})
    assert fitted.beside("one", 2) is fitted
    assert fitted.beside("another", 3).kinds is None
    with pytest.raises(InputError, match="tells kinds from 2 values, and a vector has 3"):
        fitted.beside("one", 3)


def test_nothing_matches_in_an_empty_pool():
    assert model_of(trees=TREES).match(pool_of(cosine=[])) == 0
    assert model_of().shares(pool_of(cosine=[])).tolist() == []


def test_by_default_the_conditional_logit_is_believed():
    pool = pool_of(cosine=[0.5, 1.0], lexical=[1.0, 0.0])
    model = model_of({"cosine": 2, "lexical": 3}, {"constant": 4})
    found = model.match(pool, present=0.5) * model.shares(pool)
    np.testing.assert_allclose(found, model.probabilities(pool), atol=1e-6)


@given(
    arrays(np.float64, st.tuples(st.integers(1, 6), st.just(len(FEATURES))), elements=finite),
    arrays(np.float64, len(FEATURES), elements=finite),
    st.floats(0.1, 10),
)
def test_shares_follow_the_scores_and_sum_to_one(features, weights, sharpness):
    pool = Pool(np.arange(len(features)), np.arange(len(features)), features)
    model = MappingModel(weights, np.zeros(len(NO_MATCH_FEATURES)), sharpness=sharpness)
    shares = model.shares(pool)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares[np.argsort(model.scores(pool))]) >= -1e-15).all()
    assert 0 <= model.match(pool) <= 1


@pytest.mark.filterwarnings("error")
def test_a_steep_curve_does_not_overflow():
    for constant, expected in ((-1e4, 0), (1e4, 1)):
        assert model_of(curve=(0.0, 0.0, constant)).match(pool_of(cosine=[1.0])) == pytest.approx(expected)


def test_reciprocal_rank_fusion_by_hand():
    pool = pool_of(cosine=[0.9, 0.5, 0.9], lexical=[0.1, 0.2, 0.3])
    # ranks 1, 3, 1 by cosine and 3, 2, 1 by lexical similarity
    expected = [1 / 61 + 1 / 63, 1 / 63 + 1 / 62, 1 / 61 + 1 / 61]
    assert reciprocal_rank_fusion(pool) == pytest.approx(expected)
    assert reciprocal_rank_fusion(pool, constant=0) == pytest.approx([1 + 1 / 3, 1 / 3 + 1 / 2, 2])


def test_a_model_survives_the_disk(tmp_path):
    generator = np.random.default_rng(3)
    model = MappingModel(
        generator.normal(size=len(FEATURES)),
        generator.normal(size=len(NO_MATCH_FEATURES)),
        TREES,
        (0.7, -0.2, 0.1),
        1.5,
        Kinds(("DISO", "CHEM", "OTHER"), np.array([[1.0, 0.25], [-3.5, 2], [0, 0]]), np.array([0.5, 1, 2])),
        {"a": [1]},
    )
    model.save(tmp_path / "m.json")
    again = MappingModel.read(tmp_path / "m.json")
    np.testing.assert_allclose(again.weights, model.weights, atol=1e-6)
    np.testing.assert_allclose(again.no_match, model.no_match, atol=1e-6)
    assert (again.curve, again.sharpness, again.about) == ((0.7, -0.2, 0.1), 1.5, {"a": [1]})
    assert again.trees.to_dict() == TREES.to_dict()
    assert again.kinds.to_dict() == model.kinds.to_dict() == {
        "DISO": [0.5, 1.0, 0.25], "CHEM": [1.0, -3.5, 2.0], "OTHER": [2.0, 0.0, 0.0]
    }  # fmt: skip
    again.save(tmp_path / "n.json")
    assert (tmp_path / "m.json").read_text() == (tmp_path / "n.json").read_text()


def test_signals_are_known_by_name(tmp_path):
    model = MappingModel(np.arange(len(FEATURES), dtype=float), np.zeros(len(NO_MATCH_FEATURES)))
    model.save(tmp_path / "m.json")
    values = json.loads((tmp_path / "m.json").read_text())
    values["weights"] = dict(reversed(values["weights"].items()))
    (tmp_path / "m.json").write_text(json.dumps(values))
    assert MappingModel.read(tmp_path / "m.json").weights.tolist() == list(range(len(FEATURES)))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values["weights"].pop("cosine"),
        lambda values: values["weights"].update(other=1.0),
        lambda values: values["no_match"].pop("constant"),
        lambda values: values.pop("sharpness"),
        lambda values: values.update(sharpness="much"),
        lambda values: values.pop("trees"),
        lambda values: values.update(trees={}),
        lambda values: values["curve"].pop("trees"),
        lambda values: values["signals"].reverse(),
        lambda values: values.update(weights=[1.0]),
        lambda values: values["weights"].update(cosine=None),
        lambda values: values.update(about=3),
        lambda values: values.pop("kinds"),
        lambda values: values.update(kinds={}),
        lambda values: values.update(kinds=[1]),
        lambda values: values.update(kinds={"DISO": [1.0, 2.0], "CHEM": [1.0]}),
        lambda values: values.update(kinds={"DISO": [1.0, None]}),
        lambda values: values.update(kinds={"DISO": 1.0}),
        lambda values: values.update(kinds={"DISO": []}),
        lambda values: values.update(kinds={"DISO": "123"}),
        lambda values: values.update(kinds={"DISO": [[1], [2]]}),
        lambda values: values.update(kinds={"DISO": [10**400, 1]}),
        lambda values: values.update(sharpness=float("nan")),
        lambda values: values["curve"].update(trees=float("inf")),
    ],
)
def test_a_model_of_another_version_is_refused(tmp_path, change):
    path = tmp_path / "mapping.json"
    model_of().save(path)
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    problem = r"mapping\.json: is no mapping model of this version of deft\. Make it anew: `deft fit`"
    with pytest.raises(InputError, match=problem):
        MappingModel.read(path)


def test_files_that_are_no_model(tmp_path):
    for content, problem in (
        ("[]", "is no mapping model"),
        ("{", "is not valid JSON"),
        (None, "cannot be read"),
    ):
        path = tmp_path / "m.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(InputError, match=problem):
            MappingModel.read(path)


def test_what_is_shipped_prefers_what_is_near():
    model = MappingModel.read(SHIPPED)
    near = {"cosine": [0.9, 0.3], "cosine_gap": [0, -0.6], "lexical": [0.9, 0.1], "lexical_gap": [0, -0.8]}
    scores = model.scores(pool_of(**near, same=[1, 0], exact=[1, 0], overlap=[1, 0], coverage=[1, 0]))
    assert scores[0] > scores[1]
    assert model.curve[0] > 0
    assert model.sharpness > 0
    assert np.isfinite([*model.weights, *model.no_match, *model.curve]).all()
    with pytest.raises(AttributeError):
        model.sharpness = 2
