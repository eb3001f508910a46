"""Other ways to write a query."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deft.corpora.delimited import read_rows
from deft.mapping.query import ABBREVIATIONS, RULES, Variant, understand
from deft.text import clean, fold

QUERIES = read_rows(Path(__file__).with_name("queries.tsv"), ("query", "variant", "rule"))
TABLE = read_rows(ABBREVIATIONS, ("abbreviation", "expansion"))


@pytest.mark.parametrize(("query", "variant", "rule"), QUERIES.cells)
def test_first_variant(query, variant, rule):
    assert understand(query).variants[0] == Variant(variant, rule)


def test_every_rule_has_a_query():
    assert {row["rule"] for _, row in QUERIES} == set(RULES)


@pytest.mark.parametrize(
    "query",
    [
        "infarctus du myocarde",
        "pan coupé",  # in small letters it is a word
        "sans hta-x",
        "IRA",  # several meanings
        "XHTA",
        "H.T.A.X.",  # another one
        "absence de goût",
        "risque",
        "traitement de",
        "vitamine D",
        "artère coronaire droite",
        "infarctus, côté gauche",
        "hypertension, diabète, obésité",
        "Candida sp",
        "poids de naissance inférieur à 1 500 g",
        "âge ≥ 65 %",
        "HER2 3",
        "vitamine B12",
        "goutte",
        "sirop",
        "pancréas",
        "tétanos",
        "abcès",
        "corps ciliaire",
        "virus",
        "de Quervain",
        "j'ai",
        "la",
        "",
    ],
)
def test_no_variant(query):
    assert understand(query).variants == ()


def test_rules_work_on_the_results_of_those_before():
    assert [variant.text for variant in understand("Les OMA à 39 °C, SAI").variants] == [
        "Les OMA à 39 °C",
        "Les otite moyenne aiguë à 39 °C",
        "otite moyenne aiguë à 39 °C",
        "otite moyenne aiguë",
    ]


def test_the_query_itself_is_cleaned():
    assert understand("  HTA\u200b  sévère ").text == "HTA sévère"


def test_abbreviations_are_unambiguous_and_in_capitals():
    assert len(TABLE.cells) >= 200
    short = [row["abbreviation"] for _, row in TABLE]
    assert len(set(short)) == len(short)
    assert all(re.fullmatch(r"[A-Z][A-Z0-9]+(-[A-Z]+)?", text) for text in short)
    assert all(row["expansion"] == clean(row["expansion"]) != "" for _, row in TABLE)
    assert not {"IVG", "IRA", "PAC"} & set(short)


@pytest.mark.parametrize("row", TABLE.cells, ids=lambda row: row[0])
def test_each_abbreviation_is_found_with_and_without_dots(row):
    abbreviation, expansion = row
    dotted = "".join(f"{letter}." for letter in abbreviation)
    for form in [abbreviation] if "-" in abbreviation else [abbreviation, dotted]:
        assert understand(f"{form} grave").variants[0].text == f"{expansion} grave"


@pytest.mark.parametrize("piece", [", ", "1 ", "a SAI", "SAI ", "1,", "(", "j'ai ", "A.", "S.A.I. ", "aux "])
def test_time_is_linear_in_the_length(piece):
    start = time.process_time()
    understand(piece * 20_000)
    assert time.process_time() - start < 2


@given(st.text(st.characters()) | st.text("HTA. ,SAIdsx'’lj0123456789mg/àé ", max_size=40))
@example("l'")
@example(", ")
@example("SAI SAI")
def test_variants_are_new_clean_and_few(term):
    query = understand(term)
    forms = [fold(text) for text in (query.text, *(variant.text for variant in query.variants))]
    assert query.text == clean(term)
    assert len(set(forms)) == len(forms) <= len(RULES) + 1
    assert all(variant.text == clean(variant.text) != "" for variant in query.variants)
    assert {variant.rule for variant in query.variants} <= set(RULES)
