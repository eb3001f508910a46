"""Which concepts the lay vocabulary gets phrases for."""

import gzip
import inspect
from pathlib import Path

import pytest
from demo import Atom, write_umls

from deft.recipe import lay_concepts as module
from deft.recipe.lay_concepts import LayConcept, choose_concepts, count_phrases, write_concepts

LIST = Path(__file__).parents[2] / "data" / "lay" / "concepts.tsv"

ATOMS = (
    Atom("C0000001", "Toux"),
    Atom("C0000002", "Dyspnée"),
    Atom("C0000002", "Shortness of breath", "ENG", term_type="LAYSY"),
    Atom("C0000003", "Fracture du poignet"),
    Atom("C0000004", "Maladie autosomique récessive de Machin"),
    Atom("C0000005", "cough", "ENG"),
    Atom("C0000006", "HTA"),
    Atom("C0000007", "LES"),
    Atom("C0000007", "Lupus"),
)
TYPES = tuple((f"C000000{place}", "T033" if place < 3 else "T047") for place in range(1, 8))


@pytest.fixture
def chosen(tmp_path):
    write_umls(tmp_path, ATOMS, TYPES)
    text, words = tmp_path / "text.tsv.gz", tmp_path / "words.tsv.gz"
    sentences = "source\tsentence\na\tUne toux, la toux dans les HTA.\na\tDyspnée et toux"
    text.write_bytes(gzip.compress(sentences.encode()))
    words.write_bytes(gzip.compress(b"toux\tglose\nfracture\tglose\nles\tglose\n"))
    return {concept.cui: concept for concept in choose_concepts(tmp_path, text, words)}


def test_concepts_with_a_french_name_are_scored_by_what_is_known_of_them(chosen):
    assert list(chosen) == ["C0000001", "C0000002", "C0000003", "C0000007", "C0000004", "C0000006"]
    assert [concept.rank for concept in chosen.values()] == [1, 2, 3, 4, 5, 6]
    toux, dyspnea = chosen["C0000001"], chosen["C0000002"]
    assert (toux.frequency, toux.laysy, toux.headword, toux.kind) == (3, 0, 1, "symptom")
    assert (dyspnea.frequency, dyspnea.laysy, dyspnea.headword) == (1, 1, 0)
    assert chosen["C0000003"].kind == "injury"


def test_what_no_patient_has_a_word_for_comes_last(chosen):
    assert [cui for cui, concept in chosen.items() if not concept.spoken] == ["C0000004", "C0000006"]


def test_an_abbreviation_is_not_the_word_that_it_looks_like(chosen):
    lupus = chosen["C0000007"]
    assert (lupus.name, lupus.frequency, lupus.headword, lupus.spoken) == ("Lupus", 0, 0, 1)


def test_phrases_are_whole_words():
    assert count_phrases(["Toux sèche, toussoter", "toux"], {"toux", "toux seche", "tou"}) == {
        "toux": 2,
        "toux seche": 1,
    }


def test_no_evaluation_file_has_a_say():
    assert list(inspect.signature(choose_concepts).parameters) == ["umls", "text", "dictionary", "count"]
    source = inspect.getsource(module)
    assert not [
        word for word in ("quaero", "lay_terms", "lexicon", "mantra", "sample") if word in source.lower()
    ]


def test_the_list_that_is_committed_has_its_form(tmp_path, chosen):
    write_concepts(chosen.values(), tmp_path / "c.tsv")
    header = (tmp_path / "c.tsv").read_text(encoding="utf-8").splitlines()[0]
    lines = LIST.read_text(encoding="utf-8").splitlines()
    assert lines[0] == header
    assert len(lines) == 1 + module.COUNT
    cuis = [line.split("\t")[1] for line in lines[1:]]
    assert len(set(cuis)) == len(cuis)
    assert len(lines[1].split("\t")) == len(LayConcept.__dataclass_fields__)
