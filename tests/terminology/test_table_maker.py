"""Making the tables of concepts: what counts is the set of atoms."""

import random

import pytest
from demo import ATOMS, Atom, write_lines, write_umls
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.terminology.concepts import Concepts
from deft.terminology.lay import LayPhrase
from deft.terminology.rrf import AtomFilter
from deft.terminology.table_maker import TableMaker, read_concepts

ALL = AtomFilter()

atoms = st.builds(
    Atom,
    st.integers(1, 5).map("C{:07d}".format),
    st.sampled_from(["rhume", "Rhume", "rhume ", "coryza", "mal de tête", "cœur", "été", "\u00e9te\u0301"]),
    st.sampled_from(["FRE", "ENG", "SPA"]),
    st.sampled_from(["MSHFRE", "X", "Y"]),
    st.sampled_from(["PT", "SY"]),
    st.booleans(),
)


@given(st.lists(atoms, min_size=1, max_size=15), st.randoms(use_true_random=False))
def test_the_order_of_lines_decides_nothing(tmp_path, drawn, shuffler):
    tables = read_concepts(write_umls(tmp_path / "one", drawn), ALL).tables
    shuffled = random.Random(shuffler.random()).sample(drawn, len(drawn))
    assert read_concepts(write_umls(tmp_path / "other", shuffled), ALL).tables == tables


@given(st.lists(atoms, min_size=1, max_size=15), st.integers(0, 15))
def test_piece_by_piece_gives_what_all_at_once_gives(tmp_path, drawn, cut):
    whole = read_concepts(write_umls(tmp_path / "whole", drawn), ALL)
    with TableMaker() as maker:
        if drawn[:cut]:
            maker.add_tables(read_concepts(write_umls(tmp_path / "first", drawn[:cut]), ALL))
        if drawn[cut:]:
            maker.add_release(write_umls(tmp_path / "second", drawn[cut:]), ALL)
        if drawn[cut:]:
            added = maker.make().tables
            assert added["strings"] == whole.tables["strings"]
            assert added["atoms"] == whole.tables["atoms"]


@given(st.lists(atoms, min_size=1, max_size=15), st.sampled_from(["X", "Y", "MSHFRE"]))
def test_what_is_removed_might_never_have_been_there(tmp_path, drawn, source):
    rest = [atom for atom in drawn if atom.source != source]
    with TableMaker() as maker:
        maker.add_release(write_umls(tmp_path / "all", drawn), ALL)
        absent = maker.remove(sources=[source])
        assert absent == [source] * (rest == drawn)
        if not rest:
            with pytest.raises(InputError, match="no atom is left"):
                maker.make()
            return
        kept = maker.make().tables
    fresh = read_concepts(write_umls(tmp_path / "rest", rest), ALL).tables
    assert kept == fresh


def test_what_is_added_twice_is_there_once(umls):
    once = read_concepts(umls, ALL)
    with TableMaker() as maker:
        maker.add_tables(once)
        maker.add_release(umls, ALL)
        assert maker.make().tables == once.tables


SAID = (
    LayPhrase("C0000003", "le cœur qui lâche", "exact", "everyday", "", 2),
    LayPhrase("C0000006", "j'ai  mal au crâne", "broader", "everyday", "", 3),
    LayPhrase("C0000009", "le palpitant en panne", "narrower", "colloquial", "", 4),
    LayPhrase("C9999999", "autre chose", "exact", "everyday", "", 5),
)


def said(tables):
    """Concept, phrase and relation of each lay phrase."""
    concepts = Concepts(tables)
    atoms = concepts.atoms.query("source == 'LAYFR'")
    cuis, strings = concepts.concepts["cui"], concepts.strings["string"]
    assert set(atoms["term_type"]) == {"LAY"}
    return {(cuis[atom.concept], strings[atom.string], atom.code) for atom in atoms.itertuples()}


def test_phrases_of_laypeople_are_added_where_there_is_the_concept(tmp_path):
    umls = write_umls(tmp_path)
    write_lines(umls / "MRCUI.RRF", ["C0000009|2020AA|SY|||C0000003|Y|"])
    with TableMaker() as maker:
        maker.add_release(umls, ALL)
        maker.add_lay(SAID, "LAYFR")
        tables = maker.make().tables
    assert said(tables) == {
        ("C0000003", "le cœur qui lâche", "exact"),
        ("C0000006", "j'ai mal au crâne", "broader"),
        ("C0000003", "le palpitant en panne", "narrower"),  # of a concept that has another number now
    }
    assert (
        tables["concepts"] == read_concepts(umls, ALL).tables["concepts"]
    )  # they do not make it better known
    with TableMaker() as maker:
        maker.add_tables(Concepts(tables))
        assert maker.make().tables == tables
    with TableMaker() as maker:
        maker.add_tables(Concepts(tables))
        maker.remove(sources=["DEMO"])
        assert {cui for cui, *_ in said(maker.make().tables)} == {"C0000003", "C0000006"}
    with TableMaker() as maker:
        maker.add_tables(Concepts(tables))
        maker.remove(sources=["DEMO", "OTHER"])
        with pytest.raises(InputError, match="no atom is left"):  # phrases alone are no concept
            maker.make()


def test_there_may_be_no_phrase(umls):
    with TableMaker() as maker:
        maker.add_release(umls, ALL)
        maker.add_lay([], "LAYFR")
        assert maker.make().tables == read_concepts(umls, ALL).tables


def test_tables_survive_a_memory_that_is_too_small_for_them(tmp_path):
    many = [Atom(f"C{place % 4000:07d}", f"nom {place} {'long ' * 20}") for place in range(20_000)]
    folder = write_umls(tmp_path, many, types=[("C0000001", "T047")])
    with TableMaker(memory_mib=96, spill=tmp_path) as maker:
        maker.add_release(folder, ALL)
        small = maker.make()
    assert small.tables == read_concepts(folder, ALL).tables
    assert small.rows == {"strings": 20_000, "atoms": 20_000, "concepts": 4000}
    assert not list(tmp_path.glob(".deft-tables-*"))


def test_what_an_index_says_of_a_concept_is_added_to(umls, tmp_path):
    more = write_umls(
        tmp_path, [Atom("C0000003", "crise du cœur")], [("C0000003", "T184")], [("C0000003", "Autre.", "N")]
    )
    write_lines(more / "MRCUI.RRF", ["C0000009|2020AA|SY|||C0000003|Y|"])
    with TableMaker() as maker:
        maker.add_tables(read_concepts(umls, ALL))
        maker.add_release(more, ALL)
        concepts = maker.make()
    row = concepts.row_of("C0000003")
    assert concepts.labels("concepts", "semantic_types").at(row) == "T047;T184"
    assert concepts.texts("concepts", "definition").at(row) == "Autre."  # of one source, the first by letters
    assert concepts.current("C0000009") == ("C0000003",)
    assert concepts.rows["atoms"] == len(ATOMS)  # one of them is suppressed
