"""Scores of rankings, and the misses."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.evaluation.linking import (
    Miss,
    evaluate_mapping,
    first_ranks,
    hardest_misses,
    read_misses,
    recall_curve,
    write_misses,
)
from deft.terminology.lexicon import GoldMapping


@dataclass(frozen=True)
class Candidate:
    cui: str
    name: str
    matched: str
    cosine: float


@dataclass(frozen=True)
class Mapping:
    query: str
    candidates: tuple[Candidate, ...]


GOLD = [
    GoldMapping("mal de tête", frozenset({"A"})),
    GoldMapping("rhume", frozenset({"B", "C"})),
    GoldMapping("jambe", frozenset({"D"})),
    GoldMapping("inconnu", frozenset({"Z"})),
]
RANKINGS = [("A", "B"), ("A", "D", "C", "B"), ("A",), ()]
NAMES = {"A": "céphalée", "B": "rhinite", "C": "rhume banal", "D": "membre inférieur"}


def candidates(cuis):
    return tuple(
        Candidate(cui, NAMES[cui], NAMES[cui].upper(), 0.9 - rank / 10) for rank, cui in enumerate(cuis)
    )


def mappings(*rankings):
    return [Mapping(item.query, candidates(cuis)) for item, cuis in zip(GOLD, rankings, strict=True)]


def test_first_ranks_takes_any_gold_concept():
    assert first_ranks(GOLD, RANKINGS).tolist() == [1, 3, 0, 0]


def test_evaluate_mapping_by_hand():
    scores = evaluate_mapping(GOLD, RANKINGS)
    assert scores["recall_at_1"]["value"] == 0.25
    assert scores["recall_at_5"]["value"] == 0.5
    assert scores["recall_at_64"]["value"] == 0.5
    assert scores["mrr"]["value"] == pytest.approx((1 + 1 / 3) / 4)
    assert scores["n"] == 4
    assert "in_index" not in scores


def test_in_index_leaves_out_what_no_system_can_find():
    scores = evaluate_mapping(GOLD, RANKINGS, known=NAMES)["in_index"]
    assert scores["n"] == 3
    assert scores["recall_at_1"]["value"] == pytest.approx(1 / 3)
    assert evaluate_mapping(GOLD, RANKINGS, known=())["in_index"] == {"n": 0}


def test_refuses_what_cannot_be_scored():
    with pytest.raises(InputError, match="4 queries but 1"):
        evaluate_mapping(GOLD, [()])
    with pytest.raises(InputError, match="no query"):
        evaluate_mapping([], [])
    with pytest.raises(InputError, match="'vide' has no gold"):
        evaluate_mapping([GoldMapping("vide", frozenset())], [()])


@given(st.lists(st.permutations("ABCDE"), min_size=1, max_size=10))
def test_recall_grows_with_k_up_to_all(rankings):
    gold = [GoldMapping("q", frozenset("C"))] * len(rankings)
    curve = recall_curve(first_ranks(gold, rankings), depth=5)
    assert curve == sorted(curve)
    assert curve[-1] == 1


def test_hardest_misses_come_in_order():
    misses = hardest_misses(GOLD, mappings("AB", "ADCB", "A", ""), NAMES)
    assert [(miss.query, miss.rank) for miss in misses] == [("jambe", None), ("rhume", 3)]
    assert misses[1] == Miss("rhume", "B; C", "rhinite; rhume banal", "A", "céphalée", "CÉPHALÉE", 0.9, 3)
    assert hardest_misses(GOLD, mappings("AB", "ADCB", "A", ""), NAMES, limit=1) == misses[:1]


def test_the_surest_of_equal_misses_comes_first_and_no_candidate_last():
    gold = [GoldMapping(query, frozenset("A")) for query in ("faible", "sûr", "rien")]
    answers = [
        Mapping("faible", (Candidate("B", "b", "b", 0.2),)),
        Mapping("sûr", (Candidate("B", "b", "b", 0.9),)),
        Mapping("rien", ()),
    ]
    misses = hardest_misses(gold, answers, NAMES)
    assert [miss.query for miss in misses] == ["sûr", "faible", "rien"]
    assert misses[2] == Miss("rien", "A", "céphalée", "", "", "", None, None)


def test_misses_survive_their_file(tmp_path):
    misses = [
        Miss('avec, virgule "et" guillemets', "A; B", "un; deux", "C", "trois", "TROIS", 0.25, 7),
        Miss("rien", "A", "un", "", "", "", None, None),
    ]
    write_misses(tmp_path / "errors.csv", misses)
    assert read_misses(tmp_path / "errors.csv") == misses


def test_read_misses_refuses_another_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_misses(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="misses"):
        read_misses(tmp_path / "other.csv")
