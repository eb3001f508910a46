"""What speaks for a concept, by hand on a few strings and by brute force on many."""

import math
from dataclasses import replace

import numpy as np
import pytest
from demo import Atom, make_concepts
from hypothesis import given
from hypothesis import strategies as st

from deft.mapping.pool import FEATURES, NO_MATCH_FEATURES, VARIANT_TRUST, Evidence, PoolMaker
from deft.text import normalize

ATOMS = (
    Atom("C1000000", "Douleur thoracique", source="MSHFRE"),
    Atom("C1000000", "douleurs du thorax", source="X", preferred=False),
    Atom("C1000000", "chest pain", "ENG", "Y"),
    Atom("C2000000", "douleurs du thorax", source="X", preferred=False),
    Atom("C2000000", "thorax", "FRE", "X"),
    Atom("C3000000", "toux", "FRE", "X"),
)


@pytest.fixture(scope="module")
def concepts():
    return make_concepts(ATOMS)


def evidence(concepts, **similarities):
    """Strings with their cosine and lexical similarity; `_` stands for a space."""
    rows = {string: row for row, string in enumerate(concepts.strings["string"])}
    found = {rows[name.replace("_", " ")]: values for name, values in similarities.items()}
    order = sorted(found)
    cosine, lexical = np.array([found[row] for row in order]).T
    return Evidence(np.array(order), cosine, lexical, explained=lexical / 2)


def named(pool, place):
    return dict(zip(FEATURES, pool.features[place], strict=True))


def test_the_signals_of_each_concept_by_hand(concepts):
    found = evidence(concepts, douleurs_du_thorax=(0.9, 0.7), chest_pain=(0.82, 0.1), thorax=(0.7, 0.75))
    pool = PoolMaker(concepts).make(["douleur du thorax"], found, None)
    assert len(pool) == 2
    assert pool.concept.tolist() == [0, 1]
    assert named(pool, 0) == pytest.approx(
        {
            "cosine": 0.9,
            "cosine_gap": 0,
            "lexical": 0.7,
            "lexical_gap": 0.7 - 0.75,
            "exact": 0,
            "same": 0,
            "overlap": 1,  # a plural is the same word
            "coverage": 1,
            "explained": 0.35,
            "hedged": 0,
            "context": 0,
            "context_gap": 0,
            "kind": 0,
            "name": 2 / 5,  # "douleur thoracique" shares one of two words with three
            "french": 1,
            "preferred": 0,
            "agreement": math.log(1 + 2),
            "sources": math.log(3),
            "names": math.log(3),
            "age": -math.log(1.02),
            "mesh": 1,
        }
    )
    assert named(pool, 1) == pytest.approx(
        {
            "cosine": 0.9,
            "cosine_gap": 0,
            "lexical": 0.75,
            "lexical_gap": 0,
            "exact": 0,
            "same": 0,
            "overlap": 1,
            "coverage": 1,
            "explained": 0.375,
            "hedged": 0,
            "context": 0,
            "context_gap": 0,
            "kind": 0,
            "name": 2 / 4,
            "french": 1,
            "preferred": 0,
            "agreement": math.log(1 + 1),
            "sources": 0,
            "names": math.log(2),
            "age": -math.log(2.02),
            "mesh": 0,
        }
    )
    no_match = dict(zip(NO_MATCH_FEATURES, pool.no_match, strict=True))
    assert no_match == {"constant": 1, "cosine": 0.9, "lexical": 0.75, "same": 0, "overlap": 1}


def test_the_order_chooses_the_atom_and_nothing_else(concepts):
    found = evidence(concepts, chest_pain=(0.9, 0.1), Douleur_thoracique=(0.5, 0.8))
    strings = concepts.strings["string"].to_numpy()[concepts.atoms["string"]]
    chosen, features = {}, {}
    for order in ("cosine", "lexical", "both"):
        pool = PoolMaker(concepts).make(["x"], found, None, order)
        chosen[order] = strings[pool.atom[0]]
        features[order] = named(pool, 0)
    assert chosen == {"cosine": "chest pain", "lexical": "Douleur thoracique", "both": "Douleur thoracique"}
    assert (features["cosine"]["french"], features["lexical"]["french"]) == (0, 1)
    for name in set(FEATURES) - {"french", "preferred"}:
        assert features["cosine"][name] == features["lexical"][name]


def test_the_query_itself_counts_more_than_its_variants(concepts):
    found = evidence(concepts, toux=(0.5, 0.5))
    maker = PoolMaker(concepts)
    whole, variant = maker.make(["toux"], found, None), maker.make(["x", "toux"], found, None)
    for name in ("exact", "same", "overlap", "coverage"):
        assert whole.column(name).tolist() == [1]
        assert variant.column(name).tolist() == [VARIANT_TRUST]
    both = maker.make(["toux", "toux grasse"], found, None)
    assert both.features.tolist() == whole.features.tolist()


def test_case_accents_and_suffixes_make_the_same_term_but_not_the_same_string(concepts):
    found = evidence(concepts, Douleur_thoracique=(0.5, 0.5))
    for query, exact in (
        ("Douleur thoracique", 1),
        ("DOULEUR THORACIQUE, SAI", 0),
        ("douleur thoracique", 0),
    ):
        pool = PoolMaker(concepts).make([query], found, None)
        assert (pool.column("exact")[0], pool.column("same")[0]) == (exact, 1)


@pytest.mark.parametrize(
    ("query", "hedged"),
    [
        ("toux", 0),
        ("pas de toux", -1),
        ("absence de toux", -1),
        ("suspicion de toux chez le père", -2),
        ("antécédent de toux", -1),
        ("passage de toux", 0),
        ("? toux", -1),
        ("toux?", -1),
        ("la toux de son fils", -1),
        ("toux 12 mg/L", -1),
        ("toux 3,5 µmol", -1),
        ("toux 12", 0),
    ],
)
def test_a_finding_that_is_held_off(concepts, query, hedged):
    found = evidence(concepts, toux=(0.9, 0.9))
    assert PoolMaker(concepts).make([query, "toux"], found, None).column("hedged").tolist() == [hedged]


def test_what_the_string_says_too_is_not_held_off():
    concepts = make_concepts([Atom("C1000000", "absence de règles")])
    found = evidence(concepts, absence_de_règles=(0.9, 0.9))
    assert PoolMaker(concepts).make(["pas de règles"], found, None).column("hedged").tolist() == [0]


def test_the_kind_is_that_of_the_concepts_types():
    atoms = [Atom("C1000000", "toux"), Atom("C2000000", "toux grasse")]
    concepts = make_concepts(atoms, [("C1000000", "T184"), ("C2000000", "T121")])
    labels = concepts.labels("concepts", "semantic_types").values
    found = evidence(concepts, toux=(0.9, 0.9), toux_grasse=(0.8, 0.8))
    kind = np.array([{"T184": -0.1, "T121": -2.0}.get(types, 0.0) for types in labels])
    pool = PoolMaker(concepts).make(["toux"], replace(found, kind=kind), None)
    assert pool.column("kind").tolist() == [-0.1, -2.0]


@pytest.mark.parametrize(
    ("query", "capitals"), [("GB", True), ("HTA", True), ("Gb", False), ("TOUX GRASSE", False)]
)
def test_abbreviations_are_noticed(concepts, query, capitals):
    found = evidence(concepts, toux=(0.9, 0.9))
    assert PoolMaker(concepts).make([query], found, None).capitals is capitals


def test_nothing_is_found(concepts):
    nothing = Evidence(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), np.zeros(0))
    forbidden = evidence(concepts, toux=(1.0, 1.0))
    for found, allowed in ((nothing, None), (forbidden, np.zeros(len(concepts.atoms), dtype=bool))):
        pool = PoolMaker(concepts).make(["toux"], found, allowed)
        assert len(pool) == 0
        assert pool.features.shape == (0, len(FEATURES))
        assert pool.no_match.tolist() == [1.0, *[0.0] * (len(NO_MATCH_FEATURES) - 1)]


words = st.sampled_from(["rhume", "toux", "fièvre", "Rhume", "aigu", "os"])
strings = st.lists(words, min_size=1, max_size=3).map(" ".join)


@given(
    st.lists(st.tuples(st.integers(0, 5), strings, st.booleans(), st.booleans()), min_size=1, max_size=14),
    st.data(),
)
def test_each_concept_has_the_best_of_its_strings(rows, data):
    """Against a loop over atoms."""
    atoms = [
        Atom(f"C000000{number}", string, "FRE" if french else "ENG", preferred=preferred)
        for number, string, french, preferred in dict.fromkeys(rows)
    ]
    concepts = make_concepts(atoms)
    names = concepts.strings["string"].to_list()
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, len(names) - 1), min_size=1))))
    values = st.lists(
        st.integers(0, 4).map(lambda four: four / 4), min_size=len(chosen), max_size=len(chosen)
    )
    cosine, lexical = np.array(data.draw(values)), np.array(data.draw(values))
    allowed = np.array(data.draw(st.lists(st.booleans(), min_size=len(atoms), max_size=len(atoms))))
    query = data.draw(strings)
    pool = PoolMaker(concepts).make([query], Evidence(chosen, cosine, lexical, lexical), allowed)

    best = {}
    for number, atom in enumerate(concepts.atoms.itertuples()):
        if atom.string not in chosen or not allowed[number]:
            continue
        place = int(np.flatnonzero(chosen == atom.string)[0])
        same = normalize(names[atom.string]) == normalize(query)
        strength = (same + cosine[place] + lexical[place], -number)
        entry = best.setdefault(atom.concept, {"strength": (-1, 0), "cosine": 0, "lexical": 0, "same": 0})
        entry["strength"] = max(entry["strength"], strength)
        for name, value in (("cosine", cosine[place]), ("lexical", lexical[place]), ("same", same)):
            entry[name] = max(entry[name], value)
    assert pool.concept.tolist() == sorted(best)
    for place, concept in enumerate(pool.concept):
        entry = best[concept]
        assert pool.atom[place] == -entry["strength"][1]
        for name in ("cosine", "lexical", "same"):
            assert pool.column(name)[place] == entry[name]
    for gap, name in (("cosine_gap", "cosine"), ("lexical_gap", "lexical")):
        if len(pool):
            np.testing.assert_allclose(pool.column(gap), pool.column(name) - pool.column(name).max())
