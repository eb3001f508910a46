"""No evaluation term enters the pairs that the base encoder is pretrained on."""

import csv
from pathlib import Path

import pytest
from demo import Atom, write_umls

from deft.config import read_block
from deft.corpora.deft2020 import read_t1, read_t2
from deft.corpora.delimited import read_rows
from deft.corpora.pairs import read_pairs
from deft.recipe.glosses import TermFilter, stems
from deft.terminology.lay import read_lay
from deft.text import normalize

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


class TestTheShippedEncoder:
    """What the recipe makes of the real inputs, held against every set that the encoder is evaluated on."""

    @pytest.fixture(scope="class")
    @staticmethod
    def recipe():
        from deft.recipe.params import RecipeParams

        if not Path("../shared/data").is_dir():
            pytest.skip("the inputs of the recipe are not beside the repository (../shared/data)")
        return read_block(Path("experiments/encoder/params.yaml"), RecipeParams)

    @pytest.fixture(scope="class")
    @staticmethod
    def learned(recipe):
        from deft.recipe.inputs import build_corpora

        return build_corpora(recipe)

    @staticmethod
    def said(path, *columns):
        return [row[column] for _, row in read_rows(Path(path), columns) for column in columns]

    def test_no_lay_phrase_that_reads_as_an_evaluated_one(self, learned):
        held = self.said("../shared/data/lay/lay_terms_dev.tsv", "lay", "technical")
        held += self.said("data/lay/dev.tsv", "Terme") + self.said("data/sample/lexicon.csv", "Terme")
        known = {stems(phrase) for phrase in held}
        phrases = set(learned["lay"].left)
        assert len(phrases) > 10_000
        assert {phrase for phrase in phrases if stems(phrase) in known} == set()
        others = {phrase.phrase for phrase in read_lay(Path("data/lay/lay_fr.tsv"))} - phrases
        assert others.isdisjoint(learned["lay"].right)

    def test_no_phrase_of_a_concept_of_the_development_set(self, recipe):
        held = set(self.said("data/lay/dev.tsv", "concept"))
        assert held.isdisjoint(phrase.cui for phrase in read_lay(recipe.lay))

    def test_no_gloss_with_an_evaluated_term(self, learned):
        terms = TermFilter(self.said("../shared/data/lay/lay_terms_dev.tsv", "lay", "technical"))
        assert [pair for pair in mined(learned) if any(map(terms.matches, pair))] == []

    def test_no_evaluated_sentence(self, learned):
        data = Path("../shared/data")
        graded = read_pairs(data / "sts/stsb_fr_dev.csv", grade="score")
        graded += read_t1(data / "deft_standin/t1-test.xml")
        held = {text for pair in graded for text in (pair.source, pair.target)}
        sets = read_t2(data / "deft_standin/t2-test.xml")
        held |= {text for item in sets for text in (item.source, *item.targets)}
        known = {normalize(text) for text in held}
        for name in ("translation", "grades", "sets"):
            corpus = learned[name]
            texts = [*corpus.left, *corpus.right, *(corpus.distractor or ())]
            assert [text for text in texts if normalize(text) in known] == []
