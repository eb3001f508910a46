"""The mapper against brute force over every string, and its promises."""

import json
import logging
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from demo import FakeEncoder, write_bundle
from hypothesis import given
from hypothesis import strategies as st

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index.dense import DenseIndex
from deft.index.manifest import NAME
from deft.mapping.mapper import Candidate, Mapping, TermMapper
from deft.terminology.concepts import Concepts

NO_TYPES = pd.DataFrame({"cui": [], "tui": []}, dtype="str")
NO_DEFINITIONS = pd.DataFrame({"cui": [], "definition": []}, dtype="str")


class TableEncoder(FakeEncoder):
    """An encoder that knows the vectors of its texts by heart."""

    def __init__(self, vectors):
        self._vectors = vectors
        self.dimension = len(next(iter(vectors.values())))

    def encode(self, texts, *, progress=False):
        return np.stack([self._vectors[text] for text in texts]).astype(np.float32)


def unit(vector):
    vector = np.asarray(vector, dtype=np.float64)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def mapper_of(atoms, vectors):
    """A mapper over (string, CUI) pairs."""
    frame = pd.DataFrame(atoms, columns=["string", "cui"]).assign(
        language="FRE", source="DEMO", term_type="PT", code="", preferred=False
    )
    concepts = Concepts.build(frame, NO_TYPES, NO_DEFINITIONS)
    rows = np.stack([vectors[string] for string in concepts.strings["string"]])
    return TermMapper(concepts, DenseIndex.build(rows), TableEncoder(vectors))


def oracle(atoms, vectors, query, k):
    """The k nearest concepts, found by looking at every string."""
    best = {}
    for string, cui in dict.fromkeys(atoms):
        cosine = round(
            float(np.dot(vectors[string].astype(np.float64), vectors[query].astype(np.float64))), 6
        )
        best[cui] = max(best.get(cui, -2), cosine)
    return sorted(((-cosine, cui) for cui, cosine in best.items()))[:k]


def answer(mapping):
    return [(-candidate.score, candidate.cui) for candidate in mapping.candidates]


lattice = st.tuples(*[st.integers(-1, 1)] * 3).filter(any).map(unit)


@given(st.data(), st.integers(1, 12))
def test_exact_with_ties_and_shared_strings(data, k):
    count = data.draw(st.integers(1, 90))
    vectors = {f"s{place}": data.draw(lattice) for place in range(count)}
    cuis = st.sampled_from([f"C000000{number}" for number in range(9)])
    owners = data.draw(st.lists(st.sets(cuis, min_size=1, max_size=3), min_size=count, max_size=count))
    atoms = [(string, cui) for string, own in zip(vectors, owners, strict=True) for cui in sorted(own)]
    vectors["query"] = data.draw(lattice)
    (mapping,) = mapper_of(atoms, vectors).map(["query"], k=k)
    assert answer(mapping) == oracle(atoms, vectors, "query", k)
    for candidate in mapping.candidates:
        assert (candidate.matched, candidate.cui) in atoms
        cosine = float(vectors[candidate.matched].astype(float) @ vectors["query"].astype(float))
        assert candidate.cosine == pytest.approx(cosine, abs=1e-6)
    assert [candidate.rank for candidate in mapping.candidates] == list(range(1, len(mapping.candidates) + 1))


@pytest.mark.parametrize("seed", range(8))
def test_exact_where_single_precision_is_not(seed):
    generator = np.random.default_rng(seed)
    base = generator.standard_normal(64)
    vectors = {f"s{place}": unit(base + generator.standard_normal(64) * 2e-3) for place in range(600)}
    atoms = [(string, f"C{place:07d}") for place, string in enumerate(vectors)]
    vectors["query"] = unit(base)
    (mapping,) = mapper_of(atoms, vectors).map(["query"], k=10)
    assert answer(mapping) == oracle(atoms, vectors, "query", 10)


def test_one_concept_with_more_strings_than_are_fetched_at_first():
    vectors = {f"s{place:03d}": unit([1, place / 1e4]) for place in range(300)} | {"far": unit([0, 1])}
    atoms = [(string, "C0000001") for string in vectors if string != "far"] + [("far", "C0000002")]
    vectors["query"] = unit([1, 0])
    (mapping,) = mapper_of(atoms, vectors).map(["query"], k=2)
    assert [candidate.cui for candidate in mapping.candidates] == ["C0000001", "C0000002"]
    assert mapping.candidates[0].matched == "s000"


def test_more_concepts_asked_for_than_there_are(built):
    assert len(TermMapper.open(built).map(["rhume"], k=100)[0].candidates) == 6


def test_ties_go_by_cui(built):
    (mapping,) = TermMapper.open(built).map(["rhume"], k=2)
    assert answer(mapping) == [(-1.0, "C0000001"), (-1.0, "C0000002")]
    assert {candidate.matched for candidate in mapping.candidates} == {"rhume"}


def test_what_a_candidate_tells(built):
    (mapping,) = TermMapper.open(built).map([" Heart\tattack"], k=1)
    assert mapping.query == " Heart\tattack"
    assert asdict(mapping.best) == {
        "rank": 1,
        "cui": "C0000003",
        "name": "infarctus du myocarde",
        "matched": "heart attack",
        "language": "ENG",
        "source": "OTHER",
        "semantic_types": ("T047",),
        "definition": "Nécrose d'une partie du muscle cardiaque.",
        "cosine": 1.0,
        "score": 1.0,
    }
    json.dumps(mapping.as_dict())


@pytest.fixture(scope="module")
def mapper(built):
    return TermMapper.open(built)


TERMS = st.lists(st.text("abcdeéà '-", min_size=1, max_size=80).filter(str.strip), min_size=1, max_size=12)


@given(TERMS, st.randoms(use_true_random=False))
def test_the_same_alone_in_a_batch_and_in_any_order(mapper, terms, random):
    together = mapper.map(terms, k=3)
    assert together == [mapper.map([term], k=3)[0] for term in terms]
    shuffled = random.sample(terms, len(terms))
    assert mapper.map(shuffled, k=3) == [together[terms.index(term)] for term in shuffled]


def test_no_term_gives_no_mapping(built):
    assert TermMapper.open(built).map([]) == []


def test_thresholds(built):
    mapper = TermMapper.open(built)
    (whole,) = mapper.map(["rhume"], k=6)
    scores = [candidate.score for candidate in whole.candidates]
    assert scores == sorted(scores, reverse=True)
    for threshold in (-1.0, scores[2], scores[2] + 1e-6, 1.0):
        kept = tuple(candidate for candidate in whole.candidates if candidate.score >= threshold)
        assert whole.at(threshold).candidates == kept
        assert mapper.map(["rhume"], k=6, threshold=threshold) == [whole.at(threshold)]
    assert whole.at(1.1) == Mapping("rhume", ())
    assert whole.at(1.1).best is None
    assert len(whole.candidates) == 6  # it did not change


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


def test_progress_goes_to_standard_error(built, capsys):
    TermMapper.open(built).map(["rhume"], progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "encode" in captured.err


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
        write_bundle(index / "encoder", seed=1)
        with pytest.raises(InputError, match=r"(another encoder|cut short or changed)"):
            TermMapper.open(index)

    def test_no_fingerprint(self, index):
        content = json.loads((index / NAME).read_text()) | {"encoder": {}}
        (index / NAME).write_text(json.dumps(content))
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


class Counting(FakeEncoder):
    def __init__(self, *, batch_invariant):
        self.info = self.Info(batch_invariant=batch_invariant)
        self.calls = []

    def encode(self, texts, *, progress=False):
        self.calls.append(len(texts))
        return super().encode(texts)


@pytest.mark.parametrize(("batch_invariant", "calls"), [(True, [1, 1]), (False, [2])])
def test_an_encoder_that_makes_batches_is_asked_text_by_text(built, batch_invariant, calls):
    concepts = Concepts.open(built)
    rows = FakeEncoder().encode(concepts.strings["string"].to_list())
    encoder = Counting(batch_invariant=batch_invariant)
    TermMapper(concepts, DenseIndex.build(rows), encoder).map(["a", "b", "a"])
    assert encoder.calls == calls


def test_frozen():
    candidate = Candidate(1, "C0000001", "a", "a", "FRE", "DEMO", (), "", 1.0, 1.0)
    with pytest.raises(AttributeError):
        candidate.rank = 2
    with pytest.raises(AttributeError):
        Mapping("a", (candidate,)).query = "b"


def test_the_index_answers_with_the_encoder_it_holds(built):
    assert TermMapper.open(built).encoder.fingerprint == Encoder.open(built / "encoder").fingerprint
