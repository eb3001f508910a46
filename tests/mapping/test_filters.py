"""Which atoms may answer; what filters do to answers is in test_mapper."""

from dataclasses import replace

import numpy as np
import pytest
from demo import ATOMS, TYPES, Atom, make_concepts
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.mapping.filters import ConceptFilter, atoms_of_group, strings_of


@pytest.fixture(scope="module")
def concepts():
    kept = [atom for atom in ATOMS if atom.suppress == "N"]
    return make_concepts([*kept, Atom("C0000007", "sans type", source="NEW")], TYPES)


def named(concepts, mask):
    """The CUI and string of each atom that passes."""
    atoms = concepts.atoms[mask]
    cuis = concepts.concepts["cui"].to_numpy()[atoms["concept"]]
    return set(zip(cuis, concepts.strings["string"].to_numpy()[atoms["string"]], strict=True))


def test_nothing_asked_for(concepts):
    assert ConceptFilter().atoms(concepts) is None
    assert strings_of(None, concepts) is None


@pytest.mark.parametrize("kind", [tuple, list, iter, lambda values: (value for value in values)])
def test_any_iterable_will_do_and_keeps_its_order(kind):
    every = {
        field: ["B", "A", "C"] for field in ("languages", "sources", "semantic_types", "semantic_groups")
    }
    keep = ConceptFilter(
        **{field: kind(values) for field, values in every.items()}, exclude=kind(["C2", "C1"])
    )
    for field in every:
        assert getattr(keep, field) == ("B", "A", "C")
    assert keep.exclude == frozenset({"C1", "C2"})
    assert keep == ConceptFilter(**every, exclude={"C1", "C2"})
    assert hash(keep) == hash(ConceptFilter(**every, exclude=("C1", "C2")))
    assert replace(keep, languages={"D"}) == ConceptFilter(
        **every | {"languages": ["D"]}, exclude=["C1", "C2"]
    )


@given(st.lists(st.text(max_size=3)))
def test_equal_sets_make_equal_filters(values):
    one, other = ConceptFilter(set(values)), ConceptFilter(frozenset(reversed(values)))
    assert one.languages == tuple(sorted(set(values)))
    assert (one, hash(one)) == (other, hash(other))


@pytest.mark.parametrize("field", ["languages", "sources", "semantic_types", "semantic_groups", "exclude"])
def test_one_string_is_no_list(field):
    problem = (
        rf"field {field}: one string was given where a list is expected: 'C0000001'\. Put it in a list\."
    )
    with pytest.raises(InputError, match=problem):
        ConceptFilter(**{field: "C0000001"})
    for wrong, shown in ((b"FRE", "70"), (["FRE", None], "None"), ({1}, "1")):
        with pytest.raises(InputError, match=f"field {field}: {shown} is no string"):
            ConceptFilter(**{field: wrong})


def test_languages_and_sources_are_those_of_the_atom(concepts):
    english = ConceptFilter(languages=("ENG",)).atoms(concepts)
    assert named(concepts, english) == {(atom.cui, atom.string) for atom in ATOMS if atom.language == "ENG"}
    both = ConceptFilter(languages=("FRE",), sources=("OTHER",)).atoms(concepts)
    assert named(concepts, both) == {("C0000002", "rhume"), ("C0000005", "ablation de l'appendice")}


def test_types_and_groups_are_those_of_the_concept_and_add_up(concepts):
    found = ConceptFilter(semantic_types=("T061",), semantic_groups=("ANAT",)).atoms(concepts)
    assert {cui for cui, _ in named(concepts, found)} == {"C0000004", "C0000005"}
    for tui in ("T184", "T033"):  # one of its types is enough
        found = ConceptFilter(semantic_types=(tui,)).atoms(concepts)
        assert {cui for cui, _ in named(concepts, found)} == {"C0000006"}


def test_excluded_concepts_are_absent_known_or_not(concepts):
    keep = ConceptFilter(exclude=frozenset({"C0000001", "C0000007", "C9999999"}))
    assert {cui for cui, _ in named(concepts, keep.atoms(concepts))} == {f"C000000{n}" for n in range(2, 7)}
    unknown = ConceptFilter(exclude=frozenset({"C9999999"})).atoms(concepts)
    assert unknown.all()


def test_sources_can_be_left_out_there_or_not(concepts):
    kept = named(concepts, ConceptFilter(without_sources=("OTHER", "LAYFR")).atoms(concepts))
    own = {(atom.cui, atom.string) for atom in ATOMS if atom.source == "DEMO" and atom.suppress == "N"}
    assert kept == own | {("C0000007", "sans type")}
    assert ConceptFilter(without_sources=("LAYFR",)).atoms(concepts).all()
    with pytest.raises(InputError, match="no atom of the index passes"):
        ConceptFilter(sources=("NEW",), without_sources=("NEW",)).atoms(concepts)


def test_strings_with_an_atom_that_passes(concepts):
    atoms = ConceptFilter(exclude=frozenset({"C0000001"})).atoms(concepts)
    strings = set(concepts.strings["string"][strings_of(atoms, concepts)])
    assert "rhume" in strings  # of another concept too
    assert "coryza" not in strings
    assert strings_of(np.zeros(len(concepts.atoms), dtype=bool), concepts).sum() == 0


def test_the_tables_are_left_alone(concepts):
    before = concepts.atoms.copy(), concepts.concepts.copy()
    ConceptFilter(("FRE",), ("DEMO",), ("T047",), ("DISO",), frozenset({"C0000001"})).atoms(concepts)
    assert concepts.atoms.equals(before[0])
    assert concepts.concepts.equals(before[1])


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        (ConceptFilter(languages=("fr",)), r"the index has no language fr\. It has ENG, FRE\."),
        (ConceptFilter(languages=("FRE", "SPA")), "the index has no language SPA"),
        (ConceptFilter(sources=("X", "Y")), r"the index has no source X, Y\. It has DEMO, NEW, OTHER\."),
        (ConceptFilter(semantic_types=("T001",)), r"no semantic type T001\. It has T023, T033, T047"),
        (
            ConceptFilter(semantic_groups=("DISEASE",)),
            r"no semantic group is called DISEASE\. The groups are",
        ),
        (ConceptFilter(semantic_groups=("GEOG",)), r"no atom of the index passes the filters\. Ask for less"),
        (ConceptFilter(languages=("ENG",), sources=("DEMO",)), "no atom of the index passes the filters"),
    ],
)
def test_what_the_index_does_not_have(concepts, keep, problem):
    with pytest.raises(InputError, match=problem):
        keep.atoms(concepts)


def test_atoms_of_a_group(concepts):
    assert {cui for cui, _ in named(concepts, atoms_of_group("PROC", concepts))} == {"C0000005"}
    assert not atoms_of_group("GEOG", concepts).any()
    with pytest.raises(InputError, match="no semantic group is called X"):
        atoms_of_group("X", concepts)
