"""Fitting the mapping model: its loss by hand and by finite differences, and that it finds a signal."""

import math
from dataclasses import replace

import numpy as np
import pytest
from demo import ATOMS, Atom, draw_examples, example, make_concepts, make_mapper, write_bundle, write_umls
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import approx_fprime, check_grad
from scipy.special import logsumexp

from deft.corpora.split import held_out
from deft.errors import InputError
from deft.index.build import build_index
from deft.index.releases import OWN_MODEL
from deft.mapping import fit as module
from deft.mapping.fit import (
    FitParams,
    FitQuery,
    GoldParams,
    context_queries,
    examples,
    fit,
    fit_index,
    lay_queries,
    read_fit_gold,
    synonym_queries,
)
from deft.mapping.fusion import MappingModel
from deft.mapping.mapper import TermMapper
from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, Pool
from deft.terminology.lay import LAY
from deft.terminology.lexicon import GoldMapping
from deft.text import normalize

WIDTH = len(FEATURES) + len(NO_MATCH_FEATURES)
PARAMS = FitParams(gold=({"path": "g.tsv", "query": "q", "cui": "c"},), folds=3)


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
    model = module.fit_weights(draw_examples(3000, weights=truth, none=1.0), regularisation=1e-3)
    np.testing.assert_allclose(model.weights, truth, atol=0.2)
    constant = model.no_match[NO_MATCH_FEATURES.index("constant")]
    rest = np.delete(model.no_match, NO_MATCH_FEATURES.index("constant"))
    assert constant == pytest.approx(1.0, abs=0.8)
    np.testing.assert_allclose(rest, 0, atol=0.4)


def test_regularisation_makes_weights_small():
    found = draw_examples(100, weights=np.ones(len(FEATURES)))
    sizes = [np.linalg.norm(module.fit_weights(found, value).weights) for value in (0.01, 1.0, 100.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[0] / 3


def test_signals_of_any_scale_are_weighed_alike():
    found = draw_examples(80, weights=np.ones(len(FEATURES)), seed=2)
    scale = np.ones(len(FEATURES))
    scale[FEATURES.index("names")] = 1000.0
    larger = [
        replace(own, pool=Pool(own.pool.concept, own.pool.atom, own.pool.features * scale)) for own in found
    ]
    plain, scaled = module.fit_weights(found, 1.0), module.fit_weights(larger, 1.0)
    np.testing.assert_allclose(scaled.weights * scale, plain.weights, atol=1e-3)


def test_a_signal_may_be_far_from_zero():
    """As the age of concepts is whose CUIs follow each other."""
    found = draw_examples(80, weights=np.ones(len(FEATURES)), seed=2)
    shift = np.zeros(len(FEATURES))
    shift[FEATURES.index("age")] = 1e5
    moved = [
        replace(own, pool=Pool(own.pool.concept, own.pool.atom, own.pool.features + shift)) for own in found
    ]
    plain, shifted = module.fit_weights(found, 1.0), module.fit_weights(moved, 1.0)
    np.testing.assert_allclose(shifted.weights, plain.weights, atol=1e-3)
    for own, far in zip(found, moved, strict=True):
        expected = plain.probabilities(own.pool)
        np.testing.assert_allclose(shifted.probabilities(far.pool), expected, atol=1e-2)


def test_a_signal_that_never_differs_does_no_harm():
    found = [example([[1.0, 5.0], [0.0, 5.0]], [True, False], f"C{place}") for place in range(9)]
    model = module.fit_weights(found, 1.0)
    assert np.isfinite([*model.weights, *model.no_match]).all()
    assert model.weights[0] > 0


def test_a_concept_stays_in_one_fold_and_folds_are_of_a_size():
    found = draw_examples(90)
    folds = module.folds_of(found, PARAMS)
    of_group = {}
    for own, fold in zip(found, folds, strict=True):
        assert of_group.setdefault(own.group, fold) == fold
    assert np.bincount(folds).tolist() == [30, 30, 30]
    assert (folds != module.folds_of(found, PARAMS.model_copy(update={"seed": 14}))).any()
    shuffled = module.folds_of(found[::-1], PARAMS)
    assert shuffled.tolist() == folds[::-1].tolist()  # the order of queries makes no difference


class TestCurve:
    @staticmethod
    def fit(found, odds):
        return module._fit_curve(found, np.zeros(len(found)), np.asarray(odds))

    def test_it_undoes_too_much_confidence(self):
        generator = np.random.default_rng(0)
        odds = generator.normal(size=4000)
        hits = generator.random(4000) < 1 / (1 + np.exp(-(0.5 * odds - 0.3)))
        found = [example([[0.0], [0.0]], [False, hit], f"C{place}") for place, hit in enumerate(hits)]
        found = [replace(own, present=True) for own in found]
        trees, slope, constant = self.fit(found, odds)
        assert (trees, slope, constant) == (0, pytest.approx(0.5, abs=0.1), pytest.approx(-0.3, abs=0.1))

    @pytest.mark.parametrize("count", [10, 90])
    def test_half_of_the_queries_are_taken_to_have_an_answer(self, count):
        present = [example([[0.0]], [True], f"C{place}") for place in range(30)]
        absent = [replace(example([[0.0]], [False], f"C{place}"), draw=place // 10) for place in range(count)]
        _, _, constant = self.fit([*present, *absent], np.zeros(30 + count))
        assert constant == pytest.approx(0, abs=1e-2)

    def test_it_leaves_out_what_the_encoder_learned_from(self):
        found = [example([[0.0]], [place % 2], f"C{place}") for place in range(100)]
        sure = [replace(own, right=np.array([True]), calibrate=False) for own in found]
        values = np.linspace(-1, 1, 100)
        both = self.fit([*found, *sure], [*values, *values])
        assert both == pytest.approx(self.fit(found, values))
        # there is nothing else to go by
        again = self.fit(sure, values)
        assert again == pytest.approx(self.fit([replace(own, calibrate=True) for own in sure], values))

    @pytest.mark.parametrize("right", [True, False])
    def test_it_is_finite_where_all_is_alike(self, right):
        found = [example([[0.0]], [right], f"C{place}") for place in range(9)]
        assert np.isfinite(self.fit(found, np.ones(9))).all()


def test_sharpness_makes_the_first_share_how_often_it_is_right():
    weights = np.zeros(len(FEATURES))
    weights[0] = 1.0
    model = MappingModel(weights, np.zeros(len(NO_MATCH_FEATURES)))
    found = [example([[4.0], [0.0]], [place % 4 > 0, place % 4 == 0], f"C{place}") for place in range(80)]
    found += [example([[4.0], [0.0]], [False, False]) for _ in range(80)]  # nothing is right: no part in it
    sharpness = module._fit_sharpness(found, [model] * len(found))
    assert replace(model, sharpness=sharpness).shares(found[0].pool)[0] == pytest.approx(0.75, abs=1e-3)
    assert module._fit_sharpness(found[80:], [model] * 80) == 1.0


class TestTrees:
    @staticmethod
    def drawn(count):
        """Examples of which any concept is right where the first signal is middling: no line tells that."""
        generator = np.random.default_rng(1)
        values = generator.uniform(-1, 1, size=count)
        found = [example([[value]], [abs(value) < 0.5], f"C{n}") for n, value in enumerate(values)]
        return found, np.stack([values, generator.normal(size=count)], axis=1)

    def test_they_find_what_no_line_tells_also_out_of_fold(self):
        found, signals = self.drawn(900)
        trees, log_odds = module._fit_trees(found, signals, np.arange(900) % 3, seed=0)
        right = np.array([own.right.any() for own in found])
        assert ((log_odds > 0) == right).mean() > 0.95
        assert ((trees(signals) > 0) == right).mean() > 0.95
        assert (log_odds != trees(signals)).any()

    def test_missing_concepts_weigh_as_much_as_the_others(self):
        found, signals = self.drawn(900)
        light = [replace(own, weight=1.0 if own.present else 0.01) for own in found]
        folds = np.arange(900) % 3
        one, other = (module._fit_trees(kind, signals, folds, seed=0)[0] for kind in (found, light))
        np.testing.assert_allclose(one(signals), other(signals), atol=1e-4)

    def test_there_are_none_on_few_examples(self):
        found, signals = self.drawn(150)
        trees, log_odds = module._fit_trees(found, signals, np.arange(150) % 3, seed=0)
        assert trees is None
        assert not log_odds.any()


def test_fits_are_the_same_each_time():
    found = draw_examples(60, weights=np.ones(len(FEATURES)))
    one, other = fit(found, PARAMS), fit(found, PARAMS)
    assert one.weights.tolist() == other.weights.tolist()
    assert (one.curve, one.sharpness) == (other.curve, other.sharpness)


def test_only_the_first_draw_counts_for_the_ranking():
    found = draw_examples(60, weights=np.ones(len(FEATURES)))
    more = [replace(own, draw=1) for own in draw_examples(60, seed=1)]
    assert fit([*found, *more], PARAMS).weights.tolist() == fit(found, PARAMS).weights.tolist()


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
        assert len(present) == len(gold)
        assert [own.draw for own in absent] == [draw for draw in range(3) for _ in gold]
        assert {own.draw for own in present} == {0}
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
        found = module.first_draw(examples(mapper, queries, PARAMS))
        share = PARAMS.no_match_share
        assert sorted((own.weight, own.calibrate) for own in found) == [
            (pytest.approx(share), True),
            (pytest.approx(3 * share), False),
            (pytest.approx(1 - share), True),
            (pytest.approx(3 * (1 - share)), False),
        ]

    def test_queries_without_a_concept_in_the_index_have_no_answer(self, mapper, gold):
        absent = FitQuery(GoldMapping("x", frozenset({"C0999999"})))
        found = examples(mapper, [absent, *gold[:4]], PARAMS)
        assert len(found) == 4 * (1 + PARAMS.draws) + 1
        (own,) = (example for example in found if example.group == "no answer to x")
        assert not own.present
        assert not own.right.any()
        assert own.weight == PARAMS.no_match_share
        everywhere = examples(mapper, [absent, *gold[:4]], PARAMS.model_copy(update={"no_match_share": 0}))
        assert len(everywhere) == 4
        with pytest.raises(InputError, match="field gold: no query has its concept in the index"):
            examples(mapper, [absent], PARAMS)


class TestSynonyms:
    """Strings of the index as queries."""

    @pytest.fixture(scope="class")
    @staticmethod
    def concepts():
        synonyms = [
            Atom(f"C00002{place:02d}", f"{kind} {letter}{letter}", preferred=kind == "nom")
            for place, letter in enumerate("abcdefghijkl")
            for kind in ("nom", "mot", "terme")
        ]
        shared = [Atom("C0000300", "nom m"), Atom("C0000300", "TERME  aa", preferred=False)]
        return make_concepts([*synonyms, *shared, Atom("C0000301", "seul")])

    @staticmethod
    def params(**changes):
        return FitParams(**({"held_out_synonyms": 100, "folds": 3} | changes))

    def test_a_query_does_not_answer_for_itself(self, concepts):
        queries, answers = synonym_queries(concepts, self.params())
        left = {normalize(text) for text in concepts.strings["string"][answers]}
        names = {normalize(name) for name in concepts.concepts["name"]}
        assert len({own.gold.query for own in queries}) == len(queries) >= 12
        for own in queries:
            assert normalize(own.gold.query) not in left | names
        assert names <= left
        mapper = make_mapper(concepts)
        cuis = concepts.concepts["cui"].to_numpy()
        for own in examples(mapper, queries, self.params(), strings=answers):
            assert not own.pool.column("same").any()
            assert own.right.any() == own.present
            assert own.group in cuis[own.pool.concept[own.right]] or not own.present

    def test_who_has_the_string_is_right(self, concepts):
        for seed in range(9):
            queries, _ = synonym_queries(concepts, self.params(seed=seed))
            right = {normalize(own.gold.query): own.gold.cuis for own in queries}
            if "terme aa" in right:
                assert right["terme aa"] == {"C0000200", "C0000300"}
                return
        raise AssertionError

    def test_as_many_as_asked_for_and_the_same_each_time(self, concepts):
        queries, answers = synonym_queries(concepts, self.params(held_out_synonyms=4))
        again, same = synonym_queries(concepts, self.params(held_out_synonyms=4))
        assert len(queries) == 4
        assert queries == again
        assert answers.tolist() == same.tolist()
        assert queries != synonym_queries(concepts, self.params(held_out_synonyms=4, seed=1))[0]

    def test_concepts_of_an_evaluation_take_no_part(self, concepts, tmp_path):
        closed = {f"C00002{place:02d}" for place in range(6)}
        (tmp_path / "gold.csv").write_text("Code\n" + "\n".join(sorted(closed)) + "\n")
        params = self.params(held_out=(tmp_path / "gold.csv",), held_out_cui_column="Code")
        queries, answers = synonym_queries(concepts, params)
        assert len(queries) == 6
        found = examples(make_mapper(concepts), queries, params, strings=answers)
        cuis = concepts.concepts["cui"].to_numpy()
        for own in found:
            assert closed.isdisjoint(cuis[own.pool.concept])
            assert own.group not in closed
        assert closed.isdisjoint(cui for own in queries for cui in own.gold.cuis)

    def test_a_string_that_a_concept_of_the_evaluation_has_too_is_no_query(self, concepts, tmp_path):
        (tmp_path / "gold.csv").write_text("CUI\nC0000300\n")
        for seed in range(9):
            queries, _ = synonym_queries(concepts, self.params(held_out=(tmp_path / "gold.csv",), seed=seed))
            assert "terme aa" not in {normalize(own.gold.query) for own in queries}


class TestLayQueries:
    """A lay phrase is a query whose concept has no lay phrase left."""

    @pytest.fixture(scope="class")
    @staticmethod
    def concepts():
        def said(cui, phrase, relation="exact"):
            return Atom(cui, phrase, preferred=False, term_type=LAY, code=relation)

        named = [Atom(f"C00002{place:02d}", f"nom {letter}") for place, letter in enumerate("abcdef")]
        lay = [said(atom.cui, f"{word} {atom.string}") for atom in named[:4] for word in ("dit", "appele")]
        vague = [said(atom.cui, "chose", "broader") for atom in named]
        return make_concepts([*named, *lay, *vague, said("C0000205", "special", "narrower")])

    @staticmethod
    def params(**changes):
        return FitParams(**({"held_out_lay": 3, "held_out_lay_weight": 0.5, "folds": 3} | changes))

    def test_no_phrase_of_its_concept_answers(self, concepts):
        for seed in range(9):
            queries, answers = lay_queries(concepts, self.params(seed=seed))
            assert len(queries) == 3
            left, gone = set(concepts.strings["string"][answers]), set(concepts.strings["string"][~answers])
            for own in queries:
                (cui,) = own.gold.cuis
                name = next(iter(concepts.names([cui], "FRE")[cui]))
                assert own.gold.query != "chose"
                assert own.weight == 0.5
                assert not own.calibrate
                assert name in left
                assert own.gold.query in gone
                assert cui == "C0000205" or gone >= {f"dit {name}", f"appele {name}"}
            assert not any(text.startswith("nom") for text in gone)
            assert len([text for text in left if text.startswith(("dit", "appele"))]) >= 2
            found = examples(make_mapper(concepts), queries, self.params(), strings=answers)
            assert not any(own.pool.column("same").any() for own in found)
            assert any(own.right.any() for own in found)

    def test_all_concepts_with_a_phrase_of_their_own_if_there_are_fewer(self, concepts):
        queries, _ = lay_queries(concepts, self.params(held_out_lay=99))
        assert {cui for own in queries for cui in own.gold.cuis} == {
            *(f"C000020{place}" for place in range(4)),
            "C0000205",
        }

    def test_concepts_of_an_evaluation_take_no_part(self, concepts, tmp_path):
        (tmp_path / "gold.csv").write_text("CUI\nC0000200\nC0000205\n")
        params = self.params(held_out_lay=99, held_out=(tmp_path / "gold.csv",))
        queries, answers = lay_queries(concepts, params)
        assert {cui for own in queries for cui in own.gold.cuis} == {f"C000020{place}" for place in (1, 2, 3)}
        assert {"nom a", "dit nom a", "special"} <= set(concepts.strings["string"][~answers])

    def test_an_index_without_phrases(self):
        with pytest.raises(InputError, match="no lay phrases"):
            lay_queries(make_concepts(ATOMS), self.params())


class TestContextQueries:
    """Beside a query stands what laypeople say for its concept, or for another."""

    @pytest.fixture(scope="class")
    @staticmethod
    def concepts():
        lay = [Atom(f"C00002{place:02d}", f"dit {letter}", preferred=False, term_type=LAY, code="exact")
               for place, letter in enumerate("abcdef")]  # fmt: skip
        return make_concepts([*(Atom(atom.cui, atom.string.replace("dit", "nom")) for atom in lay), *lay])

    def test_right_ones_and_some_that_mislead(self, concepts):
        gold = [
            FitQuery(GoldMapping(f"terme {place}", frozenset({f"C00002{place:02d}"})), 2.0)
            for place in range(6)
        ]
        absent = FitQuery(GoldMapping("rien", frozenset()))
        strings = np.ones(len(concepts.strings), dtype=bool)
        queries, answers = context_queries(
            concepts, [*gold, absent], strings, FitParams(held_out_lay=1, context_weight=0.5)
        )
        right, misled = queries[:6], queries[6:]
        assert [own.context for own in right] == [f"dit {letter}" for letter in "abcdef"]
        assert {(own.weight, own.calibrate) for own in queries} == {(1.0, False)}
        assert [own.gold.query for own in misled] == ["terme 0", "terme 3"]
        assert {own.context for own in misled} == {"dit a", "dit d"}
        left = set(concepts.strings["string"][answers])
        assert left == {f"nom {letter}" for letter in "abcdef"}
        assert strings.all()
        found = examples(make_mapper(concepts), queries, FitParams(held_out_lay=1, folds=2), strings=answers)
        assert all(own.pool.column("context").any() for own in found)


class TestWithoutAnswer:
    """Queries whose concept no index has, and queries written wrong."""

    @pytest.fixture
    def params(self, tmp_path):
        (tmp_path / "g.tsv").write_text("q\tc\nrhume banal\tC0000001\ninconnu\tC0999999\n")
        (tmp_path / "a.tsv").write_text("t\tgroup\ncertificat\tOTHER\nparacétamol\tCHEM\n\t\n")
        return FitParams(
            gold=({"path": tmp_path / "g.tsv", "query": "q", "cui": "c", "weight": 2},),
            absent=({"path": tmp_path / "a.tsv", "query": "t", "weight": 0.5},),
            noise_weight=0.1,
            draws=1,
        )

    def test_all_are_examples(self, params):
        queries = read_fit_gold(params)
        plain, wrong = queries[:4], queries[4:]
        assert [(own.gold.query, own.weight) for own in plain] == [
            ("rhume banal", 2), ("inconnu", 2), ("certificat", 0.5), ("paracétamol", 0.5),
        ]  # fmt: skip
        assert [round(own.weight, 9) for own in wrong] == [0.2, 0.2, 0.05, 0.05]
        for own, other in zip(plain, wrong, strict=True):
            assert own.gold.query != other.gold.query
            assert own.gold.cuis == other.gold.cuis
        found = examples(make_mapper(make_concepts(ATOMS)), queries, params)
        present = [own for own in found if own.present]
        assert {own.group for own in present} == {"C0000001"}
        nowhere = {own.group for own in found if own.group.startswith("no answer to ")}
        assert {"no answer to inconnu", "no answer to certificat", "no answer to paracetamol"} <= nowhere
        assert not any(own.right.any() for own in found if own.group in nowhere)

    def test_some_are_drawn_and_none_is_a_string_of_the_index(self, params):
        drawn = params.model_copy(
            update={"held_off": 2, "capitals": 3, "drawn_weight": 0.25, "noise_weight": 0}
        )
        queries = read_fit_gold(drawn)[4:]
        assert {(own.weight, own.drawn, own.gold.cuis) for own in queries} == {(0.25, True, frozenset())}
        off, letters = queries[:2], queries[2:]
        assert all("rhume banal" in own.gold.query or "inconnu" in own.gold.query for own in off)
        assert all(own.gold.query.isupper() for own in letters)
        named = FitQuery(GoldMapping("Rhume", frozenset()), drawn=True)
        there = FitQuery(GoldMapping("rhume", frozenset({"C0000001"})))
        found = examples(make_mapper(make_concepts(ATOMS)), [there, named, *off], drawn)
        groups = {own.group for own in found if own.group.startswith("no answer to ")}
        assert groups == {f"no answer to {normalize(own.gold.query)}" for own in off}

    def test_kinds_of_weights_are_balanced(self):
        found = [
            *(example([[1.0]], [True], "C1", weight=3.0) for _ in range(2)),
            *(example([[1.0]], [False], "C1", weight=0.1) for _ in range(5)),
            *(example([[1.0]], [False], "no answer to x", weight=7.0) for _ in range(4)),
        ]
        weight = module._balanced(found)
        assert weight.sum() == pytest.approx(len(found))
        assert weight[:2].sum() == pytest.approx(weight[2:].sum())
        assert weight[7:].sum() == pytest.approx(2 * weight[2:7].sum())

    def test_kinds_come_from_files_and_from_the_index(self, params, tmp_path):
        concepts = make_concepts(ATOMS, [(cui, "T047") for cui in {atom.cui for atom in ATOMS}])
        mapper = make_mapper(concepts)
        assert module.fit_kinds(mapper, params) is None
        (tmp_path / "d.tsv").write_text("n\tw\nibuprofène\tx\naspirine\tx\nautre\ty\n")
        kinds = (
            {"path": tmp_path / "a.tsv", "query": "t", "group": "group"},
            {"path": tmp_path / "d.tsv", "query": "n", "always": "CHEM", "where": {"w": "x"}, "most": 1},
        )
        chosen = FitParams(**params.model_dump() | {"kinds": kinds, "kinds_of_index": 3})
        assert module.fit_kinds(mapper, chosen).groups == ("CHEM", "DISO", "OTHER")
        terms = module._terms_of_kind(chosen.kinds[1], 3)
        assert len(terms) == 1
        assert set(terms) <= {("ibuprofène", "CHEM"), ("aspirine", "CHEM")}

    def test_a_file_says_the_group_one_way(self):
        for says in ({}, {"group": "g", "always": "CHEM"}):
            with pytest.raises(ValidationError, match="column of the group or the group of all"):
                module.KindParams(path="a.tsv", query="t", **says)


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
        "change",
        [
            {"gold": ()},
            {"draws": 0},
            {"folds": 1},
            {"no_match_share": 1},
            {"regularisation": 0},
            {"other": 1},
        ],
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

    result = fit_index(index, params, tmp_path / "deep" / "model.json", compare=lambda found, _: len(found))
    assert TermMapper.open(index).map([gold[0].gold.query]) == before  # it went elsewhere
    assert result["queries"] == len(gold)
    assert result["rankings"] >= result["queries"]
    assert fit_index(index, params) == {"queries": result["queries"]}
    fit_index(index, params, compare=lambda found, _: len(found))
    assert (index / OWN_MODEL).read_bytes() == (tmp_path / "deep" / "model.json").read_bytes()
    mapper = TermMapper.open(index)
    model = MappingModel.read(index / OWN_MODEL)
    assert mapper.model.weights.tolist() == model.weights.tolist()
    about = {
        "gold": ["g.tsv"],
        "held_out_synonyms": 0,
        "held_out_lay": 0,
        "encoder": mapper.encoder.fingerprint,
    }
    assert model.about == about | result
    assert mapper.map([gold[0].gold.query]) != before
    hits = [
        mapping.best.cui in row.gold.cuis
        for mapping, row in zip(mapper.map([row.gold.query for row in gold]), gold, strict=True)
    ]
    assert np.mean(hits) > 0.8
    found, nothing = mapper.map([gold[8].gold.query, "9876543210 zzzz"])
    assert found.confidence > nothing.confidence

    (index / OWN_MODEL).write_text("{}")  # of another version
    assert fit_index(index, params)["queries"] == result["queries"]
    assert TermMapper.open(index).model.weights.tolist() == model.weights.tolist()


def test_an_index_is_fitted_on_its_own_strings(tmp_path, atoms):
    umls = write_umls(tmp_path / "umls", atoms, types=[(atom.cui, "T047") for atom in atoms])
    index = tmp_path / "umls_index"
    build_index(umls, write_bundle(tmp_path / "encoder"), index)
    result = fit_index(index, FitParams(held_out_synonyms=9, folds=2))
    assert result["queries"] == 5  # concepts that have another name
    assert TermMapper.open(index).model.about["held_out_synonyms"] == 9
