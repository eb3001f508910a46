"""Benchmarks: what is computed from measurements, and one small run of each; no speed is asserted."""

import json
from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest

from deft.bench import encoders, index, limit, page
from deft.bench.encoders import BenchData, BenchParams, bench_encoders, quality
from deft.bench.process import Measured, measure
from deft.bench.systems import CAREFUL, FP32, PUBLISHED, Shape, System, random_model
from deft.corpora.deft2020 import SentencePair
from deft.encoder.runtime import Encoder
from deft.errors import DeftError, InputError
from deft.terminology.lexicon import GoldMapping

WORKLOADS = ("lay terms", "UMLS strings", "DEFT sentences")


def test_work_counts_the_products_of_a_layer():
    # one layer of 2 x 2 with 3 in the middle, one text of 5 tokens: queries, keys, values, output
    work = limit.work_of(Shape(layers=1, hidden=2, intermediate=3), [5])
    assert work["weights"] == 4 * (2 * 5 * 2 * 2) + 2 * (2 * 5 * 2 * 3)
    assert work["attention"] == 2 * (2 * 5 * 5 * 2)


def test_work_is_the_mean_over_texts():
    shape = Shape(layers=3, hidden=4, intermediate=8)
    one, other, both = (limit.work_of(shape, tokens) for tokens in ([2], [6], [2, 6]))
    for name in both:
        assert both[name] == pytest.approx((one[name] + other[name]) / 2)


def test_limit_takes_each_product_at_the_peak_of_its_type():
    work, peak = {"weights": 80.0, "attention": 20.0}, {"fp32": 10.0, "int8": 40.0}
    assert limit.limit_of(work, peak, "fp32") == pytest.approx(1 / 10)
    assert limit.limit_of(work, peak, "int8") == pytest.approx(1 / 4)


def test_products_of_both_types_are_measured():
    rates = limit.products({"threads": 1, "size": 32}, lambda: None)
    assert set(rates) == {"fp32", "int8"}
    assert min(rates.values()) > 0


def test_tokens_are_counted_as_the_encoder_sees_them(bundle):
    counts = limit.count_tokens(["abc", "a" * 500], bundle)
    assert counts == [3, 64]  # a letter is a token, and the bundle cuts at 64


def test_shape_needs_its_sizes(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 4}')
    with pytest.raises(InputError, match="num_hidden_layers"):
        Shape.read(tmp_path)


def test_file_size_is_of_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"123")
    (tmp_path / "model.onnx").write_bytes(b"12345")
    assert System("a", "published", tmp_path, "fp32").file_size == 3
    assert System("b", "deft", tmp_path, "fp32").file_size == 5


def test_unknown_shape_is_refused(tmp_path):
    with pytest.raises(InputError, match="camembert-base"):
        random_model("round", tmp_path, tmp_path)


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


def test_a_process_that_fails_says_why(tmp_path):
    request = {"umls": str(tmp_path / "absent")}
    with pytest.raises(DeftError, match=r"absent.*MRCONSO"):
        measure("deft.bench.index:parse", request)


def test_a_process_tells_memory_and_time(umls):
    measured = measure("deft.bench.index:parse", {"umls": str(umls)}, threads=1)
    assert measured.answer["atoms"] > 0
    assert measured.peak_memory > 1 << 20
    assert measured.seconds_to_ready > 0


def _spread(value):
    return {"value": value, "low": value * 0.9, "high": value * 1.1}


def _system(rate, memory):
    times = {name: _spread(rate / 10) for name in ("texts_per_second", "whole_process", "memory_saved")}
    return {
        "texts_per_second": _spread(rate),
        "whole_process_seconds": _spread(3.0),
        "opening_seconds": _spread(1.0),
        "peak_memory_mib": _spread(memory),
        "file_mib": 20.0,
        "cosine_to_fp32": {"mean": 0.999, "least": 0.99},
        "times": {PUBLISHED: times, CAREFUL: times},
        "limit": {"texts_per_second": 1000.0, "share": _spread(rate / 1000)},
    }


@pytest.fixture
def results():
    """Results of the encoders, as `bench_encoders` gives them."""
    about = {"texts": 5, "mean_characters": 9.0, "mean_tokens": 4.0, "million_operations_per_text": 1.0}
    systems = {PUBLISHED: _system(5.0, 900.0), CAREFUL: _system(60.0, 800.0), FP32: _system(120.0, 200.0)}
    measured = {"workloads": {"lay terms": about | {"systems": systems}}, "shape": {}}
    scores = {name: {"recall_at_1": 0.5, "spearman": 0.7} for name in systems}
    return {
        "models": {
            "ours": measured | {"weights": "trained", "quality": {"systems": scores}},
            "<shape>": measured | {"weights": "random"},
        },
        "peak": {name: {"billion_per_second": _spread(100.0)} for name in ("fp32", "int8")},
        "params": {"rounds": 3},
        "hardware": {
            "processor": "P",
            "instructions": ["avx2"],
            "processors": 2,
            "memory_gib": 1.0,
            "system": "S",
        },
        "versions": {"python": "3"},
    }


def test_table_has_a_row_a_system(results):
    table = page.encoder_table(results)
    (line, *_) = [line for line in table.splitlines() if line.startswith(FP32)]
    assert line.split()[-11:] == [
        "120",
        "3.00",
        "200",
        "20",
        "0.9990",
        "12.0",
        "12.0",
        "1,200",
        "12",
        "0.500",
        "0.700",
    ]
    assert "random weights" in table
    assert [line.split()[-1] for line in table.splitlines() if line.startswith(FP32)] == ["0.700", "-"]


def test_page_of_encoders_is_whole_and_asks_for_nothing(results, tmp_path):
    page.write_page(results, tmp_path / "page.html", command="deft bench encoders")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http" not in html
    assert "deft bench encoders" in html
    assert "&lt;shape&gt; has random weights" in html
    drawings = html.split("<svg")[1:]
    assert len(drawings) == 2


def _point(strings, slope):
    values = dict.fromkeys(index.GROWING, 2.0 + slope * strings / 1e6)
    rates = dict.fromkeys(page._MORE, 9.0)
    return {"strings": strings, "atoms": strings, "concepts": strings, "kind": "flat"} | values | rates


def test_projection_is_a_straight_line():
    projected = index.project(
        [_point(100_000, 3.0), _point(1_000_000, 3.0), _point(4_000_000, 3.0)], 15_000_000
    )
    assert projected["values"]["disk_mib"] == {"slope": 3.0, "intercept": 2.0, "value": 47.0}
    assert "straight line through 3" in projected["method"]
    assert index.project([_point(5, 1.0)], 10) is None


def test_page_of_growth_marks_what_was_projected(results, tmp_path):
    points = [_point(100_000, 3.0), _point(4_000_000, 3.0)]
    found = {
        "points": points,
        "projection": index.project(points, 15_000_000),
        "params": {"queries": 10, "embedded": 10},
        "hardware": results["hardware"],
        "versions": results["versions"],
    }
    page.write_page(found, tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<svg") == len(index.GROWING)
    assert "47 at 15 M" in html
    assert "straight line" in html
    assert "(projected)" in page.index_table(found)
    one = found | {"points": points[:1], "projection": None}
    page.write_page(one, tmp_path / "one.html")
    assert "straight line" not in (tmp_path / "one.html").read_text(encoding="utf-8")
    assert "(projected)" not in page.index_table(one)


def test_index_of_each_size_is_measured_once(bundle, root, monkeypatch):
    vocabulary = root / "data" / "sample" / "umls"
    params = index.IndexBenchParams(queries=5, embedded=10, threads=1)
    (found,) = index.bench_index(bundle, vocabulary, [120], params)
    (point,) = found["points"]
    assert (point["strings"], found["projection"]) == (120, None)
    assert all(point[name] > 0 for name in index.GROWING)
    assert point["recall_at_10_of_exact"] == 1.0  # so few are searched exactly
    assert point["query_p50_milliseconds"] <= point["query_p99_milliseconds"]
    known = json.loads(json.dumps(found))
    made = _point(240, 3.0)
    monkeypatch.setattr(index, "_point", lambda *_: made)
    (more,) = index.bench_index(bundle, vocabulary, [240], params, known=known)
    assert more["points"] == [point, made]
    (other,) = index.bench_index(bundle, vocabulary, [240], replace(params, queries=6), known=known)
    assert other["points"] == [made]  # measured in another way, it does not stay


def test_sizes_are_needed(bundle, root):
    with pytest.raises(InputError, match="sizes"):
        next(index.bench_index(bundle, root / "data" / "sample" / "umls", []))


def test_our_encoder_runs_in_a_process_of_its_own(bundle, tmp_path):
    vectors = tmp_path / "vectors.npy"
    request = {"kind": "deft", "folder": str(bundle), "threads": 1, "texts": ["rhume", "toux"]}
    request |= {"seconds": 0.01, "vectors": str(vectors)}
    measured = measure("deft.bench.run:encode_texts", request, threads=1)
    assert measured.answer["texts_per_second"] > 0
    assert np.load(vectors) == pytest.approx(Encoder.open(bundle).encode(["rhume", "toux"]), abs=1e-5)


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
