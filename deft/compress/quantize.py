"""Dynamic int8 quantization of an encoder, with two engines.

Both engines keep weights as int8 with one scale an output channel, and embedding tables as int8 with one
scale a row. They differ in the range of the weights: `onnxruntime` uses 7 of the 8 bits, so that products
cannot overflow on processors without VNNI instructions; `inc` (Intel Neural Compressor) uses all 8.

Activations are quantized while running. What both engines give has one scale a tensor, which makes a text's
vector depend on the other texts of its batch. `scale_rows` turns that into one scale a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from deft.encoder.bundle import MODEL
from deft.training.export import (
    Translations,
    dynamic_shapes,
    example_inputs,
    fuse,
    load_model,
    prepare_for_tracing,
    to_onnx,
)

# Largest number of values of a constant that is computed once at quantization (the int8 form of a weight).
_FOLDED_VALUES = 2**28
_CONTRIBUTED = "com.microsoft"
_GELUS = frozenset({"BiasGelu", "Gelu"})


@dataclass(frozen=True)
class Start:
    """What a variant is made from.

    Attributes
    ----------
    fp32
        The fp32 encoder bundle.
    model
        The sentence-transformers folder that it was exported from, for methods that start from weights.
    scratch
        A folder for intermediate files, which are removed.
    """

    fp32: Path
    model: Path | None
    scratch: Path


@dataclass(frozen=True)
class Made:
    """A graph that a method made, and the facts about it for `encoder.json`."""

    graph: onnx.ModelProto
    precision: Literal["fp32", "int8"]
    batch_invariant: bool


def with_onnxruntime(start: Start, *, per_token: bool = True) -> Made:
    """Quantize the fp32 graph with onnxruntime.

    Parameters
    ----------
    start
        What it is made from.
    per_token
        One activation scale a token, so that a vector does not depend on the batch. If false, one a tensor,
        as the engines do by themselves; such an encoder takes one text at a time.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    path = start.scratch / "quantized.onnx"
    try:
        quantize_dynamic(
            start.fp32 / MODEL,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        return _int8(onnx.load(path), per_token=per_token)
    finally:
        path.unlink(missing_ok=True)


def with_inc(start: Start, *, per_token: bool = True) -> Made:
    """Quantize the PyTorch model with Intel Neural Compressor; parameters as `with_onnxruntime`."""
    import onnxscript.optimizer
    from neural_compressor.torch.export import export as capture
    from neural_compressor.torch.quantization import DynamicQuantConfig, convert, prepare
    from onnxscript import ir

    assert start.model is not None
    model = load_model(start.model)
    prepare_for_tracing(model.embedder)
    inputs = example_inputs()
    captured = capture(model.embedder, inputs, dynamic_shapes=dynamic_shapes(model.max_length))
    prepared = prepare(captured, DynamicQuantConfig(w_granularity="per_channel"))
    with torch.no_grad():
        prepared(*inputs)  # weights are observed here; without it their scales are garbage
    opset = _opset(onnx.load(start.fp32 / MODEL, load_external_data=False))
    quantized = to_onnx(
        convert(prepared), opset=opset, max_length=model.max_length, translations=_translations(opset)
    )
    # PyTorch calls scales double and zero points int64; ONNX has other types for them, and infers them anew.
    del quantized.graph.value_info[:]
    graph = ir.serde.deserialize_model(quantized)
    onnxscript.optimizer.fold_constants(
        graph, output_size_limit=_FOLDED_VALUES, should_fold=_makes_int8_weights
    )
    return _int8(fuse(ir.serde.serialize_model(graph), start.scratch), per_token=per_token)


def quantize_tables(graph: onnx.ModelProto) -> None:
    """Store embedding tables as int8 with one scale a row, in place; rows become float when looked up."""
    tables = {
        tensor.name: tensor
        for tensor in graph.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    nodes: list[onnx.NodeProto] = []
    done: set[str] = set()
    for node in graph.graph.node:
        if node.op_type != "Gather" or node.input[0] not in tables or len(tables[node.input[0]].dims) != 2:
            nodes.append(node)
            continue
        if node.input[0] not in done:
            graph.graph.initializer.extend(_int8_rows(tables[node.input[0]]))
            done.add(node.input[0])
        nodes.extend(_gather_int8(node))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    _drop_unused(graph)


def scale_rows(graph: onnx.ModelProto) -> bool:
    """Quantize activations with one scale a token instead of one a tensor, in place.

    A row x is divided by m = max |x|, and x / m quantized with the constant scale 1/127. The matrix product
    is linear, so that its row is multiplied by m afterwards. Costs little, is nearer to fp32, and the vector
    of a text no longer depends on the texts beside it.

    Returns
    -------
    Whether all activations are scaled so: operators other than matrix products keep what they have.
    """
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    activated = {name for node in graph.graph.node if node.op_type in _GELUS for name in node.output}
    replaced: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        if _feeds_products_only(node, consumers):
            replaced |= _scale_rows_of(node, consumers, one_sided=node.input[0] in activated)
    nodes = [new for node in graph.graph.node for new in replaced.get(id(node), [node])]
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.extend(_row_constants())
    _drop_unused(graph)
    if not any(entry.domain == _CONTRIBUTED for entry in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid(_CONTRIBUTED, 1))
    return all(node.op_type != "DynamicQuantizeLinear" for node in nodes)


def _int8(graph: onnx.ModelProto, *, per_token: bool) -> Made:
    """Quantize what an engine leaves: embedding tables, and a scale a token if asked for."""
    quantize_tables(graph)
    return Made(graph, "int8", per_token and scale_rows(graph))


def _translations(opset: int) -> Translations:
    """Return ONNX translations of the operators that Neural Compressor puts around a linear layer.

    A DynamicQuantizeLinear gives scale, zero point and the quantized tensor at once, so that quantizing with
    its scale is to take its first output, and a linear layer between dequantized operands is a MatMulInteger.
    """
    import importlib

    op: Any = getattr(importlib.import_module("onnxscript"), f"opset{opset}")
    to_float, to_int8 = int(onnx.TensorProto.FLOAT), int(onnx.TensorProto.INT8)

    def choose_scale(x: Any, *_: object) -> Any:  # noqa: ANN401
        _, scale, zero = op.DynamicQuantizeLinear(x)
        return scale, zero

    def quantize_activation(x: Any, scale: Any, *_: object) -> Any:  # noqa: ANN401
        chosen = scale.producer()
        assert chosen.inputs[0] is x
        return chosen.outputs[0]

    def dequantize_activation(x: Any, scale: Any, zero: Any, *_: object, **__: object) -> Any:  # noqa: ANN401
        return op.DequantizeLinear(x, scale, zero)

    def quantize_weight(x: Any, scale: Any, zero: Any, axis: int, *_: object) -> Any:  # noqa: ANN401
        return op.QuantizeLinear(x, op.Cast(scale, to=to_float), op.Cast(zero, to=to_int8), axis=axis)

    def dequantize_weight(x: Any, scale: Any, zero: Any, axis: int, *_: object, **__: object) -> Any:  # noqa: ANN401
        return op.DequantizeLinear(x, op.Cast(scale, to=to_float), op.Cast(zero, to=to_int8), axis=axis)

    def linear(x: Any, weight: Any, bias: Any = None) -> Any:  # noqa: ANN401
        operands = _dequantized(x), _dequantized(weight)
        if operands[0] is None or operands[1] is None:
            product = op.MatMul(x, op.Transpose(weight, perm=[1, 0]))
        else:
            codes, scale, zero = operands[0]
            weight_codes, weight_scale, _ = operands[1]
            total = op.MatMulInteger(codes, op.Transpose(weight_codes, perm=[1, 0]), zero)
            product = op.Mul(op.Cast(total, to=to_float), op.Mul(scale, weight_scale))
        return product if bias is None else op.Add(product, bias)

    quantized, aten = torch.ops.quantized_decomposed, torch.ops.aten
    return {
        quantized.choose_qparams.tensor: choose_scale,
        quantized.quantize_per_tensor.tensor: quantize_activation,
        quantized.dequantize_per_tensor.tensor: dequantize_activation,
        quantized.quantize_per_channel.default: quantize_weight,
        quantized.dequantize_per_channel.default: dequantize_weight,
        aten.linear.default: linear,
    }


def _dequantized(value: Any) -> tuple[Any, Any, Any] | None:  # noqa: ANN401
    """Return the codes, scale and zero point that `value` was dequantized from, if it was."""
    node = value.producer()
    return tuple(node.inputs) if node is not None and node.op_type == "DequantizeLinear" else None


def _makes_int8_weights(node: Any) -> bool | None:  # noqa: ANN401
    return True if node.op_type in ("QuantizeLinear", "Transpose") else None


def _opset(graph: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))


def _feeds_products_only(node: onnx.NodeProto, consumers: Mapping[str, list[onnx.NodeProto]]) -> bool:
    return node.op_type == "DynamicQuantizeLinear" and all(
        consumer.op_type == "MatMulInteger" for consumer in consumers[node.output[0]]
    )


def _scale_rows_of(
    dynamic: onnx.NodeProto, consumers: Mapping[str, list[onnx.NodeProto]], *, one_sided: bool
) -> dict[int, list[onnx.NodeProto]]:
    """Return the new nodes for a DynamicQuantizeLinear and the matrix products on its output, by old node.

    Both engines write a product as MatMulInteger, Cast, and Mul by the product of both scales.
    """
    x, (codes, scale, _) = dynamic.input[0], dynamic.output
    largest = f"{codes}.largest"
    replaced = {id(dynamic): _quantize_rows(x, codes, largest, one_sided=one_sided)}
    weight_scales: dict[str, str] = {}
    for node in consumers[scale]:
        weight_scales[node.output[0]] = node.input[1] if node.input[0] == scale else node.input[0]
        replaced[id(node)] = []
    for product in consumers[codes]:
        (cast,) = consumers[product.output[0]]
        (scaling,) = consumers[cast.output[0]]
        weight_scale = next(weight_scales[name] for name in scaling.input if name in weight_scales)
        unit = f"{product.output[0]}.unit"
        operands = [codes, product.input[1], "row.scale", weight_scale, "row.zero", *product.input[3:]]
        replaced[id(product)] = replaced[id(cast)] = []
        replaced[id(scaling)] = [
            helper.make_node("MatMulIntegerToFloat", operands, [unit], product.name, domain=_CONTRIBUTED),
            helper.make_node("Mul", [unit, largest], [scaling.output[0]], f"{product.name}.rows"),
        ]
    return replaced


def _quantize_rows(x: str, codes: str, largest: str, *, one_sided: bool) -> list[onnx.NodeProto]:
    """Return the nodes that quantize rows.

    Of a GELU's output, the widest rows there are, no value is under a known one: the pass for the absolute
    values is spared.
    """
    size, bare, unit = f"{codes}.size", f"{codes}.bare", f"{codes}.unit"
    sizes = [] if one_sided else [helper.make_node("Abs", [x], [size], size)]
    least = "row.gelu" if one_sided else "row.least"
    return [
        *sizes,
        helper.make_node("ReduceMax", [x if one_sided else size, "row.axis"], [bare], bare, keepdims=1),
        helper.make_node("Max", [bare, least], [largest], largest),
        helper.make_node("Div", [x, largest], [unit], unit),
        helper.make_node("QuantizeLinear", [unit, "row.scale", "row.zero"], [codes], codes),
    ]


def _row_constants() -> list[onnx.TensorProto]:
    constants = {
        "row.axis": np.array([-1], dtype=np.int64),
        "row.least": np.array(1e-12, dtype=np.float32),  # a row of zeros stays one
        "row.gelu": np.array(0.17, dtype=np.float32),  # GELU is -0.16997 at its least
        "row.scale": np.array(1 / 127, dtype=np.float32),
        "row.zero": np.array(128, dtype=np.uint8),
    }
    return [numpy_helper.from_array(value, name) for name, value in constants.items()]


def _int8_rows(table: onnx.TensorProto) -> list[onnx.TensorProto]:
    rows = numpy_helper.to_array(table)
    scales = np.abs(rows).max(axis=1, keepdims=True) / 127
    scales[scales == 0] = 1  # the row of the padding token
    codes = np.rint(rows / scales).astype(np.int8)
    return [
        numpy_helper.from_array(codes, f"{table.name}.int8"),
        numpy_helper.from_array(scales.astype(np.float32), f"{table.name}.scale"),
    ]


def _gather_int8(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    table, positions = node.input
    codes, values, scales = (f"{node.output[0]}.{part}" for part in ("codes", "values", "scales"))
    return [
        helper.make_node("Gather", [f"{table}.int8", positions], [codes], f"{node.name}.codes"),
        helper.make_node("Gather", [f"{table}.scale", positions], [scales], f"{node.name}.scales"),
        helper.make_node("Cast", [codes], [values], f"{node.name}.values", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [values, scales], [node.output[0]], node.name),
    ]


def _drop_unused(graph: onnx.ModelProto) -> None:
    used = {name for node in graph.graph.node for name in node.input}
    kept = [tensor for tensor in graph.graph.initializer if tensor.name in used]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
