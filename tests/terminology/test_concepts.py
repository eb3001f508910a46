"""Concept tables: many strings a concept, many concepts a string."""

import numpy as np
import pytest
from demo import Atom, write_umls
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.concepts import Concepts
from deft.terminology.rrf import AtomFilter

FILES = ("strings.parquet", "atoms.parquet", "concepts.parquet")


def carried(concepts):
    """The strings and the CUIs of the atoms."""
    strings = concepts.strings["string"].to_numpy()[concepts.atoms["string"]]
    cuis = concepts.concepts["cui"].to_numpy()[concepts.atoms["concept"]]
    return set(zip(strings, cuis, strict=True))


@pytest.fixture
def concepts(umls):
    return Concepts.read_umls(umls, AtomFilter())


def test_a_string_is_stored_once(concepts):
    assert concepts.strings["string"].is_unique
    assert len(concepts.strings) == 15
    assert len(concepts.atoms) == 16
    assert {("rhume", "C0000001"), ("rhume", "C0000002")} <= carried(concepts)


def test_what_is_shown_of_a_concept(concepts):
    shown = concepts.concepts.set_index("cui")
    assert shown.index.is_monotonic_increasing
    assert shown.loc["C0000003"].to_dict() == {
        "name": "infarctus du myocarde",
        "semantic_types": "T047",
        "definition": "Nécrose d'une partie du muscle cardiaque.",
    }
    assert shown.loc["C0000006", "semantic_types"] == "T033;T184"
    assert shown.loc["C0000001", "definition"] == ""
    assert concepts.cuis == set(shown.index)


def test_the_name_is_in_the_first_language_that_there_is(umls, tmp_path):
    english = Concepts.read_umls(umls, AtomFilter(languages=("ENG", "FRE"))).concepts.set_index("cui")["name"]
    assert english["C0000003"] == "heart attack"
    assert english["C0000002"] == "rhinopharyngite"
    folder = write_umls(tmp_path, [Atom("C0000001", "resfriado", "SPA"), Atom("C0000001", "cold", "ENG")])
    assert Concepts.read_umls(folder, AtomFilter()).concepts["name"].to_list() == ["cold"]


def test_definitions_and_types_are_optional(tmp_path):
    write_umls(
        tmp_path, [Atom("C0000001", "a")], types=[("C0000009", "T047")], definitions=[("C0000009", "x", "N")]
    )
    for _ in range(2):
        concepts = Concepts.read_umls(tmp_path, AtomFilter()).concepts
        assert concepts.to_dict("list") == {
            "cui": ["C0000001"],
            "name": ["a"],
            "semantic_types": [""],
            "definition": [""],
        }
        assert concepts["definition"].dtype == concepts["name"].dtype
        (tmp_path / "MRDEF.RRF").unlink(missing_ok=True)


def test_first_atom_bounds_the_atoms_of_each_string(concepts):
    first = concepts.first_atom
    assert first.shape == (len(concepts.strings) + 1,)
    for row in range(len(concepts.strings)):
        assert (concepts.atoms["string"].iloc[first[row] : first[row + 1]] == row).all()
    assert first[-1] == len(concepts.atoms)


def test_strings_are_cleaned_and_then_one(tmp_path):
    atoms = [
        Atom("C0000001", "a  b"),
        Atom("C0000001", "a\tb"),
        Atom("C0000002", "a b\u200b"),
        Atom("C0000002", "\x01"),
    ]
    concepts = Concepts.read_umls(write_umls(tmp_path, atoms), AtomFilter())
    assert concepts.strings["string"].to_list() == ["a b"]
    assert carried(concepts) == {("a b", "C0000001"), ("a b", "C0000002")}


def test_nothing_but_control_characters(tmp_path):
    with pytest.raises(InputError, match="no atom has a string that can be read"):
        Concepts.read_umls(write_umls(tmp_path, [Atom("C0000001", "\x01")]), AtomFilter())


@given(
    st.lists(
        st.tuples(
            st.integers(1, 4), st.sampled_from(["a", "b", "c", "é", "d e"]), st.sampled_from(["FRE", "ENG"])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_no_pair_is_lost_or_made_up(tmp_path, rows):
    atoms = [Atom(f"C000000{cui}", text, language) for cui, text, language in rows]
    concepts = Concepts.read_umls(write_umls(tmp_path, atoms), AtomFilter())
    assert carried(concepts) == {(atom.string, atom.cui) for atom in atoms}
    assert len(concepts.atoms) == len(atoms)
    assert np.all(np.diff(concepts.atoms["string"]) >= 0)


def test_tables_survive_the_disk(concepts, tmp_path):
    concepts.save(tmp_path)
    again = Concepts.open(tmp_path)
    assert again.strings.equals(concepts.strings)
    assert again.atoms.equals(concepts.atoms)
    assert again.concepts.equals(concepts.concepts)


@pytest.mark.parametrize("name", FILES)
def test_damaged_tables(concepts, tmp_path, name):
    concepts.save(tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=f"{name}: cannot be read.*Build the index again"):
        Concepts.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}: cannot be read"):
        Concepts.open(tmp_path)
