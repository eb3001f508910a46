"""Fitting the mapping model: its loss by hand and by finite differences, and that it finds a signal."""

import math
from dataclasses import replace

import numpy as np
import pytest
from demo import ATOMS, Atom, make_concepts, make_mapper, write_bundle, write_umls
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import approx_fprime, check_grad
from scipy.special import logsumexp

from deft.corpora.split import held_out
from deft.errors import InputError
from deft.index.build import build_index
from deft.index.manifest import OWN_MODEL
from deft.mapping import fit as module
from deft.mapping.fit import (
    Example,
    FitParams,
    FitQuery,
    GoldParams,
    compare,
    examples,
    fit,
    fit_index,
    read_fit_gold,
)
from deft.mapping.fusion import MappingModel
from deft.mapping.mapper import TermMapper
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.terminology.lexicon import GoldMapping

WIDTH = len(FEATURES) + len(NO_MATCH_FEATURES)
PARAMS = FitParams(gold=({"path": "g.tsv", "query": "q", "cui": "c"},), folds=3)


def example(features, right, group="C0000001", weight=1.0):
    """An example whose pool has the first signals given, the others 0."""
    features = np.asarray(features, dtype=float)
    whole = np.zeros((len(features), len(FEATURES)))
    whole[:, : features.shape[1]] = features
    pool = Pool(np.arange(len(features)), np.arange(len(features)), whole)
    right = np.array(right, dtype=bool)
    return Example(pool, right, group, weight, present=bool(right.any()))


def draw_examples(count, *, seed=0, weights=None, none=1.0):
    """Examples whose right concept is drawn from the model that is to be found."""
    generator = np.random.default_rng(seed)
    weights = np.zeros(len(FEATURES)) if weights is None else weights
    found = []
    for number in range(count):
        size = generator.integers(2, 12)
        features = generator.normal(size=(size, len(FEATURES)))
        scores = np.append(features @ weights, none)
        choice = generator.choice(size + 1, p=np.exp(scores - logsumexp(scores)))
        pool = Pool(np.arange(size), np.arange(size), features)
        right = np.arange(size) == choice
        found.append(Example(pool, right, f"C{number // 2:07d}", 1.0, present=bool(right.any())))
    return found


@given(
    st.lists(st.lists(st.one_of(st.floats(-700, 700), st.just(-np.inf)), min_size=1, max_size=5), min_size=1)
)
def test_grouped_is_the_logarithm_of_the_sum_of_exponentials(groups):
    sizes = np.array([len(group) for group in groups])
    values, owner = np.concatenate(groups), np.repeat(np.arange(len(groups)), sizes)
    grouped = module._grouped(values, np.cumsum(sizes) - sizes, owner)
    np.testing.assert_allclose(grouped, [logsumexp(group) for group in groups], rtol=1e-12, atol=1e-12)


def test_the_loss_by_hand():
    found = [
        example([[1.0], [2.0], [0.0]], [True, True, False], weight=2.0),
        example([[1.0], [3.0]], [False, False], weight=0.5),
    ]
    theta = np.zeros(WIDTH)
    theta[0], theta[len(FEATURES)] = 1.0, 0.5  # weight of the first signal, and the constant of "none"
    right = math.exp(1) + math.exp(2)
    answered = -math.log(right / (right + math.exp(0) + math.exp(0.5)))
    missing = -math.log(math.exp(0.5) / (math.exp(1) + math.exp(3) + math.exp(0.5)))
    expected = 2 * answered + 0.5 * missing + 3 / 2 * (1 + 0.25)
    assert module._Stack.of(found).loss(theta, 3.0)[0] == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_the_gradient_is_that_of_finite_differences(seed, scale):
    generator = np.random.default_rng(seed)
    found = [
        replace(
            own,
            right=generator.random(len(own.pool)) < generator.choice([0.0, 0.3, 1.0]),
            weight=float(generator.random()),
        )
        for own in draw_examples(25, seed=seed)
    ]
    stack, theta = module._Stack.of(found), generator.normal(size=WIDTH) * scale
    error = check_grad(
        lambda value: stack.loss(value, 0.7)[0], lambda value: stack.loss(value, 0.7)[1], theta, epsilon=1e-6
    )
    size = np.linalg.norm(approx_fprime(theta, lambda value: stack.loss(value, 0.7)[0], 1e-6))
    assert error < 1e-4 * max(1.0, size)


def test_weights_are_found_again():
    truth = np.zeros(len(FEATURES))
    truth[FEATURES.index("cosine")], truth[FEATURES.index("lexical")] = 2.0, -1.0
    model = module._fit_weights(draw_examples(3000, weights=truth, none=1.0), regularisation=1e-3)
    np.testing.assert_allclose(model.weights, truth, atol=0.2)
    constant = model.no_match[NO_MATCH_FEATURES.index("constant")]
    rest = np.delete(model.no_match, NO_MATCH_FEATURES.index("constant"))
    assert constant == pytest.approx(1.0, abs=0.8)
    np.testing.assert_allclose(rest, 0, atol=0.4)


def test_regularisation_makes_weights_small():
    found = draw_examples(100, weights=np.ones(len(FEATURES)))
    sizes = [np.linalg.norm(module._fit_weights(found, value).weights) for value in (0.01, 1.0, 100.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0] / 3


def test_signals_of_any_scale_are_weighed_alike():
    found = draw_examples(80, weights=np.ones(len(FEATURES)), seed=2)
    scale = np.ones(len(FEATURES))
    scale[FEATURES.index("names")] = 1000.0
    larger = [
        replace(own, pool=Pool(own.pool.concept, own.pool.atom, own.pool.features * scale)) for own in found
    ]
    plain, scaled = module._fit_weights(found, 1.0), module._fit_weights(larger, 1.0)
    np.testing.assert_allclose(scaled.weights * scale, plain.weights, atol=1e-3)


def test_a_signal_may_be_far_from_zero():
    """As the age of concepts is whose CUIs follow each other."""
    found = draw_examples(80, weights=np.ones(len(FEATURES)), seed=2)
    shift = np.zeros(len(FEATURES))
    shift[FEATURES.index("age")] = 1e5
    moved = [
        replace(own, pool=Pool(own.pool.concept, own.pool.atom, own.pool.features + shift)) for own in found
    ]
    plain, shifted = module._fit_weights(found, 1.0), module._fit_weights(moved, 1.0)
    np.testing.assert_allclose(shifted.weights, plain.weights, atol=1e-3)
    for own, far in zip(found, moved, strict=True):
        expected = plain.probabilities(own.pool)
        np.testing.assert_allclose(shifted.probabilities(far.pool), expected, atol=1e-2)


def test_a_signal_that_never_differs_does_no_harm():
    found = [example([[1.0, 5.0], [0.0, 5.0]], [True, False], f"C{place}") for place in range(9)]
    model = module._fit_weights(found, 1.0)
    assert np.isfinite([*model.weights, *model.no_match]).all()
    assert model.weights[0] > 0


def test_a_concept_stays_in_one_fold_and_folds_are_of_a_size():
    found = draw_examples(90)
    folds = module._folds(found, PARAMS)
    of_group = {}
    for own, fold in zip(found, folds, strict=True):
        assert of_group.setdefault(own.group, fold) == fold
    assert np.bincount(folds).tolist() == [30, 30, 30]
    assert (folds != module._folds(found, PARAMS.model_copy(update={"seed": 14}))).any()
    shuffled = module._folds(found[::-1], PARAMS)
    assert shuffled.tolist() == folds[::-1].tolist()  # the order of queries makes no difference


def test_what_scores_an_example_did_not_see_its_concept():
    found = draw_examples(60)
    folds = module._folds(found, PARAMS)
    asked = []

    def learn(train):
        groups = {own.group for own in train}
        return lambda pool: asked.append(groups) or np.full(len(pool), float(len(train)))

    scores = module._by_fold(found, folds, learn)
    assert [len(values) for values in scores] == [len(own.pool) for own in found]
    order = np.argsort(folds, kind="stable")
    for place, groups in zip(order, asked, strict=True):
        assert found[place].group not in groups


def test_the_calibration_undoes_too_much_confidence():
    generator = np.random.default_rng(0)
    found, probabilities = [], []
    for place in range(4000):
        odds = generator.normal()
        hit = generator.random() < 1 / (1 + math.exp(-(0.5 * odds - 0.3)))
        found.append(example([[0.0], [0.0]], [hit, False], f"C{place}"))
        probabilities.append(np.array([1 / (1 + math.exp(-odds)), 0.0]))
    slope, intercept = module._calibrate(found, probabilities)
    assert (slope, intercept) == (pytest.approx(0.5, abs=0.1), pytest.approx(-0.3, abs=0.1))


def test_the_calibration_looks_at_the_first_concept_only():
    found = [example([[0.0], [0.0]], right, f"C{place}") for place, right in enumerate([[1, 0], [0, 1]] * 50)]
    slope, intercept = module._calibrate(found, [np.array([0.7, 0.2])] * 100)
    assert 1 / (1 + math.exp(-(slope * math.log(7 / 3) + intercept))) == pytest.approx(0.5, abs=1e-3)


def test_the_calibration_leaves_out_what_the_encoder_learned_from():
    found = [example([[0.0]], [place % 2], f"C{place}") for place in range(100)]
    sure = [replace(own, right=np.array([True]), calibrate=False) for own in found]
    values = [np.array([0.7])] * 200
    assert module._calibrate([*found, *sure], values) == pytest.approx(module._calibrate(found, values[:100]))
    assert module._calibrate(sure, values[:100]) == (1.0, 0.0)  # there is nothing to go by


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
    scores = compare([*present, *absent], PARAMS)
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


def test_a_fitted_model_ranks_better_than_a_channel_where_both_tell_something():
    truth = np.zeros(len(FEATURES))
    truth[FEATURES.index("cosine")] = truth[FEATURES.index("lexical")] = 3.0
    scores = compare(draw_examples(300, weights=truth, none=-9.0), PARAMS)
    best = max(scores[name]["recall_at_1"] for name in ("dense", "lexical"))
    assert scores["conditional_logit"]["recall_at_1"] > best + 0.1


def test_fits_are_the_same_each_time():
    found = draw_examples(60, weights=np.ones(len(FEATURES)))
    one, other = fit(found, PARAMS), fit(found, PARAMS)
    assert one.weights.tolist() == other.weights.tolist()
    assert (one.slope, one.intercept) == (other.slope, other.intercept)
    assert one.slope > 0


@pytest.fixture(scope="module")
def atoms():
    letters = "abcdefghijklmnopqrstuvwxyz"
    more = [
        Atom(f"C00001{place:02d}", f"{letters[place]}{letters[-place]}{letters[place + 3]}ite chronique")
        for place in range(20)
    ]
    return [atom for atom in ATOMS if atom.suppress == "N"] + more


@pytest.fixture(scope="module")
def gold(atoms):
    return [
        FitQuery(GoldMapping(f"{atom.string} aigu", frozenset({atom.cui, "C0999999"})))
        for atom in atoms
        if atom.language == "FRE"
    ]


class TestExamples:
    @pytest.fixture(scope="class")
    @staticmethod
    def mapper(atoms):
        return make_mapper(make_concepts(atoms))

    @pytest.fixture(scope="class")
    @staticmethod
    def found(mapper, gold):
        return examples(mapper, gold, PARAMS)

    def test_each_query_is_seen_with_and_without_its_concept(self, mapper, found, gold):
        present = [own for own in found if own.present]
        absent = [own for own in found if not own.present]
        assert len(present) == len(absent) == len(gold)
        assert {own.weight for own in present} == {1 - PARAMS.no_match_share}
        assert {own.weight for own in absent} == {PARAMS.no_match_share}
        cuis = mapper.concepts.concepts["cui"].to_numpy()
        for own in found:
            pool = cuis[own.pool.concept]
            assert (pool == own.group).tolist() == own.right.tolist()
            assert own.right.any() == own.present

    def test_those_of_one_concept_go_together(self, found, mapper):
        sizes = {len(own.pool) for own in found if not own.present}
        count = len(mapper.concepts.concepts)
        assert sizes == {count - count // 2, count - (count - count // 2)}  # a half is missing at a time

    def test_pools_are_those_of_the_mapper(self, mapper, found, gold):
        (pool,) = mapper.pools([gold[3].gold.query])
        assert pool.features.tolist() == found[3].pool.features.tolist()

    def test_without_missing_concepts(self, mapper, gold):
        share = PARAMS.model_copy(update={"no_match_share": 0.0})
        found = examples(mapper, gold, share)
        assert len(found) == len(gold)
        assert all(own.present and own.weight == 1 for own in found)

    def test_weights_and_what_is_calibrated_come_from_the_file(self, mapper, gold):
        queries = [replace(gold[0], weight=3.0, calibrate=False), gold[1]]
        found = examples(mapper, queries, PARAMS)
        share = PARAMS.no_match_share
        assert sorted((own.weight, own.calibrate) for own in found) == [
            (pytest.approx(share), True),
            (pytest.approx(3 * share), False),
            (pytest.approx(1 - share), True),
            (pytest.approx(3 * (1 - share)), False),
        ]

    def test_queries_without_a_concept_in_the_index_are_left_out(self, mapper, gold):
        absent = FitQuery(GoldMapping("x", frozenset({"C0999999"})))
        assert len(examples(mapper, [absent, *gold[:4]], PARAMS)) == 8
        with pytest.raises(InputError, match="field gold: no query has its concept in the index"):
            examples(mapper, [absent], PARAMS)


class TestGold:
    @pytest.fixture
    def path(self, tmp_path):
        rows = [f"terme {place}\tC{place:07d}\tdoc{place}_1\t{'ab'[place % 2]}\n" for place in range(60)]
        (tmp_path / "g.tsv").write_text("q\tc\tdoc\tpart\n" + "".join(rows))
        return tmp_path / "g.tsv"

    def test_files_are_read_one_after_the_other(self, path):
        block = {"path": path, "query": "q", "cui": "c"}
        params = FitParams(gold=(block, block | {"where": {"part": "a"}}))
        rows = read_fit_gold(params)
        assert len(rows) == 60 + 30
        assert rows[0] == FitQuery(rows[0].gold, 1.0, calibrate=True)
        assert rows[0].gold.cuis == {"C0000000"}

    def test_documents_that_the_encoder_did_not_learn_from(self, path):
        block = GoldParams(path=path, query="q", cui="c", document="doc", share=0.4)
        rows = read_fit_gold(FitParams(gold=(block,)))
        taken = [row.gold.query for row in rows]
        assert taken == [f"terme {place}" for place in range(60) if held_out(f"doc{place}", 0.4)]
        changes = {"part": "others", "weight": 0.5, "calibrate": False}
        others = read_fit_gold(FitParams(gold=(block.model_copy(update=changes),)))
        assert {row.gold.query for row in others} == {f"terme {place}" for place in range(60)} - {*taken}
        assert {(row.weight, row.calibrate) for row in others} == {(0.5, False)}
        with pytest.raises(InputError, match="no column 'absent'"):
            read_fit_gold(FitParams(gold=(block.model_copy(update={"document": "absent"}),)))

    @pytest.mark.parametrize(
        "change", [{"gold": ()}, {"folds": 1}, {"no_match_share": 1}, {"regularisation": 0}, {"other": 1}]
    )
    def test_parameters_that_make_no_sense(self, change):
        with pytest.raises(ValidationError):
            FitParams(**({"gold": ({"path": "g", "query": "q", "cui": "c"},)} | change))


def test_an_index_gets_a_model_of_its_own(tmp_path, atoms, gold):
    umls = write_umls(tmp_path / "umls", atoms, types=[(atom.cui, "T047") for atom in atoms])
    index = tmp_path / "umls_index"
    encoder = write_bundle(tmp_path / "encoder")
    build_index(umls, encoder, index)
    lines = [f"{row.gold.query}\t{';'.join(sorted(row.gold.cuis))}\n" for row in gold]
    (tmp_path / "g.tsv").write_text("q\tc\n" + "".join(lines), encoding="utf-8")
    params = FitParams(gold=(GoldParams(path=tmp_path / "g.tsv", query="q", cui="c"),), folds=3)
    before = TermMapper.open(index).map([gold[0].gold.query])

    result = fit_index(index, params, tmp_path / "deep" / "model.json")
    assert TermMapper.open(index).map([gold[0].gold.query]) == before  # it went elsewhere
    assert result["queries"] == len(gold)
    assert set(result["rankings"]["conditional_logit"]) == {"recall_at_1", "recall_at_8"}
    assert fit_index(index, params) == result
    assert (index / OWN_MODEL).read_bytes() == (tmp_path / "deep" / "model.json").read_bytes()
    mapper = TermMapper.open(index)
    model = MappingModel.read(index / OWN_MODEL)
    assert mapper.model.weights.tolist() == model.weights.tolist()
    assert model.about == {"gold": ["g.tsv"], "encoder": mapper.encoder.fingerprint, **result}
    assert mapper.map([gold[0].gold.query]) != before
    hits = [
        mapping.best.cui in row.gold.cuis
        for mapping, row in zip(mapper.map([row.gold.query for row in gold]), gold, strict=True)
    ]
    assert np.mean(hits) > 0.8
    found, nothing = mapper.map([gold[8].gold.query, "9876543210 zzzz"])
    assert found.confidence > nothing.confidence
