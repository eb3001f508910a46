"""Scores of rankings, and the misses."""

import csv
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.errors import InputError
from deft.evaluation.linking import (
    Miss,
    answerable,
    clusters_of,
    column_of,
    compare_systems,
    evaluate_mapping,
    evaluate_parts,
    first_ranks,
    hardest_misses,
    read_misses,
    recall_curve,
    seen_or_not,
    write_misses,
)
from deft.terminology.lexicon import GoldMapping


@dataclass(frozen=True)
class Candidate:
    cui: str
    name: str
    matched: str
    cosine: float
    match: str = "semantic"
    lexical: float = 0.5

    @property
    def confidence(self):
        return self.cosine / 2


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
    assert scores["recall_at_8"]["value"] == 0.5
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
    assert misses[1] == Miss(
        "rhume",
        "B; C",
        "rhinite; rhume banal",
        "A",
        "céphalée",
        "CÉPHALÉE",
        "semantic",
        confidence=0.45,
        cosine=0.9,
        lexical=0.5,
        rank=3,
    )
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
    assert misses[2] == Miss("rien", "A", "céphalée")


def test_misses_survive_their_file(tmp_path):
    row = {"group": "DISO", "rank": "le sien"}
    misses = [
        Miss('avec, "et"', "A; B", "un; deux", "C", "trois", "TROIS", "exact", 0.9, 0.25, 0.125, 7, row),
        Miss("rien", "A", "un", row={"group": "", "rank": ""}),
    ]
    write_misses(tmp_path / "errors.csv", misses)
    assert read_misses(tmp_path / "errors.csv") == misses
    header = (tmp_path / "errors.csv").read_text().splitlines()[0]
    assert header.endswith(",confidence,cosine,lexical,rank,group,row.rank")


def test_no_miss_becomes_a_formula(tmp_path):
    misses = [Miss("=1+1", "A", "+a", "C", "-b", "@c", "exact", 0.9, -0.25, 0.1, 7, {"=code": "－d"})]
    write_misses(tmp_path / "errors.csv", misses)
    assert read_misses(tmp_path / "errors.csv") == misses
    with (tmp_path / "errors.csv").open(encoding="utf-8", newline="") as stream:
        header, cells = csv.reader(stream)
    assert [cell for cell in (*header, *cells) if cell.startswith(tuple("=+-@－"))] == ["-0.25"]


def test_misses_keep_the_columns_of_the_gold(tmp_path):
    gold = [GoldMapping("mal", frozenset("A"), {"group": "DISO"})]
    (miss,) = hardest_misses(gold, [Mapping("mal", candidates("B"))], NAMES)
    assert miss.row == {"group": "DISO"}


def test_no_miss_is_still_a_table(tmp_path):
    write_misses(tmp_path / "errors.csv", [])
    assert (tmp_path / "errors.csv").read_text().startswith("query,gold,")
    assert read_misses(tmp_path / "errors.csv") == []


def test_read_misses_refuses_another_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_misses(tmp_path / "absent.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="misses"):
        read_misses(tmp_path / "other.csv")
    write_misses(tmp_path / "ragged.csv", [Miss("rien", "A", "un")])
    with (tmp_path / "ragged.csv").open("a") as stream:
        stream.write("a," * 20 + "\n")
    with pytest.raises(InputError, match="misses"):
        read_misses(tmp_path / "ragged.csv")


def test_answerable_is_what_the_index_holds_an_answer_to():
    assert answerable(GOLD, {"A", "C"}).tolist() == [True, True, False, False]


GROUPED = [
    GoldMapping(item.query, item.cuis, {"group": group})
    for item, group in zip(GOLD, ("DISO", "ANAT", "ANAT", ""), strict=True)
]


def test_parts_by_hand():
    scores = evaluate_parts(GROUPED, RANKINGS, column_of(GROUPED, "group"), known=NAMES, resamples=100)
    assert list(scores) == ["ANAT", "", "DISO"]  # the commonest first, then by name
    assert set(scores["ANAT"]) == {"recall_at_1", "recall_at_8", "mrr", "n", "clusters", "in_index"}
    assert scores["ANAT"]["n"] == 2
    assert scores["ANAT"]["recall_at_1"]["value"] == 0
    assert scores["ANAT"]["recall_at_8"]["value"] == 0.5
    assert scores["ANAT"]["mrr"]["value"] == pytest.approx(1 / 6)
    assert scores["DISO"]["recall_at_1"]["value"] == 1
    assert scores[""]["in_index"] == {"n": 0}


@given(st.lists(st.tuples(st.permutations("ABC"), st.sampled_from("xyz")), min_size=1, max_size=12))
def test_parts_add_up_to_the_whole(rows):
    gold = [GoldMapping("q", frozenset("C"))] * len(rows)
    rankings, labels = zip(*rows, strict=True)
    parts = evaluate_parts(gold, rankings, labels, resamples=10)
    whole = evaluate_mapping(gold, rankings, resamples=10)
    assert sum(part["n"] for part in parts.values()) == whole["n"]
    for metric in ("recall_at_1", "mrr"):
        total = sum(part["n"] * part[metric]["value"] for part in parts.values())
        assert total / whole["n"] == pytest.approx(whole[metric]["value"])


def test_parts_refuse_what_is_no_partition():
    with pytest.raises(InputError, match=r"no column 'subset' .* It has group\."):
        column_of(GROUPED, "subset")
    with pytest.raises(InputError, match=r"It has none\."):
        column_of(GOLD, "subset")
    with pytest.raises(InputError, match="4 queries but 1 labels"):
        evaluate_parts(GOLD, RANKINGS, ["a"])
    many = [GoldMapping(str(number), frozenset("A")) for number in range(51)]
    with pytest.raises(InputError, match="51 different values are too many"):
        evaluate_parts(many, [("A",)] * 51, column_of_queries(many))


def column_of_queries(gold):
    return [item.query for item in gold]


def test_seen_mentions_are_compared_as_terms():
    assert seen_or_not(GOLD, ["Mal de  Tete", "la jambe cassée"]) == ["seen", "unseen", "unseen", "unseen"]


def test_compare_systems_by_hand():
    ranks = {"dense": np.array([1, 2, 0, 1, 0, 9]), "fused": np.array([1, 1, 1, 2, 1, 3])}
    compared = compare_systems(ranks, resamples=200)
    assert compared["n"] == 6
    assert compared["systems"]["dense"]["recall_at_1"]["value"] == pytest.approx(2 / 6)
    (pair,) = compared["pairs"]
    assert (pair["before"], pair["after"]) == ("dense", "fused")
    assert pair["recall_at_1"]["value"] == pytest.approx(2 / 6)
    assert pair["recall_at_8"]["value"] == pytest.approx(3 / 6)
    assert pair["mrr"]["value"] == pytest.approx((0.5 + 1 - 0.5 + 1 + 1 / 3 - 1 / 9) / 6)
    assert pair["mcnemar"] == {"only_before": 1, "only_after": 3, "p_value": pytest.approx(2 * 5 / 16)}


@given(st.lists(st.integers(0, 10), min_size=1, max_size=20))
def test_a_system_is_no_better_than_itself(ranks):
    compared = compare_systems({"a": np.array(ranks), "b": np.array(ranks)}, resamples=20)
    (pair,) = compared["pairs"]
    assert pair["mcnemar"] == {"only_before": 0, "only_after": 0, "p_value": 1}
    for metric in ("recall_at_1", "recall_at_8", "mrr"):
        assert pair[metric] == {"value": 0, "low": 0, "high": 0}


def test_compare_systems_takes_every_two_and_the_same_queries():
    ranks = {name: np.array([1, 2]) for name in "abc"}
    pairs = compare_systems(ranks, resamples=20)["pairs"]
    assert [(pair["before"], pair["after"]) for pair in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert compare_systems({"a": np.array([], int), "b": np.array([], int)}) == {"n": 0}
    with pytest.raises(InputError, match="different numbers"):
        compare_systems({"a": np.array([1]), "b": np.array([1, 2])})


def test_equal_queries_are_resampled_together():
    """The same mention, spelt alike up to case and accents, is one piece of evidence."""
    gold = [GoldMapping(query, frozenset({"C1"})) for query in ("Fièvre", "fievre", "toux")]
    assert clusters_of(gold) == ["fievre", "fievre", "toux"]
    scores = evaluate_mapping(gold, [("C1",), ("C1",), ()])
    assert (scores["n"], scores["clusters"]) == (3, 2)
    assert evaluate_mapping(gold, [("C1",), ("C1",), ()], clusters=["a"] * 3)["clusters"] == 1
    rows = [replace(item, row={"doc": name}) for item, name in zip(gold, "xyy", strict=True)]
    assert clusters_of(rows, "doc") == ["x", "y", "y"]
    with pytest.raises(InputError, match="no column 'doc'"):
        clusters_of(gold, "doc")
