"""From the name of a variant to its bundle."""

import inspect

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import onnx
from onnx import TensorProto, numpy_helper

from deft.compress import quantize, registry
from deft.compress.quantize import Start, quantize_tables
from deft.compress.registry import METHODS, make_variant
from deft.errors import GateError, InputError
from deft.variants import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_every_variant_has_a_method_that_takes_its_settings(variant, tmp_path):
    method = inspect.signature(METHODS[variant.method])
    method.bind(Start(tmp_path, None, tmp_path), **variant.settings)


def test_an_unknown_variant_is_answered_with_what_there_is(tmp_path):
    with pytest.raises(InputError, match=r"no variant 'fast'; there are onnxruntime, inc, "):
        make_variant(tmp_path, tmp_path / "out", "fast")


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"inc needs neural_compressor.*pip install 'deft\[train\]'"):
        make_variant(tmp_path, tmp_path / "out", "inc", model=tmp_path)


def test_inc_needs_the_pytorch_model(fp32_bundle, tmp_path):
    pytest.importorskip("neural_compressor")
    with pytest.raises(InputError, match="field model: the variant inc starts from the PyTorch model"):
        make_variant(fp32_bundle, tmp_path / "out", "inc")


def test_an_int8_encoder_is_not_quantized_again(onnxruntime_bundle, tmp_path):
    with pytest.raises(InputError, match="already quantized"):
        make_variant(onnxruntime_bundle, tmp_path / "out", "onnxruntime")


def test_garbage_is_refused_and_nothing_is_left(fp32_bundle, tmp_path, monkeypatch):
    def spoil(graph: onnx.ModelProto) -> None:
        quantize_tables(graph)
        for tensor in graph.graph.initializer:
            if tensor.data_type == TensorProto.INT8:
                mixed = np.random.default_rng(0).permutation(numpy_helper.to_array(tensor).ravel())
                tensor.CopyFrom(numpy_helper.from_array(mixed.reshape(tuple(tensor.dims)), tensor.name))

    monkeypatch.setattr(quantize, "quantize_tables", spoil)
    with pytest.raises(GateError, match="does not work"):
        make_variant(fp32_bundle, tmp_path / "out", "onnxruntime")
    assert not list(tmp_path.iterdir())
