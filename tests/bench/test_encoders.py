"""Encoders side by side, measured small; no speed is asserted."""

import json
from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest

from deft.bench import encoders, page
from deft.bench.encoders import BenchData, BenchParams, bench_encoders, quality
from deft.bench.process import Measured
from deft.bench.systems import CAREFUL, FP32, PUBLISHED
from deft.corpora.deft2020 import SentencePair
from deft.terminology.lexicon import GoldMapping

WORKLOADS = ("lay terms", "UMLS strings", "DEFT sentences")


def test_quality_of_known_vectors():
    names = {"rhume": frozenset({"C0000001"}), "toux": frozenset({"C0000002"})}
    queries = [
        GoldMapping("nez", frozenset({"C0000001"}), {}),
        GoldMapping("gorge", frozenset({"C0000001"}), {}),
    ]
    pairs = [
        SentencePair("1", "a", "a", 5.0),
        SentencePair("2", "a", "b", 1.0),
        SentencePair("3", "a", "c", 3.0),
    ]
    data = BenchData({}, queries, names, pairs)
    angles = {"rhume": 0, "toux": 90, "nez": 10, "gorge": 80, "a": 0, "b": 90, "c": 45}
    radians = np.radians([angles[text] for text in data.gold_texts])
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1)
    assert quality(data, vectors) == {"recall_at_1": 0.5, "spearman": 1.0}


def test_quality_without_gold_is_empty():
    assert quality(BenchData({}), np.zeros((0, 2))) == {}


@pytest.fixture(scope="module")
def sample(root):
    """The sample's texts and gold."""
    folder = root / "data" / "sample"
    params = BenchParams(count=5, names=7)
    return BenchData.read(folder / "lexicon.csv", folder / "umls", folder / "t1-test.xml", params)


def test_workloads_are_drawn_from_their_files(sample):
    assert tuple(sample.workloads) == WORKLOADS
    assert all(len(set(texts)) == 5 for texts in sample.workloads.values())
    assert sample.pairs
    gold = frozenset().union(*(item.cuis for item in sample.queries))
    assert sum(gold.isdisjoint(cuis) for cuis in sample.names.values()) == 7


def test_the_same_texts_are_drawn_again(sample, root):
    folder = root / "data" / "sample"
    params = BenchParams(count=5, names=7)
    again = BenchData.read(folder / "lexicon.csv", folder / "umls", folder / "t1-test.xml", params)
    assert again.workloads == sample.workloads
    other = replace(params, seed=1)
    drawn = BenchData.read(folder / "lexicon.csv", folder / "umls", folder / "t1-test.xml", other)
    assert drawn.workloads != sample.workloads


def test_rows_of_lay_terms_can_be_chosen(tmp_path, umls, root):
    table = tmp_path / "lay.tsv"
    table.write_text(
        "Terme\tCUI\tpart\ngros rhume\tC0000001\tdev\nsecret\tC0000002\tfinal\n", encoding="utf-8"
    )
    sentences = root / "data" / "sample" / "t1-test.xml"
    data = BenchData.read(table, umls, sentences, BenchParams(), where={"part": "dev"})
    assert data.workloads["lay terms"] == ["gros rhume"]
    assert "secret" not in data.gold_texts


def _in_this_process(task, request, *, threads):
    """Stand for `measure`: PyTorch is imported once, not once a system."""
    module, _, name = task.partition(":")
    answer = getattr(import_module(module), name)({"size": 32} | request, lambda: None)
    return Measured(answer, 1 << 20, 1.0)


def test_all_systems_run_the_same_model(sample, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from deft.training.base import load_base

    texts = [text for found in sample.workloads.values() for text in found]
    load_base("scratch", texts).save(str(tmp_path / "model"))
    small = replace(sample, queries=sample.queries[:2], pairs=sample.pairs[:3])
    small = replace(small, workloads={"lay terms": sample.workloads["lay terms"]})
    threads = torch.get_num_threads()
    params = BenchParams(count=5, rounds=2, seconds=0.01, threads=threads, engines=("onnxruntime",))
    monkeypatch.setattr(encoders, "measure", _in_this_process)
    found = json.loads(json.dumps(bench_encoders(tmp_path / "model", small, params)))
    model = found["models"]["model"]
    systems = model["workloads"]["lay terms"]["systems"]
    assert list(systems) == [PUBLISHED, CAREFUL, FP32, "deft int8, onnxruntime"]
    assert systems[PUBLISHED]["cosine_to_fp32"]["least"] > 0.9999
    assert systems[FP32]["cosine_to_fp32"]["least"] > 0.9999
    assert 0.9 < systems["deft int8, onnxruntime"]["cosine_to_fp32"]["mean"] <= 1.0001
    assert systems[CAREFUL]["times"][CAREFUL]["texts_per_second"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    scores = model["quality"]["systems"]
    assert set(scores) == set(systems)
    assert scores[PUBLISHED] == scores[CAREFUL] == scores[FP32]
    assert found["params"]["threads"] == threads
    for low, high in pairwise(("low", "value", "high")):
        for system in systems.values():
            assert system["texts_per_second"][low] <= system["texts_per_second"][high]
    assert FP32 in page.encoder_table(found)
