"""Reading the phrases of the lay vocabulary a second time, and what becomes of them."""

import csv

import pytest

from deft.errors import InputError
from deft.mapping.mapper import TermMapper
from deft.recipe import lay_reading
from deft.recipe.lay_reading import (
    Entry,
    Question,
    part_development,
    questions,
    read_answers,
    read_corrections,
    same_names,
    settle,
    write_development,
    write_entries,
    write_sheets,
)
from deft.terminology.lay import LayPhrase, read_lay
from deft.terminology.lexicon import read_gold


def said(phrase, cui="C0000003", relation="exact"):
    return LayPhrase(cui, phrase, relation, "everyday", "", 2)


def entry(phrase, cui="C0000003", relation="exact", read="agreed"):
    return Entry(phrase, cui, relation, "everyday", "", "model", read)


PHRASES = [said("le cœur qui lâche"), said("le nez qui coule", "C0000001"), said("mal au crâne", "C0000006")]


def test_the_concept_is_among_those_that_are_shown_and_in_no_fixed_place(built):
    mapper = TermMapper.open(built)
    many = [said(f"le cœur {place}") for place in range(30)]
    asked = list(questions(many, mapper))
    assert sorted(question.phrase.phrase for question in asked) == sorted(phrase.phrase for phrase in many)
    assert [question.phrase for question in asked] != many
    places = {question.shown.index("C0000003") for question in asked}
    assert len(places) > 2
    assert all(len(set(question.shown)) == len(question.shown) == 6 for question in asked)
    assert list(questions(many, mapper)) == asked
    assert list(questions(many, mapper, seed=1)) != asked


def test_concepts_with_the_same_names_are_one():
    names = {"C1": {"Fièvre"}, "C2": {"fièvre"}, "C3": {"Fièvre", "Pyrexie"}, "C4": set()}
    assert same_names(names) == {"C1": ["C1", "C2"], "C2": ["C1", "C2"], "C3": ["C3"]}


def test_a_sheet_shows_names_and_not_what_was_meant(built, tmp_path):
    mapper = TermMapper.open(built)
    asked = [Question(PHRASES[0], ("C0000004", "C0000003"))]
    write_sheets(asked, mapper.concepts, tmp_path)
    assert (tmp_path / "001.txt").read_text("utf-8") == (
        "1. le cœur qui lâche\n"
        "   a cœur / en: heart\n"
        "   b crise cardiaque / infarctus du myocarde / en: heart attack\n"
    )


def test_answers_are_read_back(built, tmp_path, monkeypatch):
    monkeypatch.setattr(lay_reading, "PER_SHEET", 2)
    mapper = TermMapper.open(built)
    shown = ("C0000001", "C0000003", "C0000006")
    write_sheets([Question(phrase, shown) for phrase in PHRASES], mapper.concepts, tmp_path, first=7)
    (tmp_path / "007.answers.txt").write_text("1 b\n\n2 a, c\n", "utf-8")
    assert read_answers(tmp_path, "007") == [
        ("C0000003", "le cœur qui lâche", "C0000003"),
        ("C0000001", "le nez qui coule", "C0000001 C0000006"),
    ]
    (tmp_path / "008.answers.txt").write_text("1 -\n", "utf-8")
    assert read_answers(tmp_path, "008") == [("C0000006", "mal au crâne", "")]


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ("1 b\n", "no answer to 2"),
        ("1 b\n2 z\n", "'2 z' is no answer"),
        ("1\n", "is no answer"),
        ("1 b\n3 b\n", "'3 b' is no answer"),
        ("1 b\n2 h\n", "'2 h' names a letter that is not there"),
    ],
)
def test_a_sheet_is_answered_whole(built, tmp_path, answers, told):
    asked = [Question(phrase, ("C0000001", "C0000003")) for phrase in PHRASES[:2]]
    write_sheets(asked, TermMapper.open(built).concepts, tmp_path)
    (tmp_path / "001.answers.txt").write_text(answers, "utf-8")
    with pytest.raises(InputError, match=told):
        read_answers(tmp_path, "001")


def test_what_the_reader_says_settles_a_phrase():
    read = {
        ("C0000003", "le cœur qui lâche"): ["C0000003"],
        ("C0000001", "le nez qui coule"): ["C0000001", "C0000002"],
        ("C0000006", "mal au crâne"): ["C0000004"],
        ("C0000006", "la tête"): [],
    }
    assert settle([*PHRASES, said("la tête", "C0000006"), said("jamais lu")], read) == [
        entry("le cœur qui lâche"),
        entry("le nez qui coule", "C0000001", "broader", "several"),
    ]
    key = "C0000003", "le cœur qui lâche"
    kept = entry("le nez qui coule", "C0000001", "broader", "several")
    assert settle(PHRASES, read, {key: "-"}) == [kept]
    assert settle(PHRASES, read, {key: "narrower"}) == [entry(key[1], relation="narrower"), kept]
    narrower = said("le cœur qui lâche", relation="narrower")
    assert settle([narrower], read) == [entry("le cœur qui lâche", relation="narrower")]


def test_a_phrase_that_stays_on_two_concepts_is_broader_on_each():
    both = [said("gêne"), said("Gêne", "C0000001")]
    read = {(phrase.cui, phrase.phrase): [phrase.cui] for phrase in both}
    assert {(found.cui, found.relation) for found in settle(both, read)} == {
        ("C0000003", "broader"),
        ("C0000001", "broader"),
    }


def test_concepts_are_held_out_whole_and_share_no_phrase_with_the_rest():
    entries = [entry(f"dire {place} {word}", f"C{place:07d}") for place in range(200) for word in "ab"]
    both = [entry("tous", f"C{place:07d}") for place in range(200)]
    held, rest = part_development([*entries, *both], share=0.2)
    assert 20 < len({one.cui for one in held}) < 60
    assert not {one.cui for one in held} & {one.cui for one in rest}
    assert {one.phrase for one in held}.isdisjoint({one.phrase for one in rest})
    assert {one.phrase for one in [*held, *rest]} == {one.phrase for one in [*entries, *both]}
    half = part_development(entries[::2], share=0.2)  # what else is in the vocabulary moves no concept
    assert half == (
        [one for one in held if one in entries[::2]],
        [one for one in rest if one in entries[::2]],
    )


def test_the_vocabulary_and_its_development_set_are_read_by_what_reads_such_files(tmp_path):
    entries = [entry('le "palpitant" lâche'), entry("# un mal", "C0000001", "broader", "several")]
    write_entries(entries, tmp_path / "lay_fr.tsv")
    assert [(phrase.cui, phrase.phrase, phrase.relation) for phrase in read_lay(tmp_path / "lay_fr.tsv")] == [
        ("C0000001", "# un mal", "broader"),
        ("C0000003", 'le "palpitant" lâche', "exact"),
    ]
    read = {("C0000003", entries[0].phrase): ["C0000003"], ("C0000001", "# un mal"): ["C0000001", "C0000002"]}
    alike = same_names({"C0000003": {"x"}, "C0000008": {"X"}})
    write_development(entries, read, alike, tmp_path / "dev.tsv")
    gold = {item.query: item.cuis for item in read_gold(tmp_path / "dev.tsv", "Terme", "CUI")}
    assert gold == {
        'le "palpitant" lâche': {"C0000003", "C0000008"},
        "# un mal": {"C0000001", "C0000002"},
    }
    with (tmp_path / "dev.tsv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["CUI"].split(";")[0] for row in rows] == [
        "C0000001",
        "C0000003",
    ]  # the one it was written for


def test_corrections_name_what_they_cannot_read(tmp_path):
    path = tmp_path / "checked.tsv"
    path.write_text(
        "cui\tphrase\tverdict\trelation\n"
        "C0000001\tla crève\tright\t\nC0000001\tgoutte\tacceptable\tbroader\nC0000002\tnez\twrong\t-\n"
    )
    assert read_corrections(path) == {("C0000001", "goutte"): "broader", ("C0000002", "nez"): "-"}
    path.write_text("cui\tphrase\tverdict\trelation\nC0000001\tgoutte\tacceptable\twider\n")
    with pytest.raises(InputError, match=r"'wider' is no relation") as raised:
        read_corrections(path)
    assert raised.value.line == 2
