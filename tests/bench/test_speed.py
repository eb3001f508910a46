"""Measurement of speed, size and memory."""

import json
import subprocess
import sys

import numpy as np
import pytest

from deft.bench import speed
from deft.encoder.bundle import EncoderInfo
from deft.encoder.runtime import seal
from deft.errors import DeftError, InputError


class Clock:
    """Time that passes only when an encoder works."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now


class Slow:
    """An encoder whose calls take given seconds."""

    def __init__(self, name, clock, seconds):
        self.name, self.clock, self.seconds = name, clock, iter(seconds)

    def encode(self, texts):
        self.clock.calls.append(self.name)
        self.clock.now += next(self.seconds)


def test_throughput_is_the_median_after_a_warm_up():
    clock = Clock()
    encoders = {"slow": Slow("slow", clock, [99, 2, 4, 1]), "fast": Slow("fast", clock, [99, 1, 1, 1])}
    rates = speed.throughput(encoders, ["a", "b", "c", "d"], 3, clock=clock)
    assert rates["slow"] == {"value": 2.0, "low": 1.0, "high": 4.0}
    assert rates["fast"] == {"value": 4.0, "low": 4.0, "high": 4.0}


def test_throughput_interleaves_the_encoders():
    clock = Clock()
    encoders = {name: Slow(name, clock, [1] * 3) for name in "ab"}
    speed.throughput(encoders, ["x"], 2, clock=clock)
    assert clock.calls == list("ababab")


def test_graph_size_counts_weights_beside_the_graph(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"12345")
    (tmp_path / "model.onnx.data").write_bytes(b"123")
    (tmp_path / "pytorch.bin").write_bytes(b"1" * 1000)
    assert speed.graph_size(tmp_path) == 8


def test_peak_memory_sees_what_was_held():
    before = speed.own_peak_memory()
    assert before > 1 << 20
    held = np.ones(96 << 20, dtype=np.uint8)
    assert speed.own_peak_memory() >= held.nbytes
    assert speed.own_peak_memory() >= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the inheritance is Linux's")
def test_peak_memory_of_a_child_is_its_own():
    held = np.ones(400 << 20, dtype=np.uint8)
    code = "from deft.bench.speed import own_peak_memory; print(own_peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) < speed.own_peak_memory() - (held.nbytes >> 1)


def test_peak_memory_that_fails_names_the_bundle(tmp_path):
    with pytest.raises(DeftError, match="absent"):
        speed.peak_memory(tmp_path / "absent", ["fièvre"], 1)


@pytest.fixture
def bundle(tmp_path):
    """Make the smallest encoder there is: the mean of word vectors."""
    onnx, tokenizers = pytest.importorskip("onnx"), pytest.importorskip("tokenizers")
    words = ["[UNK]", "fièvre", "toux", "crise"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordLevel(dict(zip(words, range(4), strict=True)), "[UNK]")
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    make = onnx.helper
    nodes = [
        make.make_node("Gather", ["table", "input_ids"], ["vectors"]),
        make.make_node("Cast", ["attention_mask"], ["weights"], to=onnx.TensorProto.FLOAT),
        make.make_node("Unsqueeze", ["weights", "last"], ["mask"]),
        make.make_node("Mul", ["vectors", "mask"], ["kept"]),
        make.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        make.make_node("LpNormalization", ["sum"], ["sentence_embedding"], axis=1),
    ]
    integer, shape = onnx.TensorProto.INT64, ["batch", "length"]
    graph = make.make_graph(
        nodes,
        "mean",
        [make.make_tensor_value_info(name, integer, shape) for name in ("input_ids", "attention_mask")],
        [make.make_tensor_value_info("sentence_embedding", onnx.TensorProto.FLOAT, ["batch", 8])],
        [
            onnx.numpy_helper.from_array(table, "table"),
            onnx.numpy_helper.from_array(np.array([2]), "last"),
            onnx.numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "model.onnx")
    facts = EncoderInfo(8, 16, "mean", "fp32", None, True, "none", (), "Apache-2.0", "0")
    seal(tmp_path, facts)
    return tmp_path


def test_measure_fills_every_column(bundle):
    measured = speed.measure({"one": bundle, "two": bundle}, ["fièvre", "crise toux"], repeats=2, threads=1)
    assert list(measured["systems"]) == ["one", "two"]
    for system in measured["systems"].values():
        rate = system["texts_per_second"]
        assert 0 < rate["low"] <= rate["value"] <= rate["high"]
        assert system["file_mib"] < 0.1
        assert 20 < system["peak_memory_mib"] < 1000
    assert measured["texts"] == {"n": 2, "mean_characters": 8.0}
    assert (measured["repeats"], measured["threads"]) == (2, 1)
    json.dumps(measured)


def test_measure_refuses_no_text(bundle):
    with pytest.raises(InputError, match="no text"):
        speed.measure({"one": bundle}, [])


def test_what_it_ran_on_is_recorded():
    recorded = json.loads(json.dumps({**speed.hardware(), **speed.versions()}))
    assert recorded["processors"] >= 1
    assert recorded["memory_gib"] > 0
    assert recorded["processor"]
    assert recorded["python"].startswith("3.")
    assert "onnxruntime" in recorded
