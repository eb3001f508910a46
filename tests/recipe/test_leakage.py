"""No evaluation term enters the pairs that the base encoder is pretrained on."""

import csv

import pytest
from demo import Atom, write_umls

from deft.recipe.glosses import TermFilter

pytest.importorskip("torch")
pytest.importorskip("transformers")

ATOMS = [
    Atom("C0000001", "céphalée"),
    Atom("C0000001", "headache", "ENG"),
    Atom("C0000002", "hyperglycémie"),
    Atom("C0000002", "hyperglycaemia", "ENG"),
    Atom("C0000003", "urticaire"),
    Atom("C0000003", "éruption d'urticaire", preferred=False),
    Atom("C0000003", "hives", "ENG"),
    Atom("C0000004", "gonflement du visage"),
    Atom("C0000004", "angio-œdème facial", preferred=False),
]
SENTENCES = [
    "des maux de tête (céphalées)",
    "un mal de tête (migraine sévère)",
    "taux élevé de sucre dans le sang (hyperglycémie)",
    "plaques rouges qui démangent (urticaire)",
    "des boursouflures de la face (gonflement du visage)",
    "une rougeur de la peau (érythème)",
    "une rougeur de la peau (érythème)",
]
HELD_OUT = [("mal de tête", "céphalée", "C0000001"), ("gros visage", "angio-œdème", "C0000009")]


def table(path, header, rows):
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(
            stream, delimiter="\t" if path.suffix == ".tsv" else ",", quoting=csv.QUOTE_MINIMAL
        )
        writer.writerows([header, *rows])
    return path


@pytest.fixture
def params(tmp_path):
    from deft.recipe.params import RecipeParams, TrainingParams

    graded = [("Un chat dort.", "Un chien dort.", 2), ("Tenu à l'écart.", "Mis de côté.", 4)]
    return RecipeParams(
        teacher="none",
        umls=write_umls(tmp_path / "umls", ATOMS),
        parallel=table(
            tmp_path / "parallel.tsv",
            ["source", "en", "fr"],
            [("x", "a cat", "un chat"), ("x", "kept out", "Mis de côté.")],
        ),
        text=table(tmp_path / "text.tsv", ["source", "sentence"], [("leaflet", text) for text in SENTENCES]),
        mentions=table(
            tmp_path / "mentions.tsv", ["doc", "mention", "cui"], [("1", "sucre élevé", "C0000002;C0000099")]
        ),
        graded=table(tmp_path / "graded.csv", ["sentence1", "sentence2", "score"], graded),
        held_out_terms=(table(tmp_path / "held.tsv", ["lay", "technical", "cuis"], HELD_OUT),),
        held_out_texts=(
            table(tmp_path / "dev.csv", ["sentence1", "sentence2"], [("MIS de côté", "Autre.")]),
        ),
        training=TrainingParams(steps=1, mixture={"glosses": 1.0}),
    )


@pytest.fixture
def corpora(params):
    from deft.recipe.inputs import build_corpora

    return build_corpora(params)


def mined(corpora):
    return list(zip(corpora["glosses"].left, corpora["glosses"].right, strict=True))


def test_mining_keeps_what_it_may(corpora):
    assert ("taux élevé de sucre dans le sang", "hyperglycémie") in mined(corpora)
    assert ("rougeur de la peau", "érythème") in mined(corpora)
    assert ("plaques rouges qui démangent", "hives") in mined(corpora)


def test_no_mined_pair_of_a_held_out_concept(corpora):
    texts = {text for pair in mined(corpora) for text in pair}
    assert texts.isdisjoint({"céphalée", "céphalées", "headache", "migraine sévère", "maux de tête"})


def test_no_mined_pair_with_a_held_out_term(corpora):
    terms = TermFilter([term for lay, technical, _ in HELD_OUT for term in (lay, technical)])
    leaked = [pair for pair in mined(corpora) if any(map(terms.matches, pair))]
    assert leaked == []


def test_no_held_out_sentence(corpora):
    for name in ("grades", "translation"):
        texts = {*corpora[name].left, *corpora[name].right}
        assert "Mis de côté." not in texts
        assert len(texts) > 1
