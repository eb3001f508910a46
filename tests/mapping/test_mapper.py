"""The mapper against brute force over every string, and its promises."""

import json
import logging
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, replace
from itertools import permutations
from multiprocessing import get_context

import numpy as np
import pytest
from demo import (
    ATOMS,
    DEFINITIONS,
    TYPES,
    Atom,
    FakeEncoder,
    make_concepts,
    make_mapper,
    make_model,
    write_bundle,
    write_lines,
    write_umls,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.exchange.curated import read_curated
from deft.index.build import build_index
from deft.index.dense import quantize_vectors
from deft.index.manifest import NAME
from deft.index.releases import OWN_MODEL, current_release
from deft.mapping import fusion
from deft.mapping import mapper as module
from deft.mapping.filters import ConceptFilter
from deft.mapping.fusion import EXPECTED_PRESENT, SHIPPED, MappingModel
from deft.mapping.mapper import TermMapper
from deft.mapping.pool import FEATURES, VARIANT_TRUST
from deft.mapping.query import understand
from deft.mapping.results import Candidate, Mapping
from deft.text import normalize

WORDS = (
    "rhume",
    "cœur",
    "douleurs",
    "des",
    "membre",
    "aigu",
    "fièvre",
    "gauche",
    "rein",
    "crise",
    "tête",
    "à",
)
KINDS = ("T047", "T023", "T061", "T184")


class TableEncoder(FakeEncoder):
    """An encoder that knows the vectors of its texts by heart."""

    def __init__(self, vectors):
        self._vectors = vectors
        self.dimension = len(next(iter(vectors.values())))

    def encode(self, texts, *, alone=False, progress=False):
        return np.stack([self._vectors[text] for text in texts]).astype(np.float32)


def unit(vector):
    vector = np.asarray(vector, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def cosines_to(vectors, query):
    """Cosines of a query to vectors as an index keeps them."""
    kept = quantize_vectors(vectors).astype(np.float64)
    lengths = np.sqrt((kept * kept).sum(axis=1))
    return np.round((kept * query.astype(np.float64)).sum(axis=1) / lengths, 6)


def mapper_of(atoms, vectors):
    """A mapper over (string, CUI) pairs."""
    concepts = make_concepts([Atom(cui, string) for string, cui in atoms])
    return make_mapper(concepts, TableEncoder(vectors))


def oracle(atoms, vectors, query, k):
    """The k nearest concepts, found by looking at every string."""
    best = {}
    for string, cui in dict.fromkeys(atoms):
        cosine = cosines_to(vectors[string][None, :], vectors[query])[0]
        best[cui] = max(best.get(cui, -2), cosine)
    return sorted(((-cosine, cui) for cui, cosine in best.items()))[:k]


def answer(mapping):
    return [(-candidate.score, candidate.cui) for candidate in mapping.candidates]


def cuis(mapping):
    return [candidate.cui for candidate in mapping.candidates]


class Doubter(FakeEncoder):
    """An encoder that knows no word."""

    words = frozenset()


class TestSlips:
    """A term is also read as what is written alike would write it."""

    ATOMS = (Atom("C0000001", "volvulus"), Atom("C0000002", "strabisme"), Atom("C0000003", "vulve"))

    def test_the_reading_is_the_answer(self):
        mapper = make_mapper(make_concepts(self.ATOMS), Doubter())
        assert [(variant.text, variant.rule) for variant in mapper.read("Vlvulus").variants] == [
            ("volvulus", "spelling")
        ]
        found = mapper.map(["Vlvulus"])[0].best
        assert (found.cui, found.match) == ("C0000001", "lexical")
        assert found.cosine == pytest.approx(VARIANT_TRUST, abs=1e-4)

    @pytest.mark.parametrize(
        ("term", "name"),
        [
            ("hypermagnésémie", "hypomagnésémie"),
            ("protéinémie", "protéinurie"),
            ("H1N1", "H5N1"),
            ("délétion 22q11", "délétion 22q13"),
        ],
    )
    def test_another_word_is_no_slip(self, term, name):
        mapper = make_mapper(make_concepts((Atom("C0000001", name),)), Doubter())
        assert mapper.read(term).mended == ""

    def test_what_may_not_answer_mends_nothing(self):
        mapper = make_mapper(make_concepts(self.ATOMS), Doubter())
        keep = ConceptFilter(exclude=("C0000001",))
        assert mapper.map(["Vlvulus"])[0].best.lexical == VARIANT_TRUST
        assert mapper.map(["Vlvulus"], keep=keep)[0].best.lexical < 0.5

    def test_words_that_the_encoder_knows_stay(self):
        mapper = make_mapper(make_concepts(self.ATOMS))
        assert mapper.read("Vlvulus").variants == ()

    def test_a_term_cannot_be_empty(self):
        with pytest.raises(InputError, match="term 1 is empty"):
            make_mapper(make_concepts(self.ATOMS)).read(" ")


class TestContexts:
    """What stands beside a term is one more signal."""

    ATOMS = (Atom("C0000001", "crise"), Atom("C0000001", "cœur arrêté"), Atom("C0000002", "crise"),
             Atom("C0000002", "secousses du corps"))  # fmt: skip

    @pytest.fixture(scope="class")
    @staticmethod
    def mapper():
        model = make_model()
        model.weights[FEATURES.index("context")] = 9.0
        return make_mapper(make_concepts(TestContexts.ATOMS), model=model)

    def test_it_tells_apart_what_the_term_does_not(self, mapper):
        terms, contexts = ["crise"] * 3, ["cœur arrêté", "secousses du corps", ""]
        found = [mapping.best.cui for mapping in mapper.map(terms, contexts=contexts)]
        assert found == ["C0000001", "C0000002", mapper.map(["crise"])[0].best.cui]

    def test_nothing_beside_it_changes_nothing(self, mapper):
        assert mapper.map(["crise"], contexts=[" "]) == mapper.map(["crise"])

    @pytest.mark.parametrize(
        ("contexts", "problem"),
        [
            (["a", "b"], "1 terms were given and 2 contexts"),
            ("a", "contexts must be a list of strings"),
            ([None], "contexts must be a list of strings"),
        ],
    )
    def test_there_is_one_a_term(self, mapper, contexts, problem):
        with pytest.raises(InputError, match=problem):
            mapper.map(["crise"], contexts=contexts)
        with pytest.raises(InputError, match=problem):
            list(mapper.pools(["crise"], contexts=contexts))

    def test_it_leads_away_from_no_name(self, mapper):
        atoms = (*self.ATOMS, Atom("C0000003", "doigts longs"))
        mapper = make_mapper(make_concepts(atoms), model=mapper.model)
        (pool,) = mapper.pools(["cœur arrêté"], contexts=["doigts longs"])
        named = pool.column("same") == 1
        assert named.any()
        assert pool.column("context").max() == pool.column("context")[named].max()

    def test_it_does_not_say_whether_anything_is_right(self, mapper):
        (alone,), (beside,) = (mapper.map(["crise"], contexts=[text]) for text in ("", "cœur arrêté"))
        assert alone.no_match == beside.no_match

    def test_single_channels_do_not_look_at_it(self, mapper):
        for channel in ("dense", "lexical"):
            options = {"channel": channel, "k": 9}
            with_it = mapper.map(["crise"], contexts=["secousses du corps"], **options)
            ranked = [candidate.cui for candidate in with_it[0].candidates]
            assert ranked == [candidate.cui for candidate in mapper.map(["crise"], **options)[0].candidates]

    def test_its_neighbours_are_in_the_pool(self):
        far = [Atom(f"C00001{place:02d}", f"crise {place}") for place in range(3)]
        mapper = make_mapper(make_concepts([*self.ATOMS, *far]))
        (alone,) = mapper.pools(["une crise"])
        (beside,) = mapper.pools(["une crise"], contexts=["secousses du corps"])
        assert not alone.column("context").any()
        assert beside.column("context").max() == pytest.approx(1, abs=1e-4)
        assert beside.column("context_gap").max() == 0


def test_the_more_concepts_are_expected_the_surer():
    confidence = []
    for share in (0.05, 0.5, 0.95):
        mapper = make_mapper(make_concepts(ATOMS), expected_present=share)
        (mapping,) = mapper.map(["crise cardiaque"], k=99)
        confidence.append(mapping.confidence)
        total = mapping.no_match + sum(candidate.confidence for candidate in mapping.candidates)
        assert total == pytest.approx(1, abs=1e-4)
    assert confidence == sorted(set(confidence))
    for share in (0, 1, -0.5):
        with pytest.raises(InputError, match="expected_present"):
            make_mapper(make_concepts(ATOMS), expected_present=share)


lattice = st.tuples(*[st.integers(-1, 1)] * 3).filter(any).map(unit)


@given(st.data(), st.integers(1, 12))
def test_exact_with_ties_and_shared_strings(data, k):
    count = data.draw(st.integers(1, 90))
    vectors = {f"s{place}": data.draw(lattice) for place in range(count)}
    some = st.sampled_from([f"C000000{number}" for number in range(9)])
    owners = data.draw(st.lists(st.sets(some, min_size=1, max_size=3), min_size=count, max_size=count))
    atoms = [(string, cui) for string, own in zip(vectors, owners, strict=True) for cui in sorted(own)]
    vectors["query"] = data.draw(lattice)
    (mapping,) = mapper_of(atoms, vectors).map(["query"], k=k, channel="dense")
    assert answer(mapping) == oracle(atoms, vectors, "query", k)
    for candidate in mapping.candidates:
        assert (candidate.matched, candidate.cui) in atoms
        cosine = float(vectors[candidate.matched].astype(float) @ vectors["query"].astype(float))
        assert candidate.cosine == candidate.score == pytest.approx(cosine, abs=1e-6)
    assert [candidate.rank for candidate in mapping.candidates] == list(range(1, len(mapping.candidates) + 1))


@pytest.mark.parametrize("seed", range(8))
def test_exact_where_single_precision_is_not(seed):
    generator = np.random.default_rng(seed)
    base = generator.standard_normal(64)
    vectors = {f"s{place}": unit(base + generator.standard_normal(64) * 2e-3) for place in range(600)}
    atoms = [(string, f"C{place:07d}") for place, string in enumerate(vectors)]
    vectors["query"] = unit(base)
    (mapping,) = mapper_of(atoms, vectors).map(["query"], k=10, channel="dense")
    assert answer(mapping) == oracle(atoms, vectors, "query", 10)


def test_one_concept_with_more_strings_than_are_fetched_at_first():
    vectors = {f"s{place:03d}": unit([1, place / 1e4]) for place in range(300)} | {"far": unit([0, 1])}
    atoms = [(string, "C0000001") for string in vectors if string != "far"] + [("far", "C0000002")]
    vectors["query"] = unit([1, 0])
    mapper = mapper_of(atoms, vectors)
    for channel in ("dense", "fused"):
        (mapping,) = mapper.map(["query"], k=2, channel=channel)
        assert cuis(mapping) == ["C0000001", "C0000002"]
        assert mapping.candidates[0].matched == "s000"


@pytest.fixture(scope="module")
def world():
    """Eighty concepts with names of a few words, in two languages and two sources, of four types."""
    generator = np.random.default_rng(5)
    atoms = []
    for number in range(160):
        words = generator.choice(WORDS, size=generator.integers(1, 4))
        cui = f"C{generator.integers(80):07d}"
        language, source = ("FRE", "ENG")[number % 3 == 0], ("X", "Y")[number % 4 == 0]
        atoms.append(Atom(cui, " ".join(words), language, source, preferred=bool(number % 2)))
    types = [(atom.cui, KINDS[int(atom.cui[1:]) % 4]) for atom in atoms]
    return make_concepts(atoms, types)


phrases = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join)
filters = st.builds(
    ConceptFilter,
    languages=st.sampled_from([(), ("FRE",), ("ENG",), ("FRE", "ENG")]),
    sources=st.sampled_from([(), ("X",), ("Y",)]),
    semantic_types=st.sampled_from([(), ("T047",), ("T023", "T061")]),
    semantic_groups=st.sampled_from([(), ("DISO",), ("PROC",)]),
    exclude=st.frozensets(st.integers(0, 79).map("C{:07d}".format), max_size=30),
)


def passes(mapper, atom, keep):
    concept = mapper.concepts.concepts.iloc[atom.concept]
    groups = {"T047": "DISO", "T184": "DISO", "T023": "ANAT", "T061": "PROC"}
    own = set(concept.semantic_types.split(";"))
    wanted = {tui for tui in own if tui in keep.semantic_types or groups[tui] in keep.semantic_groups}
    return (
        (not keep.languages or atom.language in keep.languages)
        and (not keep.sources or atom.source in keep.sources)
        and (not keep.semantic_types + keep.semantic_groups or bool(wanted))
        and concept.cui not in keep.exclude
    )


def similarities(mapper, term, channel):
    """The similarity of each string to a query, the best over its variants."""
    query = understand(term)
    texts = [query.text, *(variant.text for variant in query.variants)]
    trust = np.array([1.0, *[VARIANT_TRUST] * len(query.variants)])[:, None]
    strings = mapper.concepts.strings["string"].to_list()
    if channel == "lexical":
        values = [mapper._lexical.similarity(text, np.arange(len(strings))) for text in texts]
    else:
        vectors = mapper.encoder.encode(strings)
        values = [cosines_to(vectors, query) for query in mapper.encoder.encode(texts)]
    return np.round((trust * values).max(axis=0), 6)


def brute_force(mapper, term, channel, keep):
    """Every concept that passes, with its best similarity."""
    values = similarities(mapper, term, channel)
    best = {}
    for atom in mapper.concepts.atoms.itertuples():
        if passes(mapper, atom, keep) and (channel == "dense" or values[atom.string] > 0):
            cui = mapper.concepts.concepts["cui"].iloc[atom.concept]
            best[cui] = max(best.get(cui, -2.0), float(values[atom.string]))
    return sorted((-value, cui) for cui, value in best.items())


@pytest.mark.parametrize("channel", ["dense", "lexical"])
@pytest.mark.parametrize("depth", [3, 100])
@settings(max_examples=25)
@given(term=phrases, keep=filters, k=st.sampled_from([1, 2, 5, 17, 200]))
def test_a_channel_is_exact_with_any_filter(world, channel, depth, term, keep, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_DEPTH", depth)
        mapper = make_mapper(world)
        expected = brute_force(mapper, term, channel, keep)
        if not any(passes(mapper, atom, keep) for atom in world.atoms.itertuples()):
            with pytest.raises(InputError, match="no atom of the index passes the filters"):
                mapper.map([term], k, channel=channel, keep=keep)
            return
        (mapping,) = mapper.map([term], k, channel=channel, keep=keep)
    assert answer(mapping) == expected[:k]
    for candidate in mapping.candidates:
        assert not keep.languages or candidate.language in keep.languages
        assert not keep.sources or candidate.source in keep.sources


@given(term=phrases, keep=filters)
def test_the_fused_ranking_holds_what_passes_the_filter_only(world, term, keep):
    mapper = make_mapper(world)
    if not any(passes(mapper, atom, keep) for atom in world.atoms.itertuples()):
        return
    (mapping,) = mapper.map([term], 200, keep=keep)
    expected = {cui for _, cui in brute_force(mapper, term, "dense", keep)}
    assert set(cuis(mapping)) <= expected
    assert len(mapping.candidates) >= min(100, len(expected)) * 0.9  # of 160 strings, 100 come in
    scores = [candidate.score for candidate in mapping.candidates]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) <= 1 + 1e-5
    for candidate in mapping.candidates:
        assert 0 <= candidate.confidence <= 1
        row = world.strings.index[world.strings["string"] == candidate.matched][0]
        found = world.atoms[(world.atoms["string"] == row) & (world.atoms["source"] == candidate.source)]
        assert world.row_of(candidate.cui) in set(found["concept"])


@pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
@pytest.mark.parametrize("depth", [3, 20, 100])
@settings(max_examples=15)
@given(term=phrases, keep=filters, k=st.integers(1, 90))
def test_a_larger_k_only_adds_to_the_end(world, channel, depth, term, keep, k):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_DEPTH", depth)
        mapper = make_mapper(world)
        if not any(passes(mapper, atom, keep) for atom in world.atoms.itertuples()):
            return
        few, many = (mapper.map([term], number, channel=channel, keep=keep)[0] for number in (k, 200))
    assert few == replace(many, candidates=many.candidates[:k])
    total = many.no_match + sum(candidate.confidence for candidate in many.candidates)
    assert total == pytest.approx(1, abs=1e-4) or channel != "fused"


@pytest.mark.parametrize("channel", ["dense", "lexical"])
def test_ties_beyond_what_is_fetched_at_first_go_by_concept(monkeypatch, channel):
    monkeypatch.setattr(module, "_DEPTH", 3)
    strings = [" ".join(words) for words in permutations(("rhume", "aigu", "rein", "os"))]  # all alike
    vectors = dict.fromkeys([*strings, "rhume aigu"], unit([1, 1]))
    atoms = [(string, f"C{99 - place:07d}") for place, string in enumerate(strings)]
    (mapping,) = mapper_of(atoms, vectors).map(["rhume aigu"], 2, channel=channel)
    assert cuis(mapping) == ["C0000076", "C0000077"]


def test_an_unknown_channel_is_named(built):
    with pytest.raises(InputError, match=r"no channel is called best\. They are fused, dense, lexical"):
        TermMapper.open(built).map(["rhume"], channel="best")


def test_more_concepts_asked_for_than_there_are(built):
    assert len(TermMapper.open(built).map(["rhume"], k=100)[0].candidates) == 6


def test_ties_go_by_cui(built):
    (mapping,) = TermMapper.open(built).map(["rhume"], k=2, channel="dense")
    assert answer(mapping) == [(pytest.approx(-1, abs=1e-4), cui) for cui in ("C0000001", "C0000002")]
    assert {candidate.matched for candidate in mapping.candidates} == {"rhume"}


def test_what_a_candidate_tells(built):
    (mapping,) = TermMapper.open(built).map([" Heart\tattack"], k=1, channel="dense")
    assert mapping.query == " Heart\tattack"
    told = asdict(mapping.best)
    assert 0.5 < told.pop("confidence") < 1
    assert told == {
        "rank": 1,
        "cui": "C0000003",
        "name": "infarctus du myocarde",
        "matched": "heart attack",
        "language": "ENG",
        "source": "OTHER",
        "term_type": "PT",
        "semantic_types": ("T047",),
        "definition": "Nécrose d'une partie du muscle cardiaque.",
        "match": "normalised",
        "cosine": pytest.approx(1, abs=1e-4),
        "lexical": 1.0,
        "score": pytest.approx(1, abs=1e-4),
        "relation": "",
    }
    json.dumps(mapping.as_dict())


def test_how_a_string_matched(mapper):
    found = mapper.map(["céphalée", "CEPHALEE, SAI", "crise cardiaqe", "zzz"], k=6)
    assert [mapping.best.match for mapping in found] == ["exact", "normalised", "lexical", "semantic"]
    for mapping in found:
        for candidate in mapping.candidates:
            same = normalize(candidate.matched) == normalize(mapping.query)
            assert same == (candidate.match in {"exact", "normalised"})


@pytest.fixture(scope="module")
def mapper(built):
    return TermMapper.open(built)


TERMS = st.lists(
    st.one_of(
        st.text("abcdeéà '-", min_size=1, max_size=80).filter(str.strip),
        st.sampled_from([atom.string for atom in ATOMS]),
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
@given(terms=TERMS, random=st.randoms(use_true_random=False))
def test_the_same_alone_in_a_batch_and_in_any_order(mapper, channel, terms, random):
    together = mapper.map(terms, k=3, channel=channel)
    assert together == [mapper.map([term], k=3, channel=channel)[0] for term in terms]
    shuffled = random.sample(terms, len(terms))
    assert mapper.map(shuffled, k=3, channel=channel) == [together[terms.index(term)] for term in shuffled]


def test_batches_make_no_difference(world, monkeypatch):
    mapper = make_mapper(world)
    terms = [" ".join(WORDS[start : start + 3]) for start in range(9)]
    whole = mapper.map(terms, 8)
    monkeypatch.setattr(module, "_BATCH", 2)
    assert mapper.map(terms * 2, 8) == whole * 2


def test_strings_that_differ_in_nothing_the_encoder_sees_do_not_change_places(world):
    """At the last place of what is fetched, single precision would choose by the company of a query."""
    words = [f"mot{place}" for place in range(30)]
    atoms = [
        Atom(f"C{10 * place + number:07d}", f"{word}{' ' * number}{'.' * number}")
        for place, word in enumerate(words)
        for number in range(10)
    ]

    class Blind(FakeEncoder):
        dimension = 64

        def encode(self, texts, *, alone=False, progress=False):
            return super().encode([text.rstrip(" .") for text in texts])

    mapper = make_mapper(make_concepts(atoms), Blind())
    together = mapper.map(words, 200)
    assert together == [mapper.map([word], 200)[0] for word in words]


def test_calls_from_several_threads_give_the_same_answers(world):
    terms = [" ".join(WORDS[start : start + 2]) for start in range(10)]
    expected = make_mapper(world).map(terms, 8)
    mapper = make_mapper(replace(world))  # nothing is cached yet
    groups = ["DISO", "", "ANAT", "", "PROC"] * 2
    in_groups = make_mapper(world).map(terms, 8, groups=groups)
    with ThreadPoolExecutor(8) as pool:
        plain = [pool.submit(mapper.map, terms, 8) for _ in range(8)]
        grouped = [pool.submit(mapper.map, terms, 8, groups=groups) for _ in range(8)]
    assert all(task.result() == expected for task in plain)
    assert all(task.result() == in_groups for task in grouped)


def test_no_term_gives_no_mapping(built):
    assert TermMapper.open(built).map([]) == []


def test_thresholds(built):
    mapper = TermMapper.open(built)
    for channel in ("fused", "dense"):
        (whole,) = mapper.map(["rhume"], k=6, channel=channel)
        scores = [candidate.score for candidate in whole.candidates]
        assert scores == sorted(scores, reverse=True)
        for threshold in (-1.0, scores[2], scores[2] + 1e-6, 1.0):
            kept = tuple(candidate for candidate in whole.candidates if candidate.score >= threshold)
            assert whole.at(threshold).candidates == kept
            assert mapper.map(["rhume"], k=6, threshold=threshold, channel=channel) == [whole.at(threshold)]
        assert whole.at(1.1) == replace(whole, candidates=(), ambiguous=False)
        assert whole.at(1.1).best is None
        assert len(whole.candidates) == 6  # it did not change


def test_least_confidence(built):
    mapper = TermMapper.open(built)
    (whole,) = mapper.map(["crise cardiaque"], k=6)
    confidence = whole.confidence
    assert 0 < confidence == whole.best.confidence < 1
    for least in (0.0, confidence):
        assert whole.at(min_confidence=least) == whole
        assert mapper.map(["crise cardiaque"], k=6, min_confidence=least) == [whole]
    none = replace(whole, candidates=())
    for least in (confidence + 1e-6, 1.0):
        assert whole.at(min_confidence=least) == none
        assert mapper.map(["crise cardiaque"], k=6, min_confidence=least) == [none]
    assert none.confidence == 0.0
    assert whole.at(whole.best.score, min_confidence=confidence).candidates == whole.candidates[:1]


@given(term=phrases)
@pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
def test_with_no_match_all_confidences_sum_to_one(world, channel, term):
    model = MappingModel.read(SHIPPED)
    (mapping,) = make_mapper(world, model=model).map([term], 200, channel=channel)
    confidence = [candidate.confidence for candidate in mapping.candidates]
    assert 0 <= mapping.no_match <= 1
    assert mapping.no_match + sum(confidence) == pytest.approx(1, abs=1e-4)  # each is rounded
    assert mapping.confidence + mapping.no_match <= 1 + 1e-9
    if channel == "fused":
        assert max(confidence) == mapping.confidence
    assert mapping.at(2.0).no_match == mapping.no_match


def test_what_is_like_nothing_in_the_index_is_likelier_no_match(mapper):
    for known, unknown in (("céphalée", "zzz zzz"), ("crise cardiaque", "qqqq")):
        found = mapper.map([known, unknown])
        assert found[0].no_match < found[1].no_match


def test_a_string_of_two_concepts_is_ambiguous(mapper):
    ambiguous, plain, other = mapper.map(["rhume", "céphalée", "RHUME"], k=3)
    assert ambiguous.ambiguous
    assert other.ambiguous
    assert not plain.ambiguous
    assert mapper.map(["rhume"], k=1)[0].ambiguous  # also when the other is not shown
    assert not mapper.map(["rhume"], keep=ConceptFilter(exclude=frozenset({"C0000002"})))[0].ambiguous
    assert not ambiguous.at(2.0).ambiguous
    assert not ambiguous.at(min_confidence=1.0).ambiguous


def test_ambiguity_is_that_of_the_string_also_if_the_other_concept_has_a_nearer_one():
    vectors = {"query": unit([1, 0]), "s": unit([0.9, 0.4]), "t": unit([0.95, 0.3])}
    weights = np.array([float(name == "sources") for name in fusion.FEATURES])
    atoms = [Atom("C0000001", "s", source=source) for source in ("X", "Y")]
    atoms += [Atom("C0000002", "s"), Atom("C0000002", "t")]
    model = MappingModel(weights, np.zeros(len(fusion.NO_MATCH_FEATURES)))
    (mapping,) = make_mapper(make_concepts(atoms), TableEncoder(vectors), model=model).map(["query"])
    assert [candidate.matched for candidate in mapping.candidates] == ["s", "t"]
    assert mapping.ambiguous


class TestGroups:
    TERMS = ("rhume", "cœur", "céphalée", "rhume")

    def test_each_term_has_its_own(self, mapper):
        found = mapper.map(self.TERMS, k=9, groups=["DISO", "ANAT", "", " PROC"])
        plain = mapper.map(self.TERMS, k=9)
        assert cuis(found[1]) == ["C0000004"]
        assert found[2] == plain[2]
        assert cuis(found[3]) == ["C0000005"]
        assert set(cuis(found[0])) == {"C0000001", "C0000002", "C0000003", "C0000006"}
        alone = [
            mapper.map([term], k=9, groups=[group])[0]
            for term, group in zip(self.TERMS, ("DISO", "ANAT", "", "PROC"), strict=True)
        ]
        assert found == alone

    def test_a_group_that_the_index_does_not_have_gives_no_match(self, mapper):
        first, second = mapper.map(["rhume", "rhume"], groups=["GEOG", ""])
        assert first == Mapping("rhume", (), no_match=1.0)
        assert second.candidates

    def test_groups_go_with_filters(self, mapper):
        (mapping,) = mapper.map(["heart"], k=9, groups=["DISO"], keep=ConceptFilter(languages=("ENG",)))
        assert set(cuis(mapping)) == {"C0000001", "C0000003", "C0000006"}
        assert {candidate.language for candidate in mapping.candidates} == {"ENG"}

    def test_bad_groups(self, mapper):
        with pytest.raises(InputError, match=r"no semantic group is called XYZ\. The groups are ACTI, ANAT"):
            mapper.map(["rhume"], groups=["XYZ"])
        with pytest.raises(InputError, match="2 terms were given and 1 groups"):
            mapper.map(["rhume", "cœur"], groups=["DISO"])


def curated(path, *rows):
    write_lines(path, ["query\tcui\tdecision", *("\t".join(row) for row in rows)])
    return path


@pytest.fixture(scope="module")
def historic(bundle, tmp_path_factory):
    """An index whose release knows retired concepts."""
    folder = tmp_path_factory.mktemp("historic")
    umls = write_umls(folder / "umls", ATOMS, TYPES, DEFINITIONS)
    lines = [
        ("C0000091", "C0000092"),
        ("C0000092", "C0000004"),
        ("C0000093", "C0000094"),
        ("C0000094", "C0000093"),
    ]
    write_lines(umls / "MRCUI.RRF", [f"{cui}|2020AA|SY|||{target}|Y|" for cui, target in lines])
    build_index(umls, bundle, folder / "umls_index")
    return folder / "umls_index"


class TestCurated:
    @pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
    def test_what_is_accepted_comes_first(self, built, tmp_path, channel):
        path = curated(
            tmp_path / "c.tsv", ("RHUMES, SAI", "C0000005", "accept"), ("Rhume", "C0000005", "accept")
        )
        mapper, plain = TermMapper.open(built, curated=read_curated(path)), TermMapper.open(built)
        (mapping,) = mapper.map(["rhume."], k=3, channel=channel)
        (without,) = plain.map(["rhume."], k=2, channel=channel)
        best = mapping.best
        assert (best.cui, best.match, best.score, best.confidence) == ("C0000005", "curated", 1.0, 1.0)
        assert best.cosine < 0.9
        assert cuis(mapping)[1:] == cuis(without)
        assert not mapping.ambiguous
        assert mapping.no_match == 0
        assert mapper.map(["rhume."], threshold=1.0, min_confidence=1.0, channel=channel)[0].best == best
        assert mapper.map(["céphalée"], channel=channel) == plain.map(["céphalée"], channel=channel)

    def test_several_may_be_accepted(self, built, tmp_path):
        rows = [("rhume", cui, "accept") for cui in ("C0000005", "C0000002", "C0000004")]
        (mapping,) = TermMapper.open(built, curated=read_curated(curated(tmp_path / "c.tsv", *rows))).map(
            ["rhume"], k=4
        )
        assert set(cuis(mapping)[:3]) == {"C0000005", "C0000002", "C0000004"}
        assert cuis(mapping)[3] == "C0000001"
        matches = [candidate.match for candidate in mapping.candidates]
        assert matches == ["curated"] * 3 + ["exact"]

    @pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
    def test_what_is_rejected_never_comes_back(self, built, tmp_path, channel):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000001", "reject"))
        mapper = TermMapper.open(built, curated=read_curated(path))
        for k in (1, 2, 9):
            (mapping,) = mapper.map(["Rhume"], k=k, channel=channel)
            (without,) = TermMapper.open(built).map(["Rhume"], k=k + 1, channel=channel)
            assert cuis(mapping) == [cui for cui in cuis(without) if cui != "C0000001"][:k]
            assert not mapping.ambiguous

    def test_a_rejected_concept_leaves_no_gap_whatever_the_number_of_its_strings(self, tmp_path):
        vectors = {f"s{place:03d}": unit([1, place / 1e4]) for place in range(150)} | {"far": unit([0, 1])}
        atoms = [Atom("C0000001", string) for string in vectors if string != "far"]
        vectors["query"] = unit([1, 0])
        path = curated(tmp_path / "c.tsv", ("query", "C0000001", "reject"))
        for channel in ("dense", "fused"):
            mapper = make_mapper(
                make_concepts([*atoms, Atom("C0000002", "far")]),
                TableEncoder(vectors),
                curated=read_curated(path),
            )
            assert cuis(mapper.map(["query"], 1, channel=channel)[0]) == ["C0000002"]

    def test_retired_concepts_are_followed(self, historic, tmp_path, caplog):
        path = curated(
            tmp_path / "c.tsv", ("rhume", "C0000091", "accept"), ("céphalée", "C0000091", "reject")
        )
        mapper = TermMapper.open(historic, curated=read_curated(path))
        first, second = mapper.map(["rhume", "céphalée"], k=9)
        assert (first.best.cui, first.best.match) == ("C0000004", "curated")
        assert "C0000004" not in cuis(second)
        assert len(second.candidates) == 5
        assert not caplog.messages

    @pytest.mark.parametrize(
        ("rows", "accepted"),
        [
            ((("C0000004", "accept"), ("C0000091", "reject")), True),
            ((("C0000092", "reject"), ("C0000091", "accept")), True),  # both are retired
            ((("C0000091", "accept"), ("C0000004", "reject")), False),
        ],
    )
    def test_decisions_that_meet_in_one_concept(self, historic, tmp_path, caplog, rows, accepted):
        path = curated(tmp_path / "c.tsv", *(("rhume", *row) for row in rows))
        mapper = TermMapper.open(historic, curated=read_curated(path))
        (message,) = caplog.messages
        assert all(part in message for part in (str(path), rows[0][0], rows[1][0]))
        assert "rhume" not in message  # no text of a query is logged
        assert message.endswith(
            f"C0000004 is {'accepted' if accepted else 'rejected'}. Delete one of the two lines."
        )
        (mapping,) = mapper.map(["rhume"], k=9)
        assert ("C0000004" in cuis(mapping)) == accepted
        assert (mapping.best.cui == "C0000004") == (mapping.best.match == "curated") == accepted
        (followed,) = {cui for cui, decision in rows if decision == "accept"}
        retired = accepted and followed != "C0000004"
        assert mapping.note == (f"{followed} was retired and is now C0000004." if retired else "")

    def test_concepts_that_are_not_there_are_named_and_the_rest_is_used(self, historic, tmp_path, caplog):
        path = curated(
            tmp_path / "c.tsv",
            ("rhume", "C0000099", "accept"),
            ("rhume", "C0000005", "accept"),
            ("rhume", "C0000093", "reject"),  # its history goes round in circles
        )
        mapper = TermMapper.open(historic, curated=read_curated(path))
        assert caplog.messages == [
            f"{path}:{line}: {cui} is not in the index; the line has no effect."
            for line, cui in ((2, "C0000099"), (4, "C0000093"))
        ]
        assert mapper.map(["rhume"])[0].best.cui == "C0000005"
        assert len(caplog.messages) == 2

    def test_filters_hold_for_accepted_concepts_too(self, built, tmp_path):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000005", "accept"))
        mapper, plain = TermMapper.open(built, curated=read_curated(path)), TermMapper.open(built)
        for options in ({"groups": ["DISO"]}, {"keep": ConceptFilter(exclude=frozenset({"C0000005"}))}):
            assert mapper.map(["rhume"], **options) == plain.map(["rhume"], **options)

    def test_an_accepted_concept_is_the_answer_and_the_others_are_not(self, built, tmp_path):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000004", "accept"), ("rhume", "C0000005", "accept"))
        (mapping,) = TermMapper.open(built, curated=read_curated(path)).map(["rhume"], k=9)
        confidence = {candidate.cui: candidate.confidence for candidate in mapping.candidates}
        assert confidence == dict.fromkeys(confidence, 0.0) | {"C0000004": 1.0, "C0000005": 1.0}
        assert len(confidence) == 6
        assert mapping.no_match == 0

    def test_the_part_of_a_rejected_concept_goes_to_the_rest(self, built, tmp_path):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000001", "reject"))
        (mapping,) = TermMapper.open(built, curated=read_curated(path)).map(["rhume"], k=9)
        (plain,) = TermMapper.open(built).map(["rhume"], k=9)
        before = {candidate.cui: candidate.confidence for candidate in plain.candidates}
        left = 1 - before.pop("C0000001")
        after = {candidate.cui: candidate.confidence for candidate in mapping.candidates}
        assert after == {cui: pytest.approx(value / left, abs=1e-5) for cui, value in before.items()}
        assert mapping.no_match == pytest.approx(plain.no_match / left, abs=1e-5)

    def test_pools_know_nothing_of_them(self, built, tmp_path):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000001", "reject"))
        (pool,) = TermMapper.open(built, curated=read_curated(path)).pools(["rhume"])
        (plain,) = TermMapper.open(built).pools(["rhume"])
        np.testing.assert_array_equal(pool.concept, plain.concept)
        np.testing.assert_array_equal(pool.features, plain.features)

    def test_a_file_that_is_malformed(self, built, tmp_path):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000001", "perhaps"))
        with pytest.raises(InputError, match=r"c\.tsv:2: field decision: 'perhaps' is no decision"):
            TermMapper.open(built, curated=read_curated(path))


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        (["rhume", ""], "term 2 is empty. Fill it in or leave it out"),
        ([" \t"], "term 1 is empty"),
        (["\x00\u200b"], "term 1 is empty"),
        ([None], "term 1 is empty"),
        ("rhume", "one string was given where a list of terms is expected"),
    ],
)
def test_terms_that_are_none(built, terms, problem):
    with pytest.raises(InputError, match=problem):
        TermMapper.open(built).map(terms)


@pytest.mark.parametrize("k", [0, -1])
def test_k_is_at_least_one(built, k):
    with pytest.raises(InputError, match=f"k must be at least 1, not {k}"):
        TermMapper.open(built).map(["rhume"], k=k)


def test_a_very_long_term_is_truncated_with_a_warning(built, caplog):
    with caplog.at_level(logging.WARNING):
        long, short = TermMapper.open(built).map(["rhume " * 2000, "rhume"], k=1)
    assert len(long.query) == 12_000
    assert long.best.cui == short.best.cui == "C0000001"
    assert "truncated" in caplog.text


def test_control_characters_make_no_difference(built):
    odd, plain = TermMapper.open(built).map(["crise\x00car\u00addiaque\n", "crise cardiaque"])
    assert odd.candidates == plain.candidates


@pytest.mark.parametrize("term", ["?!", "🤒", "心臓", "-", "a" * 5000, "'", "%"])
@pytest.mark.parametrize("channel", ["fused", "dense", "lexical"])
def test_terms_of_any_kind(mapper, term, channel):
    (mapping,) = mapper.map([term], channel=channel)
    assert mapping.query == term
    assert all(np.isfinite((candidate.score, candidate.confidence)).all() for candidate in mapping.candidates)


def test_progress_goes_to_standard_error(built, capsys):
    TermMapper.open(built).map(["rhume"], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "1/1" in captured.err


def test_a_variant_of_the_query_finds_what_the_query_does_not():
    vectors = {"HTA": unit([1, 0]), "hypertension artérielle": unit([0, 1]), "hta xyz": unit([0.8, 0.6])}
    mapper = mapper_of([("hypertension artérielle", "C0000001"), ("hta xyz", "C0000002")], vectors)
    (mapping,) = mapper.map(["HTA"], channel="dense")
    assert answer(mapping) == [(-VARIANT_TRUST, "C0000001"), (pytest.approx(-0.8, abs=1e-3), "C0000002")]
    assert mapping.query == "HTA"
    assert mapper.map(["HTA"])[0].best.match == "normalised"  # it is not what was typed


class TestOpening:
    @pytest.fixture
    def index(self, built, tmp_path):
        return shutil.copytree(built, tmp_path / "umls_index")

    def test_another_encoder(self, index, bundle, tmp_path):
        other = write_bundle(tmp_path / "other", seed=1)
        with pytest.raises(
            InputError, match=r"umls_index: was built with another encoder\. Use the encoder in"
        ):
            TermMapper.open(index, encoder=other)
        assert TermMapper.open(index, encoder=bundle, threads=1).map(["rhume"])[0].best.cui == "C0000001"

    def test_an_encoder_put_in_its_place(self, index, tmp_path):
        write_bundle(current_release(index) / "encoder", seed=1)
        with pytest.raises(
            InputError, match=r"(another encoder|cut short or changed|does not have the checksum)"
        ):
            TermMapper.open(index)

    def test_no_fingerprint(self, index):
        path = current_release(index) / NAME
        content = json.loads(path.read_text())
        del content["encoder"]["fingerprint"]
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match="another encoder"):
            TermMapper.open(index)

    def test_no_index(self, tmp_path):
        with pytest.raises(InputError, match="is no index"):
            TermMapper.open(tmp_path)

    def test_an_open_index_outlives_its_replacement(self, index, built):
        mapper = TermMapper.open(index)
        before = mapper.map(["rhume"])
        shutil.rmtree(index)
        assert mapper.map(["rhume"]) == before

    def test_its_own_model_is_used(self, index):
        shipped = MappingModel.read(SHIPPED)
        before = TermMapper.open(index).map(["rhume"])
        replace(shipped, curve=(0.0, 0.0, 0.0), kinds=None, about={}).save(index / OWN_MODEL)
        after = TermMapper.open(index).map(["rhume"])
        assert after[0].no_match == pytest.approx(1 - EXPECTED_PRESENT)
        assert TermMapper.open(index, model=shipped).map(["rhume"]) == before
        assert cuis(after[0]) == cuis(before[0])
        (index / OWN_MODEL).write_text('{"weights": {"cosine": 1}}')
        with pytest.raises(
            InputError, match=r"mapping\.json: is no mapping model of this version of deft\. Make"
        ):
            TermMapper.open(index)

    def test_its_own_model_is_not_used_with_another_encoder(self, index, caplog):
        before = TermMapper.open(index).map(["rhume"])
        odd = replace(MappingModel.read(SHIPPED), curve=(0.0, 0.0, 0.0), kinds=None)
        replace(odd, about={"encoder": "another"}).save(index / OWN_MODEL)
        assert TermMapper.open(index).map(["rhume"]) == before
        assert "mapping.json: was fitted with another encoder and is not used" in caplog.text
        replace(odd, about={"encoder": TermMapper.open(index).encoder.fingerprint}).save(index / OWN_MODEL)
        assert TermMapper.open(index).map(["rhume"])[0].no_match == pytest.approx(1 - EXPECTED_PRESENT)

    @pytest.mark.parametrize("name", ["vectors.npy", "lexical_text.npy", "retired.arrow"])
    def test_a_file_is_missing(self, index, name):
        (current_release(index) / name).unlink()
        with pytest.raises(InputError, match=f"{name}: is missing from the index"):
            TermMapper.open(index)


class Asked(FakeEncoder):
    def __init__(self):
        self.calls = []

    def encode(self, texts, *, alone=False, progress=False):
        self.calls.append((list(texts), alone))
        return super().encode(texts)


def test_queries_are_encoded_once_each_by_itself(world):
    encoder = Asked()
    mapper = make_mapper(world, encoder)
    encoder.calls.clear()
    mapper.map(["rhume", "fièvre", "rhume "])
    assert encoder.calls == [(["rhume", "fièvre"], True)]


def test_frozen():
    candidate = Candidate(1, "C0000001", "a", "a", "FRE", "DEMO", "PT", (), "", "exact", 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(AttributeError):
        candidate.rank = 2
    with pytest.raises(AttributeError):
        Mapping("a", (candidate,)).query = "b"


def test_the_index_answers_with_the_encoder_it_holds(built):
    assert (
        TermMapper.open(built).encoder.fingerprint
        == Encoder.open(current_release(built) / "encoder").fingerprint
    )


class TestPickle:
    def test_a_mapper_opens_again_where_it_was_opened(self, built, tmp_path, monkeypatch):
        path = curated(tmp_path / "c.tsv", ("rhume", "C0000004", "accept"))
        monkeypatch.chdir(built.parent)
        mapper = TermMapper.open(built.name, threads=1, curated=read_curated(path))
        stored = pickle.dumps(mapper)
        assert len(stored) < 2000
        monkeypatch.chdir("/")
        again = pickle.loads(stored)
        assert again.map(["rhume", "céphalée"]) == mapper.map(["rhume", "céphalée"])
        assert again.map(["rhume"])[0].best.match == "curated"

    def test_another_process_has_the_same_answers(self, built):
        mapper = TermMapper.open(built, threads=1)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            assert pool.submit(mapper.map, ["rhume"]).result() == mapper.map(["rhume"])

    def test_one_that_was_not_opened_says_so(self, world):
        with pytest.raises(TypeError, match=r"TermMapper\.open"):
            pickle.dumps(make_mapper(world))
