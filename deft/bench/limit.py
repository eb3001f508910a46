"""How fast the hardware could be: the peak of its matrix products, and the work that a text takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deft.bench.systems import Shape

_SIZE = 1024  # of the square matrices: large enough for the peak, small enough for the cache
_PASSES = 20


def count_tokens(texts: Sequence[str], bundle: Path) -> list[int]:
    """Return the number of tokens of each text, as the encoder of a bundle sees it."""
    from tokenizers import Tokenizer

    from deft.encoder.bundle import TOKENIZER, read_info

    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER))
    tokenizer.no_padding()
    tokenizer.enable_truncation(read_info(bundle).max_length)
    return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]


def work_of(shape: Shape, tokens: Sequence[int]) -> dict[str, float]:
    """Return the mean number of floating point operations that a text needs, without padding.

    A product of (m, k) and (k, n) is 2mkn operations. In each layer, n tokens of h values meet four matrices
    of h x h (queries, keys, values, output) and two of h x i: ``weights``, 8nhh + 4nhi. Scores and mixing of
    all heads are two products of n x n x h: ``attention``, 4nnh. The rest is left out.
    """
    h, i, lengths = shape.hidden, shape.intermediate, np.asarray(tokens, dtype=np.float64)
    return {
        "weights": float(shape.layers * (8 * h * h + 4 * h * i) * lengths.mean()),
        "attention": float(shape.layers * 4 * h * (lengths**2).mean()),
    }


def limit_of(work: Mapping[str, float], peak: Mapping[str, float], precision: str) -> float:
    """Return the texts a second at which matrix products alone would run at their peak.

    Parameters
    ----------
    work
        Of a text: `work_of`.
    peak
        Operations a second, for ``fp32`` and ``int8``.
    precision
        Of the products with weights; those of attention are fp32 in every system.
    """
    return 1 / (work["weights"] / peak[precision] + work["attention"] / peak["fp32"])


def products(request: Mapping[str, Any], ready: Callable[[], None]) -> dict[str, Any]:
    """Multiply matrices with onnxruntime; return the most operations a second, for ``fp32`` and ``int8``."""
    ready()
    return {
        precision: _best_rate(precision, request["threads"], request.get("size", _SIZE))
        for precision in ("fp32", "int8")
    }


def _best_rate(precision: str, threads: int, size: int) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        _product(precision, size), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    kind = np.float32 if precision == "fp32" else np.uint8
    left = rng.integers(0, 255, (size, size)).astype(kind)
    seconds = []
    for _ in range(_PASSES):
        start = time.perf_counter()
        session.run(None, {"left": left})
        seconds.append(time.perf_counter() - start)
    return float(2 * size**3 / min(seconds))


def _product(precision: str, size: int) -> bytes:
    """Return a graph of one product with a constant matrix, as an encoder's are."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(1).integers(-63, 64, (size, size))  # 7 bits: safe on every processor
    as_float = precision == "fp32"
    operator, left, right, out = (
        ("MatMul", TensorProto.FLOAT, np.float32, TensorProto.FLOAT)
        if as_float
        else ("MatMulInteger", TensorProto.UINT8, np.int8, TensorProto.INT32)
    )
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [helper.make_tensor_value_info("left", left, [size, size])],
        [helper.make_tensor_value_info("product", out, [size, size])],
        [numpy_helper.from_array(weights.astype(right), "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized
