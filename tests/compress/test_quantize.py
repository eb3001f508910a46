"""int8 encoders against fp32, and what their graphs hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from deft.compress.quantize import quantize_tables, scale_rows
from deft.encoder.bundle import PROBES
from deft.encoder.runtime import Encoder


@pytest.fixture(params=["onnxruntime_bundle", "inc_bundle"])
def int8_bundle(request) -> Path:
    return request.getfixturevalue(request.param)


def graph_of(folder):
    return onnx.load(folder / "model.onnx").graph


def run(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, inputs)[0]


def test_int8_vectors_are_near_fp32(fp32_bundle, int8_bundle, phrases):
    texts = [*phrases(100), *PROBES]
    cosines = (Encoder.open(fp32_bundle).encode(texts) * Encoder.open(int8_bundle).encode(texts)).sum(1)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-7  # something was quantized


def test_vectors_keep_unit_norm(int8_bundle, phrases):
    np.testing.assert_allclose(
        np.linalg.norm(Encoder.open(int8_bundle).encode(phrases(50)), axis=1), 1, atol=1e-6
    )


def test_facts_say_what_was_done(int8_bundle, fp32_bundle):
    info, original = Encoder.open(int8_bundle).info, Encoder.open(fp32_bundle).info
    assert (info.precision, info.engine, info.batch_invariant) == ("int8", int8_bundle.name, True)
    assert (info.base, info.training, info.licence, info.max_length) == (
        "scratch",
        ("nothing",),
        "Apache-2.0",
        48,
    )
    assert info.tokenizer_sha256 == original.tokenizer_sha256
    assert info.fingerprint != original.fingerprint


def test_every_weight_matrix_and_table_is_int8(int8_bundle):
    matrices = [
        tensor
        for tensor in graph_of(int8_bundle).initializer
        if len(tensor.dims) == 2 and min(tensor.dims) > 1
    ]
    assert len(matrices) == 2 * 6 + 3
    assert {tensor.data_type for tensor in matrices} == {TensorProto.INT8}


def test_graph_stays_fused(int8_bundle):
    found = Counter(node.op_type for node in graph_of(int8_bundle).node)
    assert found["MatMulIntegerToFloat"] == 2 * 6
    assert found["MultiHeadAttention"] == 2
    assert (found["LayerNormalization"], found["SkipLayerNormalization"]) == (5, 0)
    assert found["ReduceMax"] == 2 * 4
    assert found["Abs"] == 2 * 3  # none on the output of a GELU
    assert found["MatMul"] == found["DynamicQuantizeLinear"] == found["Softmax"] == 0


def test_rows_of_a_table_have_their_own_scale():
    table = np.array([[1.27, -0.5], [127.0, 3.0], [0.0, 0.0]], dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "rows"], ["found"], "look up")],
        "tables",
        [helper.make_tensor_value_info("rows", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("found", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    quantize_tables(model)
    assert {tensor.name for tensor in model.graph.initializer} == {"table.int8", "table.scale"}
    np.testing.assert_allclose(run(model, rows=np.array([2, 0, 1])), table[[2, 0, 1]], atol=1e-6)


def product_model(weights: np.ndarray, *, other_use: bool = False) -> onnx.ModelProto:
    """x times int8 weights with scales 0.01 and 0.02, as both engines write it."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["codes", "weights", "zero"], ["total"]),
        helper.make_node("Cast", ["total"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scale", "weight_scale"], ["scales"]),
        helper.make_node("Mul", ["real", "scales"], ["product"]),
    ]
    if other_use:
        nodes.append(helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["again"]))
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, ["n", 2])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([0.01, 0.02], dtype=np.float32), "weight_scale"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_row_scaled_by_itself_ignores_its_neighbours():
    weights = np.array([[100, -50], [3, 60], [-128, 127]], dtype=np.int8)
    x = np.array([[0.01, -0.02, 0.005], [50.0, 3.0, -70.0], [0.0, 0.0, 0.0]], dtype=np.float32)
    exact = x @ (weights * np.array([0.01, 0.02], dtype=np.float32))
    model = product_model(weights)
    assert (
        np.abs(run(model, x=x) - exact)[0].max() > 0.5 * np.abs(exact[0]).max()
    )  # one scale drowns small rows
    assert scale_rows(model)
    found = run(model, x=x)
    np.testing.assert_allclose(found, exact, atol=0.02 * np.abs(exact).max(1, keepdims=True).max())
    np.testing.assert_allclose(found[0], exact[0], rtol=0.02)
    assert (found[:1] == run(model, x=x[:1])).all()
    assert (found[2] == 0).all()


def test_activations_that_feed_something_else_keep_their_scale():
    model = product_model(np.ones((3, 2), dtype=np.int8), other_use=True)
    before = [node.op_type for node in model.graph.node]
    assert not scale_rows(model)
    assert [node.op_type for node in model.graph.node] == before
