"""Explanations in parentheses, and the terms that are kept out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.recipe.glosses import MAX_WORDS, Gloss, TermFilter, mine_glosses
from deft.text import normalize


@pytest.mark.parametrize(
    ("sentence", "left", "right"),
    [
        (
            "Un taux élevé de sucre dans le sang (hyperglycémie).",
            "taux élevé de sucre dans le sang",
            "hyperglycémie",
        ),
        ("Fièvre, rougeur de la peau (également appelée érythème)", "rougeur de la peau", "érythème"),
        (
            "Signalez toute dyspnée (c’est-à-dire difficultés à respirer).",
            "Signalez toute dyspnée",
            "difficultés à respirer",
        ),
        (
            "Il arrive que ces malades remarquent une baisse soudaine de sucre dans le sang (hypoglycémie)",
            "baisse soudaine de sucre dans le sang",
            "hypoglycémie",
        ),
    ],
)
def test_a_gloss_is_found(sentence, left, right):
    assert mine_glosses([sentence]) == [Gloss(left, right, 1)]


@pytest.mark.parametrize(
    "sentence",
    [
        "Prenez un comprimé le matin (voir rubrique 3).",
        "Dose de charge (500 mg).",
        "Fièvre (fréquent).",
        "Organisation mondiale de la santé (OMS)",
        "Fièvre (fièvre).",
        "(hyperglycémie)",
        "Sans parenthèse.",
    ],
)
def test_other_parentheses_are_no_glosses(sentence):
    assert mine_glosses([sentence]) == []


def test_the_same_gloss_counts_whatever_its_form():
    sentences = ["Un mal de tête (céphalée)", "le Mal de tête (Céphalée)", "une douleur au ventre (colique)"]
    assert mine_glosses(sentences) == [
        Gloss("mal de tête", "céphalée", 2),
        Gloss("douleur au ventre", "colique", 1),
    ]


@given(st.lists(st.text("abcdé ,.()'-", max_size=60), max_size=5))
def test_mining_any_text(sentences):
    for gloss in mine_glosses(sentences):
        assert normalize(gloss.left) != normalize(gloss.right)
        assert 1 <= len(gloss.left.split()) <= MAX_WORDS
        assert gloss.count >= 1


@pytest.mark.parametrize(
    ("term", "phrase"),
    [
        ("maux de tête", "Mal de tête"),
        ("mal de ventre", "violents maux de ventre"),
        ("inflammation des vaisseaux", "Inflammations des vaisseau"),
        ("bouton de fièvre", "boutons de fièvre"),
        ("calcul biliaire", "les calculs biliaires."),
        ("boyau", "torsion des boyaux"),
        ("dyskinésie", "DYSKINESIES tardives"),
        ("yeux secs", "yeux sec"),
        ("angio-œdème", "Angio-oedème héréditaire"),
    ],
)
def test_singular_and_plural_are_one(term, phrase):
    assert TermFilter([term]).matches(phrase)


@pytest.mark.parametrize(
    ("term", "phrase"),
    [
        ("maux de tête", "mal de dos"),
        ("toux", "touche"),
        ("mal de tête", "mal de"),
        ("", "tout"),
        ("?", "tout"),
    ],
)
def test_other_phrases_pass(term, phrase):
    assert not TermFilter([term]).matches(phrase)


@given(st.text("abcs x'é", min_size=1), st.text("abcs x'é"), st.text("abcs x'é"))
def test_a_term_is_found_wherever_it_stands(term, before, after):
    terms = TermFilter([term])
    if normalize(term):
        assert terms.matches(f"{before} {term} {after}") or normalize(term) not in normalize(
            f"{before} {term} {after}"
        )
