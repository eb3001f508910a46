"""Phrases of laypeople: how they are read, and what a program finds wrong with them."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from deft.corpora.delimited import read_rows
from deft.errors import InputError
from deft.recipe.lay_reading import CHECKED
from deft.terminology.lay import (
    COLUMNS,
    RELATIONS,
    SHIPPED,
    LayPhrase,
    ambiguous,
    find_faults,
    find_lay,
    read_lay,
    rrf_lines,
)
from deft.terminology.lexicon import read_gold
from deft.terminology.rrf import MRCONSO, stream_atoms
from deft.text import normalize

HEADER = "\t".join(COLUMNS)
DATA = Path(__file__).parents[2] / "data" / "lay"
NAMES = {"C0012569": {"Diplopie", "Vision double"}, "C0010200": {"Toux sèche"}}


def said(phrase, cui="C0012569", relation="exact", line=2):
    return LayPhrase(cui, phrase, relation, "everyday", "", line)


def problems(*phrases):
    """What is wrong, but for the number of phrases."""
    return [fault.problem for fault in find_faults(phrases, NAMES) if "not 3 to 8" not in fault.problem]


def test_read(tmp_path):
    path = tmp_path / "lay.tsv"
    lines = (
        HEADER,
        "C0012569\tje vois double\texact\teveryday\t",
        "C0000001\t-\t\t\tsays when, not what",
        "C0010200\ttousser du sec\tbroader\tregional:QC\trare",
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    assert read_lay(path) == [
        LayPhrase("C0012569", "je vois double", "exact", "everyday", "", 2),
        LayPhrase("C0010200", "tousser du sec", "broader", "regional:QC", "rare", 4),
    ]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("C12569\tvoir double\texact\teveryday\t", "expected a CUI"),
        ("C0012569\t\texact\teveryday\t", "field phrase: it is empty"),
        ("C0012569\tvoir|double\texact\teveryday\t", "field phrase: a bar is no letter"),
        ("C0012569\tvoir double\tequal\teveryday\t", "Write exact, narrower or broader"),
        ("C0012569\tvoir double\texact\tregional\t", "regional:QC"),
        ("C0012569\t-\t\t\t", "Say why there is no phrase"),
    ],
)
def test_a_cell_that_is_none_of_its_column_is_refused_with_its_line(tmp_path, line, told):
    path = tmp_path / "lay.tsv"
    path.write_text(f"{HEADER}\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_lay(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert told in str(caught.value)


def test_what_is_not_said_of_a_phrase_is_the_common_case(tmp_path):
    path = tmp_path / "ours.csv"
    path.write_text("phrase;cui;register\nje vois double;C0012569;\nvoir trouble;C0012569;child\n", "utf-8")
    assert read_lay(path) == [
        LayPhrase("C0012569", "je vois double", "exact", "everyday", "", 2),
        LayPhrase("C0012569", "voir trouble", "exact", "child", "", 3),
    ]


def test_lines_of_mrconso_are_read_back_as_atoms(tmp_path):
    phrases = [said("je vois double"), said("Je vois double", relation="broader"), said("toux", "C0010200")]
    lines = list(rrf_lines(phrases))
    (tmp_path / "MRCONSO.RRF").write_text("".join(lines), "utf-8")
    atoms = [row for batch in stream_atoms(tmp_path) for row in batch.to_pylist()]
    assert [(row["cui"], row["string"], row["code"]) for row in atoms] == [
        (phrase.cui, phrase.phrase, phrase.relation) for phrase in phrases
    ]
    shared = {"language": "FRE", "source": "LAYFR", "term_type": "LAY", "preferred": False}
    assert all(row | shared == row for row in atoms)
    fields = [dict(zip(MRCONSO, line.split("|"), strict=False)) for line in lines]
    assert len({row["AUI"] for row in fields}) == len({row["SUI"] for row in fields}) == 3
    assert fields[0]["LUI"] == fields[1]["LUI"] != fields[2]["LUI"]  # capitals do not make another term
    assert list(rrf_lines(phrases[:1], "LAYHUG")) == [lines[0].replace("LAYFR", "LAYHUG")]


def test_a_vocabulary_is_found_by_its_path_or_as_the_one_that_comes_with_deft(tmp_path, monkeypatch):
    assert find_lay(tmp_path / "ours.tsv") == tmp_path / "ours.tsv"
    assert find_lay() == find_lay(SHIPPED) == DATA / "lay_fr.tsv"
    monkeypatch.setattr("deft.terminology.lay._FILE", "absent.tsv")
    with pytest.raises(InputError, match=r"no lay vocabulary\. Build with --no-lay"):
        find_lay()


@pytest.mark.parametrize(
    ("phrase", "problem"),
    [
        ("l\u2019œil voit double", "a typographic apostrophe"),
        ("je vois double /c", "a slash"),
        ("je vois double.", "a final full stop"),
        ("je  vois double", "blanks at an end or in a row"),
        ("VOIR DOUBLE", "words all in capitals"),
        (" ".join("abcdefghijklm"), "more than 12 words"),
        ("visions doubles", "the same words as 'Vision double'"),
        ("double vision", "the same words as 'Vision double'"),
    ],
)
def test_faults(phrase, problem):
    assert problems(said(phrase)) == [problem]


@pytest.mark.parametrize(
    ("one", "other"), [("un mal", "un maux"), ("le bateau", "les bateaux"), ("gonflé", "gonflées")]
)
def test_an_inflection_is_not_another_wording(one, other):
    assert problems(said(one), said(other, line=3)) == [f"the same words as {one!r}"]


@pytest.mark.parametrize(("count", "faults"), [(2, 1), (3, 0), (8, 0), (9, 1)])
def test_three_to_eight_phrases_a_concept(count, faults):
    phrases = [said(f"phrase {'abcdfghij'[place] * 2}", line=place) for place in range(count)]
    found = find_faults(phrases, NAMES)
    assert [fault.line for fault in found] == [count - 1] * faults
    assert all(fault.problem == f"C0012569 has {count}, not 3 to 8 phrases" for fault in found)


def test_phrases_in_another_wording_are_fine():
    assert (
        problems(said("je vois double"), said("tout se dédouble"), said("mes yeux voient deux images")) == []
    )


def test_a_phrase_is_not_said_twice_of_a_concept_but_may_be_of_two():
    assert problems(said("je vois double"), said("double je vois", line=3)) == [
        "the same words as 'je vois double'"
    ]
    assert problems(said("gêne"), said("gêne", "C0010200")) == []
    assert problems(said("gêne", "C9999999")) == ["C9999999 is not among the concepts"]


def test_a_phrase_of_two_concepts_is_ambiguous_unless_it_is_broader_on_each():
    exact = said("Gêne"), said("gêne", "C0010200", relation="broader")
    assert ambiguous(exact) == {"gene": list(exact)}
    assert ambiguous([said("gêne", cui, relation="broader") for cui in NAMES]) == {}
    assert ambiguous([said("gêne"), said("gêne")]) == {}


@given(st.permutations(["mal", "aux", "yeux", "le", "soir"]))
def test_order_does_not_make_another_wording(words):
    assert problems(said("mal aux yeux le soir"), said(" ".join(words))) == [
        "the same words as 'mal aux yeux le soir'"
    ]


def test_the_phrases_that_are_committed_have_no_faults():
    with (DATA / "concepts.tsv").open(encoding="utf-8") as stream:
        names = {row["cui"]: {row["name"]} for row in csv.DictReader(stream, delimiter="\t")}
    written = [phrase for path in sorted((DATA / "written").glob("*.tsv")) for phrase in read_lay(path)]
    assert find_faults(written, names) == []
    shipped = read_lay(DATA / "lay_fr.tsv")
    assert {(phrase.cui, phrase.phrase) for phrase in shipped} <= {
        (phrase.cui, phrase.phrase) for phrase in written
    }
    assert ambiguous(shipped) == {}
    lines = list(rrf_lines(shipped))
    assert len({line.split("|")[MRCONSO.index("AUI")] for line in lines}) == len(lines)


def test_the_card_states_the_figures_of_the_files():
    card = (DATA / "README.md").read_text(encoding="utf-8")
    shipped = read_lay(DATA / "lay_fr.tsv")
    written = [phrase for path in sorted((DATA / "written").glob("*.tsv")) for phrase in read_lay(path)]
    assert f"{len(written):,} phrases on {len({phrase.cui for phrase in written}):,} concepts" in card
    assert f"{len(shipped):,} phrases on {len({phrase.cui for phrase in shipped}):,} concepts" in card
    counted = Counter(phrase.relation for phrase in shipped)
    assert ", ".join(f"{relation} {counted[relation]:,}" for relation in RELATIONS) in card
    queries = read_gold(DATA / "dev.tsv", "Terme", "CUI")
    assert f"`dev.tsv` has {len(queries):,} phrases" in card
    rows = [cells for _, cells in read_rows(DATA / "checked.tsv", (*CHECKED, "sample"))]
    for sample in ("first", "second"):
        verdicts = Counter(cells["verdict"] for cells in rows if cells["sample"] == sample)
        right = verdicts["right"] + verdicts["acceptable"]
        low, high = binomtest(right, verdicts.total()).proportion_ci(method="wilson")
        figures = [verdicts["right"], verdicts["acceptable"], verdicts["wrong"]]
        rate = f"{100 * right / verdicts.total():.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        assert f"| {sample} | {' | '.join(map(str, figures))} | {rate} |" in card


def test_what_a_later_reader_said_is_what_is_shipped():
    shipped = {(phrase.cui, phrase.phrase): phrase.relation for phrase in read_lay(DATA / "lay_fr.tsv")}
    several = Counter(normalize(phrase) for _, phrase in shipped)
    for _, cells in read_rows(DATA / "checked.tsv", CHECKED):
        key = cells["cui"], cells["phrase"]
        assert (key in shipped) == (cells["relation"] != "-")
        assert (cells["verdict"] == "wrong") == (cells["relation"] == "-")
        if key in shipped and cells["relation"]:
            assert shipped[key] == ("broader" if several[normalize(key[1])] > 1 else cells["relation"])


def test_the_development_set_is_of_concepts_that_the_vocabulary_does_not_have():
    shipped = read_lay(DATA / "lay_fr.tsv")
    queries = read_gold(DATA / "dev.tsv", "Terme", "CUI")
    assert {normalize(phrase.phrase) for phrase in shipped}.isdisjoint(
        normalize(query.query) for query in queries
    )
    with (DATA / "dev.tsv").open(encoding="utf-8") as stream:
        held = {line.split("\t")[1].split(";")[0] for line in stream}
    assert held.isdisjoint(phrase.cui for phrase in shipped)
