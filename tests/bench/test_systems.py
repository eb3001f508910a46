"""What is measured: systems, their weights and shapes."""

import pytest

from deft.bench.systems import Shape, System, random_model
from deft.errors import InputError


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
