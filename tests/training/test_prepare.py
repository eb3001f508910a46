"""Preparing the training pairs, and what is kept out of them."""

import json

import numpy as np
import pandas as pd
import pytest
from demo import ATOMS, TYPES, Atom, write_lines, write_umls
from hypothesis import given
from hypothesis import strategies as st

from deft.config import PrepareParams
from deft.corpora.deft2020 import SentencePair, write_t1
from deft.errors import InputError
from deft.text import normalize
from deft.training.prepare import Prepared, prepare, split_by, synonym_pairs, without


def names(*rows):
    return pd.DataFrame(rows, columns=["cui", "language", "string"])


def pairs(frame):
    return [tuple(row) for row in frame[["left", "right"]].itertuples(index=False)]


@pytest.fixture
def inputs(tmp_path, umls):
    """Parameters of the stage, one concept held out."""
    gold = tmp_path / "gold.csv"
    gold.write_text("Terme,CUI\ngros rhume,C0000001\n")
    graded = [SentencePair(str(place), f"s{place // 2}", f"t{place}", place % 6) for place in range(20)]
    write_t1(tmp_path / "t1.xml", [*graded, SentencePair("x", "sans", "note", None)])
    return PrepareParams(umls=umls, t1_train=tmp_path / "t1.xml", held_out=(gold,), dev_fraction=0.4)


def read(folder, name):
    return pd.read_parquet(folder / f"{name}.parquet")


def test_what_the_folder_holds(inputs, tmp_path):
    prepared = prepare(inputs, tmp_path / "prepared")
    out = tmp_path / "prepared"
    tables = {path.stem: pd.read_parquet(path) for path in out.glob("*.parquet")}
    assert {name: list(table.columns) for name, table in tables.items()} == {
        "strings": ["string", "first_atom"],
        "atoms": ["string", "cui"],
        "synonyms_train": ["cui", "left", "right"],
        "synonyms_dev": ["cui", "left", "right"],
        "graded_train": ["left", "right", "grade"],
        "graded_dev": ["left", "right", "grade"],
    }
    assert json.loads((out / "held_out.json").read_text()) == ["C0000001"]
    sources = json.loads((out / "sources.json").read_text())
    assert sources == [
        f"names of concepts (ENG, FRE) of {inputs.umls.name}: DEMO, OTHER",
        "graded sentence pairs of t1.xml",
    ]
    assert prepared == Prepared(
        concepts=6,
        strings=15,
        held_out_concepts=1,
        synonyms_train=len(tables["synonyms_train"]),
        synonyms_dev=len(tables["synonyms_dev"]),
        graded_train=12,
        graded_dev=8,
    )
    assert set(tables["graded_train"]["left"]).isdisjoint(tables["graded_dev"]["left"])
    assert tables["graded_train"]["grade"].dtype == np.float64


def test_held_out_concepts_stay_in_the_index_and_out_of_training(inputs, tmp_path):
    prepare(inputs, tmp_path / "prepared")
    synonyms = pd.concat(read(tmp_path / "prepared", f"synonyms_{part}") for part in ("train", "dev"))
    assert "C0000001" not in set(synonyms["cui"])
    kept_out = {normalize(atom.string) for atom in ATOMS if atom.cui == "C0000001"}
    assert kept_out.isdisjoint({normalize(text) for text in [*synonyms["left"], *synonyms["right"]]})
    assert "C0000002" not in set(synonyms["cui"])  # its second name is one of a held-out concept
    assert {"rhume", "coryza"} <= set(read(tmp_path / "prepared", "strings")["string"])
    assert len(synonyms) > 0


@pytest.mark.parametrize(
    ("edges", "held_out"),
    [
        ({"C0900000": "C0000001"}, {"C0000001"}),
        ({"C0900000": "C0900001", "C0900001": "C0000001"}, {"C0000001"}),
        ({"C0900000": "C0000001", "c0900000": "C0000002"}, {"C0000001", "C0000002"}),
    ],
    ids=["once", "through a concept retired since", "into two"],
)
def test_a_retired_cui_holds_out_what_it_became(inputs, tmp_path, edges, held_out):
    """The gold names C0900000, which a later release merged, at once or by and by."""
    lines = [f"{old.upper()}|2010AA|SY|||{new}|Y|" for old, new in edges.items()]
    umls = write_umls(tmp_path / "umls")
    write_lines(umls / "MRCUI.RRF", lines)
    inputs.held_out[0].write_text("Terme,CUI\ngros rhume,C0900000\n")
    prepared = prepare(inputs.model_copy(update={"umls": umls}), tmp_path / "prepared")
    assert prepared.held_out_concepts == len(held_out)
    assert set(json.loads((tmp_path / "prepared" / "held_out.json").read_text())) == held_out
    synonyms = pd.concat(read(tmp_path / "prepared", f"synonyms_{part}") for part in ("train", "dev"))
    kept_out = {normalize(atom.string) for atom in ATOMS if atom.cui in held_out}
    assert kept_out.isdisjoint({normalize(text) for text in [*synonyms["left"], *synonyms["right"]]})


def test_without_a_gold_file_nothing_is_held_out(inputs, tmp_path):
    prepare(inputs.model_copy(update={"held_out": ()}), tmp_path / "prepared")
    synonyms = pd.concat(read(tmp_path / "prepared", f"synonyms_{part}") for part in ("train", "dev"))
    assert {"C0000001", "C0000002"} <= set(synonyms["cui"])


@pytest.mark.parametrize("seed", range(5))
def test_train_and_dev_share_no_concept(tmp_path, seed):
    atoms = [Atom(f"C{place:07d}", f"{text} {place}") for place in range(30) for text in "abc"]
    folder = write_umls(tmp_path / "u", atoms, TYPES)
    prepare(PrepareParams(umls=folder, seed=seed, dev_fraction=0.2), tmp_path / "prepared")
    train, dev = (read(tmp_path / "prepared", f"synonyms_{part}") for part in ("train", "dev"))
    assert set(train["cui"]).isdisjoint(dev["cui"])
    assert (dev["cui"].nunique(), train["cui"].nunique()) == (6, 24)


def test_the_same_seed_gives_the_same_pairs(inputs, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        params = inputs.model_copy(update={"seed": seed, "max_pairs_per_concept": 1, "held_out": ()})
        prepare(params, tmp_path / name)
    same, again, other = (read(tmp_path / name, "synonyms_train") for name in "abc")
    assert same.equals(again)
    assert not same.equals(other)


def test_filters_are_obeyed(inputs, tmp_path):
    prepare(inputs.model_copy(update={"languages": ("FRE",), "held_out": ()}), tmp_path / "prepared")
    assert "heart attack" not in set(read(tmp_path / "prepared", "strings")["string"])


class TestSynonymPairs:
    def test_left_is_french_and_two_french_names_make_one_pair(self):
        frame = names(("A", "ENG", "x"), ("A", "FRE", "y"), ("A", "FRE", "z"), ("A", "ENG", "w"))
        found = pairs(synonym_pairs(frame, 99, 0))
        assert sorted(found) == [("y", "w"), ("y", "x"), ("y", "z"), ("z", "w"), ("z", "x")]

    def test_names_that_differ_in_form_alone_make_no_pair(self):
        frame = names(("A", "FRE", "Fièvre"), ("A", "FRE", "fievre"), ("A", "ENG", "FIEVRE, NOS"))
        assert synonym_pairs(frame, 99, 0).empty

    def test_concepts_without_a_french_name_make_none(self):
        assert synonym_pairs(names(("A", "ENG", "x"), ("A", "ENG", "y")), 99, 0).empty

    def test_names_of_different_concepts_make_none(self):
        assert synonym_pairs(names(("A", "FRE", "x"), ("B", "FRE", "y")), 99, 0).empty

    @given(st.integers(1, 5), st.integers(2, 6))
    def test_at_most_so_many_a_concept(self, most, count):
        frame = names(*[(cui, "FRE", f"{letter}") for cui in "AB" for letter in "abcdef"[:count]])
        sizes = synonym_pairs(frame, most, 0).groupby("cui").size()
        assert sizes.to_list() == [min(most, count * (count - 1) // 2)] * 2


def test_without():
    frame = names(("A", "FRE", "Rhume"), ("B", "FRE", "rhume"), ("B", "FRE", "grippe"), ("C", "ENG", "flu"))
    assert without(frame, {"A"})["string"].to_list() == ["grippe", "flu"]
    assert without(frame, ()).equals(frame)


@given(st.lists(st.sampled_from("abcdefgh")), st.floats(0.01, 0.99), st.integers(0, 9))
def test_split_by_keeps_values_together(values, fraction, seed):
    table = pd.DataFrame({"value": pd.Series(values, dtype="str"), "row": range(len(values))})
    first, second = split_by(table, "value", fraction, seed)
    assert set(first["value"]).isdisjoint(second["value"])
    assert sorted([*first["row"], *second["row"]]) == list(range(len(values)))
    assert second["value"].nunique() == round(fraction * len(set(values)))


class TestBadInput:
    def test_nothing_to_learn_from(self, tmp_path):
        folder = write_umls(tmp_path / "u", [Atom("C0000001", "a"), Atom("C0000002", "b")])
        with pytest.raises(InputError, match=r"no concept has two names to learn from\. Widen the filters"):
            prepare(PrepareParams(umls=folder), tmp_path / "prepared")
        assert not (tmp_path / "prepared").exists()

    def test_all_of_it_held_out(self, inputs, tmp_path):
        cuis = ";".join(sorted({atom.cui for atom in ATOMS}))
        inputs.held_out[0].write_text(f"Terme,CUI\nx,{cuis}\n")
        with pytest.raises(InputError, match="no concept has two names"):
            prepare(inputs, tmp_path / "prepared")

    def test_gold_without_the_column(self, inputs, tmp_path):
        with pytest.raises(InputError, match=r"gold\.csv:1: no column 'cuis'"):
            prepare(inputs.model_copy(update={"held_out_cui_column": "cuis"}), tmp_path / "prepared")

    def test_a_folder_of_another_kind(self, inputs, tmp_path):
        with pytest.raises(InputError, match="holds other things and is not replaced"):
            prepare(inputs, tmp_path)
        assert inputs.t1_train.exists()

    def test_a_full_disk_keeps_the_old_folder(self, inputs, tmp_path, monkeypatch):
        prepare(inputs, tmp_path / "prepared")

        def full(*arguments, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
        with pytest.raises(InputError, match="prepared: cannot be written: No space left"):
            prepare(inputs, tmp_path / "prepared")
        assert len(list((tmp_path / "prepared").iterdir())) == 8
