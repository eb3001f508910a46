"""Which atoms may answer; what filters do to answers is in test_mapper."""

import numpy as np
import pytest
from demo import ATOMS, TYPES, Atom, make_concepts

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
