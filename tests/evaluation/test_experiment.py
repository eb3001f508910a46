"""Runs of the evaluation on an encoder and an index of true formats."""

import logging

import pytest
from demo import PAIRS, write_bundle
from stub import StubMapper

from deft.corpora.deft2020 import SentencePair, write_choices, write_grades, write_t1
from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.evaluation import experiment
from deft.evaluation.experiment import (
    run_mapping,
    run_t1,
    run_t2,
    score_predictions,
)
from deft.evaluation.score_table import score_table
from deft.evaluation.trial import MappingDetail
from deft.terminology.lexicon import GoldMapping


def test_t1_with_a_training_part(t1, bundle):
    run = run_t1(t1, bundle, train=t1, kind="sample", resamples=100)
    assert run.scores["data"] == "sample"
    assert list(run.scores["systems"]) == ["deft", "ngrams"]
    assert set(run.predictions) == set("abcdef")
    assert all(0 <= grade <= 5 for grade in run.predictions.values())
    assert run.scores["systems"]["deft"]["n"] == 6
    assert run.scores["systems"]["deft"]["spearman"]["value"] > 0.5
    assert run.scores == run_t1(t1, bundle, train=t1, kind="sample", resamples=100).scores


def test_t1_without_a_grade_model(t1, bundle, caplog):
    with caplog.at_level(logging.WARNING):
        run = run_t1(t1, bundle, resamples=100)
    assert "no grade model" in caplog.text
    assert run.predictions["a"] == pytest.approx(5)
    encoder = Encoder.open(bundle)
    left, right = encoder.encode([PAIRS[1].source, PAIRS[1].target])
    assert run.predictions["b"] == pytest.approx(5 * max(0, float(left @ right)), abs=1e-5)
    assert list(run.scores["systems"]) == ["deft"]


def test_t1_keeps_its_grade_model_in_the_folder_if_asked(t1, tmp_path):
    folder = write_bundle(tmp_path / "encoder")
    fitted = run_t1(t1, folder, train=t1, resamples=100)
    assert not (folder / "grades.json").exists()
    run_t1(t1, folder, train=t1, keep_grade_model=True, resamples=100)
    again = run_t1(t1, folder, resamples=100)
    assert again.predictions == pytest.approx(fitted.predictions)
    assert list(again.scores["systems"]) == ["deft"]


def test_t2(t2, bundle):
    run = run_t2(t2, bundle, kind="sample", resamples=100)
    assert run.predictions == {"1": 1, "2": 3}
    assert run.scores["systems"]["deft"]["accuracy"]["value"] == 1
    assert run.scores["systems"]["ngrams"]["map"]["value"] == 1


def test_predictions_in_a_file(t1, t2, tmp_path):
    write_grades(tmp_path / "g.tsv", {pair.id: pair.grade for pair in PAIRS})
    assert score_predictions("t1", t1, tmp_path / "g.tsv", resamples=100)["edrm"]["value"] == 1
    write_choices(tmp_path / "c.tsv", {"1": 1, "2": 1})
    assert score_predictions("t2", t2, tmp_path / "c.tsv", resamples=100)["accuracy"]["value"] == 0.5
    write_choices(tmp_path / "c.tsv", {"1": 1})
    with pytest.raises(InputError, match="no prediction: 2"):
        score_predictions("t2", t2, tmp_path / "c.tsv", resamples=100)


def test_mapping(built):
    gold = [
        GoldMapping("crise cardiaque", frozenset({"C0000003"})),
        GoldMapping("rhume", frozenset({"C0000002"})),
        GoldMapping("inconnu", frozenset({"C9999999"})),
    ]
    run = run_mapping(built, gold, kind="sample", resamples=100)
    scores = run.scores["systems"]["deft"]
    assert list(run.scores["systems"]) == ["deft", "ngrams"]
    assert scores["n"] == 3
    assert scores["in_index"]["n"] == 2
    assert scores["in_index"]["recall_at_1"]["value"] == 0.5
    assert scores["in_index"]["recall_at_5"]["value"] == 1
    assert scores["recall_at_5"]["value"] == pytest.approx(2 / 3)
    assert scores["in_index"]["mrr"]["value"] == 0.75
    assert [(miss.query, miss.predicted) for miss in run.misses] == [("rhume", "C0000001")]
    curve = run.curve[run.curve["system"] == "deft"]
    assert curve["k"].to_list() == list(range(1, 65))
    assert curve["recall"].to_list()[:2] == [0.5, 1.0]
    table = score_table(run.scores)
    assert "3 items, sample data" in table
    assert "2 of them with a concept in the index" in table
    assert "recall_at_1" in table


def test_mapping_without_a_baseline_and_without_an_answer(built):
    gold = [GoldMapping("inconnu", frozenset({"C9999999"}))]
    run = run_mapping(built, gold, baseline=False, resamples=100)
    assert list(run.scores["systems"]) == ["deft"]
    assert run.scores["systems"]["deft"]["in_index"] == {"n": 0}
    assert run.curve.empty
    assert "0 of them" in score_table(run.scores)


def test_mapping_by_one_channel(built):
    gold = [GoldMapping("crise cardiaque", frozenset({"C0000003"})), GoldMapping("rhume", frozenset({"C1"}))]
    for channel in ("fused", "dense", "lexical"):
        run = run_mapping(built, gold, MappingDetail(channel=channel), baseline=False, resamples=100)
        assert run.scores["channel"] == channel
        assert run.scores["systems"]["deft"]["in_index"]["recall_at_1"]["value"] == 1


def test_mapping_in_detail(monkeypatch, tmp_path):
    mapper = StubMapper(
        {
            "toux": {"C1": 0.9, "C2": 0.1},
            "rhume": {"C1": 0.6, "C2": 0.3},
            "jambe": {"C3": 0.8},
            "autre": {"C1": 0.2},
            ("dense", "rhume"): {"C2": 0.7},
        }
    )
    monkeypatch.setattr(experiment.TermMapper, "open", lambda path, **options: mapper)
    gold = [
        GoldMapping("toux", frozenset({"C1"}), {"group": "DISO"}),
        GoldMapping("rhume", frozenset({"C2"}), {"group": "DISO"}),
        GoldMapping("jambe", frozenset({"C3"}), {"group": "ANAT"}),
        GoldMapping("autre", frozenset({"C8"}), {"group": ""}),
    ]
    detail = MappingDetail(
        by=("group",), seen=["toux"], compare=("dense",), against=tmp_path / "other", no_match=True
    )
    run = run_mapping(tmp_path, gold, detail, resamples=50)
    assert list(run.scores) == [
        "data",
        "channel",
        "systems",
        "calibration",
        "by",
        "seen",
        "compare",
        "no_match",
    ]
    assert run.scores == run_mapping(tmp_path, gold, detail, resamples=50).scores
    table = score_table(run.scores)
    lines = [line.split() for line in table.splitlines()]
    assert ["by", "group", "n", "recall_at_1", "recall_at_8", "mrr"] in lines
    assert ["(empty)", "0"] in lines
    assert "fused less dense" in table
    assert "first alone right: fused 0, dense 1; McNemar p = 1" in table
    assert "confidence, in the index: calibration error 0.3000" in table
    assert "no match, concept taken out of the index: area under the ROC curve" in table
    assert [(miss.query, miss.row) for miss in run.misses] == [("rhume", {"group": "DISO"})]


def test_incomplete_predictions_name_both_files(tmp_path):
    write_t1(tmp_path / "t1.xml", PAIRS)
    write_grades(tmp_path / "g.tsv", {"a": 5.0})
    with pytest.raises(InputError, match="no prediction: b, c") as error:
        score_predictions("t1", tmp_path / "t1.xml", tmp_path / "g.tsv", resamples=100)
    assert error.value.path == tmp_path / "g.tsv"
    assert str(tmp_path / "t1.xml") in str(error.value)


def test_a_file_without_gold_is_named(tmp_path):
    bare = [SentencePair(pair.id, pair.source, pair.target) for pair in PAIRS]
    write_t1(tmp_path / "bare.xml", bare)
    with pytest.raises(InputError, match="no gold grade: a, b") as error:
        run_t1(tmp_path / "bare.xml", write_bundle(tmp_path / "encoder"), resamples=100)
    assert error.value.path == tmp_path / "bare.xml"
