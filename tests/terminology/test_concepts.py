"""Concept tables: many strings a concept, many concepts a string."""

import numpy as np
import pytest
from demo import ATOMS, Atom, make_concepts, write_lines, write_umls
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.concepts import FILES, Concepts
from deft.terminology.rrf import AtomFilter
from deft.terminology.table_maker import read_concepts


def carried(concepts):
    """The strings and the CUIs of the atoms."""
    strings = concepts.strings["string"].to_numpy()[concepts.atoms["string"]]
    cuis = concepts.concepts["cui"].to_numpy()[concepts.atoms["concept"]]
    return set(zip(strings, cuis, strict=True))


@pytest.fixture
def concepts(umls):
    return read_concepts(umls, AtomFilter())


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
        "definition_source": "DEMO",
        "atoms": 3,
        "sources": 2,
        "mesh": False,
    }
    assert shown.loc["C0000006", "semantic_types"] == "T033;T184"
    assert shown.loc["C0000001", "definition"] == ""
    assert concepts.cuis == set(shown.index)


def test_names_of_concepts_in_a_language():
    concepts = make_concepts(
        [*ATOMS, Atom("C0000001", "le nez qui coule", source="LAYFR", term_type="LAY")], []
    )
    assert concepts.names(["C0000001", "C0000004", "C9999999"], "FRE") == {
        "C0000001": {"rhume", "coryza"},
        "C0000004": {"cœur"},
    }
    assert concepts.names(["C0000002"], "ENG") == {"C0000002": set()}


def test_the_name_is_in_the_first_language_that_there_is(umls, tmp_path):
    english = read_concepts(umls, AtomFilter(languages=("ENG", "FRE"))).concepts.set_index("cui")["name"]
    assert english["C0000003"] == "heart attack"
    assert english["C0000002"] == "rhinopharyngite"
    folder = write_umls(tmp_path, [Atom("C0000001", "resfriado", "SPA"), Atom("C0000001", "cold", "ENG")])
    assert read_concepts(folder, AtomFilter()).concepts["name"].to_list() == ["cold"]


def test_definitions_and_types_are_optional(tmp_path):
    write_umls(
        tmp_path, [Atom("C0000001", "a")], types=[("C0000009", "T047")], definitions=[("C0000009", "x", "N")]
    )
    for _ in range(2):
        concepts = read_concepts(tmp_path, AtomFilter()).concepts
        assert concepts[["cui", "name", "semantic_types", "definition"]].to_dict("list") == {
            "cui": ["C0000001"],
            "name": ["a"],
            "semantic_types": [""],
            "definition": [""],
        }
        assert concepts["definition"].dtype == concepts["name"].dtype
        (tmp_path / "MRDEF.RRF").unlink(missing_ok=True)


def test_the_atoms_of_each_string(concepts):
    rows = np.arange(len(concepts.strings))
    first, counts = concepts.atoms_of(rows)
    assert counts.sum() == len(concepts.atoms)
    for row in rows:
        assert (concepts.atoms["string"].iloc[first[row] : first[row] + counts[row]] == row).all()
    assert [list(values) for values in concepts.atoms_of(rows[:0])] == [[], []]


def test_strings_are_cleaned_and_then_one(tmp_path):
    atoms = [
        Atom("C0000001", "a  b"),
        Atom("C0000001", "a\tb"),
        Atom("C0000002", "a b\u200b"),
        Atom("C0000002", "\x01"),
    ]
    concepts = read_concepts(write_umls(tmp_path, atoms), AtomFilter())
    assert concepts.strings["string"].to_list() == ["a b"]
    assert carried(concepts) == {("a b", "C0000001"), ("a b", "C0000002")}


def test_nothing_but_control_characters(tmp_path):
    with pytest.raises(InputError, match="no atom has a string that can be read"):
        read_concepts(write_umls(tmp_path, [Atom("C0000001", "\x01")]), AtomFilter())


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
    concepts = read_concepts(write_umls(tmp_path, atoms), AtomFilter())
    assert carried(concepts) == {(atom.string, atom.cui) for atom in atoms}
    assert len(concepts.atoms) == len(set(atoms))
    assert np.all(np.diff(concepts.atoms["string"]) >= 0)


def with_retired(folder, *rows):
    """Concepts C0000001 and C0000002, and lines of MRCUI: (retired, relation, target)."""
    write_umls(folder, [Atom("C0000001", "a"), Atom("C0000002", "b")])
    write_lines(folder / "MRCUI.RRF", [f"{cui}|2020AA|{kind}|||{target}|Y|" for cui, kind, target in rows])
    return read_concepts(folder, AtomFilter())


def test_a_retired_concept_is_followed_through_any_number_of_releases(tmp_path):
    concepts = with_retired(
        tmp_path,
        ("C0000011", "SY", "C0000012"),
        ("C0000012", "SY", "C0000013"),
        ("C0000013", "SY", "C0000001"),
        ("C0000014", "SY", "C0000012"),
    )
    for cui in ("C0000011", "C0000012", "C0000013", "C0000014"):
        assert concepts.current(cui) == ("C0000001",)
    assert concepts.follow(["C0000011", "C0000002", "C0000099"]) == {"C0000001", "C0000002", "C0000099"}


def test_a_concept_that_was_parted_leads_to_all_its_parts(tmp_path):
    rows = (("C0000011", "SY", "C0000002"), ("C0000011", "SY", "C0000012"), ("C0000012", "SY", "C0000001"))
    concepts = with_retired(tmp_path, *rows)
    assert concepts.current("C0000011") == ("C0000001", "C0000002")


def test_a_concept_that_lives_is_itself_whatever_the_history_says(tmp_path):
    assert with_retired(tmp_path, ("C0000001", "SY", "C0000002")).current("C0000001") == ("C0000001",)


def test_only_synonyms_are_followed(tmp_path):
    kinds = ("RB", "RN", "RO", "DEL")
    rows = [(f"C000002{place}", kind, "C0000001") for place, kind in enumerate(kinds)]
    concepts = with_retired(tmp_path, *rows, ("C0000030", "SY", ""))
    assert concepts.tables["retired"].num_rows == 0
    assert concepts.current("C0000020") == ("C0000020",)


def test_a_history_that_goes_round_in_circles_ends(tmp_path):
    circle = (("C0000011", "SY", "C0000012"), ("C0000012", "SY", "C0000011"), ("C0000013", "SY", "C0000013"))
    concepts = with_retired(tmp_path / "closed", *circle)
    assert concepts.current("C0000011") == ("C0000011",)
    assert concepts.current("C0000013") == ("C0000013",)
    concepts = with_retired(tmp_path / "open", *circle, ("C0000012", "SY", "C0000001"))
    assert concepts.current("C0000011") == concepts.current("C0000012") == ("C0000001",)


retired_cuis = st.integers(10, 17).map("C00000{}".format)


@given(
    st.lists(
        st.tuples(retired_cuis, st.one_of(retired_cuis, st.sampled_from(["C0000001", "C0000002"]))),
        min_size=1,
        max_size=14,
    )
)
def test_what_a_retired_concept_became_is_what_can_be_reached(tmp_path, edges):
    concepts = with_retired(tmp_path, *((cui, "SY", target) for cui, target in edges))
    reach = {cui: {target for one, target in edges if one == cui} for cui, _ in edges}
    for _ in range(len(reach)):
        reach = {cui: own.union(*(reach.get(step, set()) for step in own)) for cui, own in reach.items()}
    for cui, own in reach.items():
        assert concepts.current(cui) == (tuple(sorted(own - reach.keys())) or (cui,))


def test_rows_of_concepts(concepts):
    for row, cui in enumerate(concepts.concepts["cui"]):
        assert concepts.row_of(cui) == row
    assert concepts.row_of("C0000099") is None


def test_sources_of_a_concept_are_counted_once(tmp_path):
    atoms = [
        Atom("C0000001", "a", source="X"),
        Atom("C0000001", "b", source="X"),
        Atom("C0000001", "a", source="Y"),
        Atom("C0000002", "a", source="X"),
    ]
    shown = read_concepts(write_umls(tmp_path, atoms), AtomFilter()).concepts
    assert shown["sources"].to_list() == [2, 1]
    assert shown["atoms"].to_list() == [3, 1]


def test_tables_survive_the_disk(tmp_path):
    concepts = with_retired(tmp_path, ("C0000011", "SY", "C0000001"))
    concepts.save(tmp_path)
    again = Concepts.open(tmp_path)
    assert again.tables == concepts.tables
    assert again.strings.equals(concepts.strings)


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
