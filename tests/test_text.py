"""The same string."""

import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deft.text import clean, fold, normalize

ANY = st.text(st.characters())  # lone surrogates too


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  Maladie \t de\nCrohn ", "Maladie de Crohn"),
        ("fie\u0300vre", "fièvre"),
        ("in\u00adfarctus\u200b \ufeffaigu", "infarctus aigu"),
        ("e\u200d\u0301tat", "état"),  # an accent that the joiner kept apart
        ("douleur\x00thoracique", "douleur thoracique"),
        ("a\u00a0b\u2009c\u2028d", "a b c d"),
        ("\udce9t\ue000", "t"),
        ("Œdème de Quincke", "Œdème de Quincke"),
        ("\x00\u200b ", ""),
        ("", ""),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Œdème", "oedeme"),
        ("FIÈVRE", "fievre"),
        ("l’Insuffisance", "l'insuffisance"),
        ("l´insuffisance", "l'insuffisance"),  # U+00B4, the acute accent of a keyboard
        ("ﬁbrome", "fibrome"),
        ("ℋelicobacter", "helicobacter"),  # capital only once decomposed
        ("Straße", "strasse"),
    ],
)
def test_fold(text, expected):
    assert fold(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("L'insuffisance cardiaque", "insuffisance cardiaque"),
        ("douleur de l’épaule", "douleur de epaule"),
        ("aujourd'hui", "aujourd hui"),
        ("Diabète, SAI", "diabete"),
        ("Diabète (S.A.I.)", "diabete"),
        ("Asthme, non classé ailleurs", "asthme"),
        ("Asthme NCA, sans précision", "asthme"),
        ("Disorder, not otherwise specified", "disorder"),
        ("Anémie sai;", "anemie"),
        ("SAI", "sai"),
        ("potassium > 5 %", "potassium > 5 %"),
        ("HER2+", "her2+"),
        ("anti-TNF_alpha", "anti tnf alpha"),
        ("...", ""),
    ],
)
def test_normalize(text, expected):
    assert normalize(text) == expected


def test_normalize_keeps_word_order_and_laboratory_signs_apart():
    assert normalize("foie gras") != normalize("gras foie")
    assert normalize("taux < 5") != normalize("taux > 5")


@given(ANY)
@example("e\u200d\u0301")
def test_clean_is_idempotent_and_leaves_one_line(text):
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert cleaned == unicodedata.normalize("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not {unicodedata.category(char) for char in cleaned} & {"Cc", "Cf", "Cs", "Co", "Cn"}


@given(ANY)
@example("x SAI SAI")
@example("l'd'x")
@example("ℋ")
@example("\u0149")
def test_normalize_is_idempotent(text):
    assert normalize(normalize(text)) == normalize(text)
    assert fold(fold(text)) == fold(text)
    assert re.fullmatch(r"[\w+%<>= ]*", normalize(text))


@given(st.text("abcéèêçœÀÉÑü'’ -,.(µ²½)"))
def test_unicode_form_and_spacing_make_no_difference(text):
    assert normalize(f"  {unicodedata.normalize('NFD', text)}\t") == normalize(text)
