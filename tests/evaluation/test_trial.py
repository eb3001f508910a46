"""What is measured on one mapping, with a mapper whose answers are written here."""

import numpy as np
import pytest
from stub import StubMapper

from deft.corpora.noise import noisy
from deft.errors import InputError
from deft.evaluation import trial as module
from deft.evaluation.trial import MappingDetail, MappingTrial
from deft.terminology.lexicon import GoldMapping

GOLD = [
    GoldMapping("toux", frozenset({"C1"}), {"group": "DISO"}),
    GoldMapping("rhume", frozenset({"C2"}), {"group": "DISO"}),
    GoldMapping("jambe", frozenset({"C3"}), {"group": "ANAT"}),
    GoldMapping("autre", frozenset({"C8"}), {"group": ""}),
]
ANSWERS = {
    "toux": {"C1": 0.9, "C2": 0.1},
    "rhume": {"C1": 0.6, "C2": 0.3},
    "jambe": {"C3": 0.8},
    "autre": {"C1": 0.2},
    ("dense", "rhume"): {"C2": 0.7},
    ("dense", "jambe"): {"C1": 0.7},
}


def trial(**detail):
    return MappingTrial(StubMapper(ANSWERS), GOLD, MappingDetail(**detail), resamples=50)


def test_the_trial_maps_once():
    found = trial(by=("group",), seen=["toux"])
    found.calibration(), found.by(), found.seen(), found.no_match(), found.misses()
    assert [call["channel"] for call in found.mapper.calls] == ["fused"]
    assert found.ranks.tolist() == [1, 2, 1, 0]
    assert found.in_index.tolist() == [True, True, True, False]


def test_calibration_of_all_queries_and_of_those_in_the_index():
    found = trial().calibration()
    assert found["all"]["n"] == 4
    assert found["in_index"]["n"] == 3
    assert found["in_index"]["brier"]["value"] == pytest.approx((0.1**2 + 0.6**2 + 0.2**2) / 3)
    assert found["all"]["brier"]["value"] == pytest.approx((0.1**2 + 0.6**2 + 0.2**2 + 0.2**2) / 4)
    absent = MappingTrial(StubMapper(ANSWERS), GOLD[3:], resamples=50)
    assert set(absent.calibration()) == {"all"}
    assert absent.curve(absent.rankings) == []
    assert absent.no_match() == {}


def test_parts():
    found = trial(by=("group",), seen=["Toux", "jambe"])
    by = found.by()["group"]
    assert list(by) == ["DISO", "", "ANAT"]
    assert by["DISO"]["in_index"]["recall_at_1"]["value"] == 0.5
    assert by[""]["in_index"] == {"n": 0}
    seen = found.seen()
    assert seen["seen"]["recall_at_1"]["value"] == 1
    assert (seen["unseen"]["n"], seen["unseen"]["in_index"]["n"]) == (2, 1)
    assert trial().seen() == trial().by() == {}


def test_the_group_of_each_query_goes_to_the_mapper():
    found = trial(group_column="group", compare=("dense",), no_match=True)
    found.comparison()
    found.no_match()
    assert [call["groups"] for call in found.mapper.calls] == [
        ["DISO", "DISO", "ANAT", ""],
        ["DISO", "DISO", "ANAT", ""],
        ["DISO", "DISO", "ANAT"],
    ]
    assert MappingDetail(group_column="group", by=("kind",)).columns == ("kind", "group")
    with pytest.raises(InputError, match="no column 'groupe'"):
        _ = trial(group_column="groupe").mappings


def test_what_stands_beside_each_query_goes_to_the_mapper():
    found = trial(context_column="group")
    assert found.detail.columns == ("group",)
    _ = found.mappings
    assert found.mapper.calls[0]["contexts"] == ["DISO", "DISO", "ANAT", ""]


def test_queries_are_written_wrong_in_every_way_that_changes_them():
    found = trial(noise=True)
    noise = found.noise()
    assert noise["clean"]["n"] == 3  # those with an answer
    assert noise["clean"]["recall_at_1"]["value"] == pytest.approx(2 / 3)
    assert noise["swapped"]["n"] == 3
    assert noise["swapped"]["recall_at_1"]["value"] == 0  # the stub knows no such term
    assert "mojibake" not in noise
    asked = found.mapper.calls[-1]["terms"]
    assert asked[:3] == ["toux", "rhume", "jambe"]
    assert noisy("toux", "lost", found.seed) not in asked  # what a fit with the same seed saw
    assert noisy("toux", "lost", found.seed + 10_000) in asked
    assert trial().noise() == {}


def test_channels_are_compared_on_what_the_index_can_answer():
    found = trial(compare=("dense", "fused")).comparison()
    assert found["n"] == 3
    assert list(found["systems"]) == ["dense", "fused"]
    assert found["systems"]["dense"]["recall_at_1"]["value"] == pytest.approx(2 / 3)
    (pair,) = found["pairs"]
    assert (pair["before"], pair["after"]) == ("dense", "fused")
    assert pair["mcnemar"] == {"only_before": 1, "only_after": 1, "p_value": 1}
    assert trial().comparison() == trial(compare=("fused",)).comparison() == {}


def test_another_index_may_answer_what_this_one_cannot(monkeypatch, tmp_path):
    other = StubMapper({"autre": {"C8": 0.5}, "toux": {"C1": 0.5}})
    monkeypatch.setattr(module.TermMapper, "open", lambda path, **options: other)
    found = trial(against=tmp_path / "other").comparison()
    assert found["n"] == 4
    assert list(found["systems"]) == [f"fused of {tmp_path / 'other'}", "fused"]
    assert found["systems"]["fused"]["recall_at_1"]["value"] == 0.5
    assert found["pairs"][0]["mcnemar"]["only_before"] == 1


def test_no_match():
    found = trial(no_match=True).no_match()
    assert found["absent"]["auroc"]["value"] == 1
    assert (found["absent"]["n"], found["absent"]["nil"]) == (4, 1)
    assert (found["removed"]["n"], found["removed"]["nil"]) == (3, 1)
    assert set(trial().no_match()) == {"absent"}


def test_misses_and_baseline():
    found = trial()
    (miss,) = found.misses()
    assert (miss.query, miss.predicted, miss.match, miss.confidence, miss.rank) == (
        "rhume",
        "C1",
        "lexical",
        0.6,
        2,
    )
    assert miss.row == {"group": "DISO"}
    assert len(found.ngram_rankings()) == 4
    assert found.scores(found.rankings)["in_index"]["recall_at_1"]["value"] == pytest.approx(2 / 3)
    assert np.array(found.curve(found.rankings))[:2] == pytest.approx([2 / 3, 1])


@pytest.mark.parametrize("detail", [{"channel": "cosine"}, {"compare": ("dense", "cosine")}])
def test_unknown_channels_are_named(detail):
    with pytest.raises(
        InputError, match=r"no channel is called cosine\. The channels are fused, dense, lexical"
    ):
        MappingDetail(**detail)
