"""Speed, size and memory of bundles."""

import json

import numpy as np
import pytest

from deft.bench.speed import measure_bundles
from deft.encoder.bundle import EncoderInfo
from deft.encoder.runtime import seal
from deft.errors import DeftError, InputError


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
    measured = measure_bundles({"one": bundle, "two": bundle}, ["fièvre", "crise toux"], repeats=2, threads=1)
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
        measure_bundles({"one": bundle}, [])


def test_a_bundle_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DeftError, match="absent"):
        measure_bundles({"one": tmp_path / "absent"}, ["fièvre"], threads=1)
