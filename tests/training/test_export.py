"""The exported graph against PyTorch, and what is in it."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sentence_transformers import SentenceTransformer

from deft.config import ExportParams
from deft.encoder.bundle import CARD, FILES, PROBES
from deft.encoder.runtime import Encoder
from deft.errors import GateError, InputError
from deft.training import export as module
from deft.training.export import export


def pytorch_vectors(folder: Path, texts: list[str], max_length: int) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = max_length
    return model.encode(texts, normalize_embeddings=True, show_progress_bar=False)


def operators(folder: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(folder / "model.onnx").graph.node)


@pytest.fixture(scope="module")
def camembert_bundle(camembert_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("encoders") / "camembert"
    export(camembert_folder, out, ExportParams())
    return out


def test_bert_vectors_are_those_of_pytorch(bert_folder, fp32_bundle, phrases):
    texts = [*phrases(60, seed=1), *PROBES, " ".join(phrases(40))]
    expected = pytorch_vectors(bert_folder, texts, 48)
    np.testing.assert_allclose(Encoder.open(fp32_bundle).encode(texts), expected, atol=2e-6)


def test_camembert_vectors_are_those_of_pytorch(camembert_folder, camembert_bundle, phrases):
    texts = [*phrases(60, seed=1), *PROBES, " ".join(phrases(40))]
    expected = pytorch_vectors(camembert_folder, texts, 48)
    np.testing.assert_allclose(Encoder.open(camembert_bundle).encode(texts), expected, atol=2e-6)


def test_pooling_is_the_folders(fp32_bundle, camembert_bundle):
    assert Encoder.open(fp32_bundle).info.pooling == "mean"
    assert Encoder.open(camembert_bundle).info.pooling == "cls"


def test_length_is_capped_by_the_positions_that_exist(fp32_bundle, camembert_bundle):
    assert Encoder.open(fp32_bundle).info.max_length == 48
    assert Encoder.open(camembert_bundle).info.max_length == 48  # 50 rows, numbered from the padding id + 1


@pytest.mark.parametrize("bundle", ["fp32_bundle", "camembert_bundle"])
def test_attention_and_activations_are_fused_and_norms_are_not(bundle, request):
    found = operators(request.getfixturevalue(bundle))
    assert found["MultiHeadAttention"] == 2
    assert (found["Sum"], found["LayerNormalization"], found["SkipLayerNormalization"]) == (4, 5, 0)
    assert found["BiasGelu"] == 2
    assert found["Softmax"] == 0


def test_an_architecture_without_fused_attention_is_exported_too(bert_folder, tmp_path, monkeypatch, phrases):
    monkeypatch.setattr(module, "_FUSED_ARCHITECTURES", frozenset())
    export(bert_folder, tmp_path / "plain", ExportParams())
    assert operators(tmp_path / "plain")["MultiHeadAttention"] == 0
    texts = phrases(20)
    np.testing.assert_allclose(
        Encoder.open(tmp_path / "plain").encode(texts), pytorch_vectors(bert_folder, texts, 48), atol=2e-6
    )


def test_the_attention_operator_is_attention():
    query, key, value = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], dtype=torch.int32)
    found = torch.ops.deft.attention(query, key, value, mask, 2, 0.5)
    for text, length in enumerate((5, 2)):
        for head in (slice(0, 4), slice(4, 8)):
            weights = torch.softmax(query[text, :, head] @ key[text, :length, head].T * 0.5, dim=1)
            torch.testing.assert_close(found[text, :, head], weights @ value[text, :length, head])


def test_folder_holds_the_bundle_and_nothing_else(fp32_bundle):
    assert sorted(path.name for path in fp32_bundle.iterdir()) == sorted((*FILES, CARD))
    facts = json.loads((fp32_bundle / "encoder.json").read_text())
    assert (facts["base"], facts["training"], facts["licence"]) == ("scratch", ["nothing"], "Apache-2.0")
    assert (facts["precision"], facts["engine"], facts["batch_invariant"]) == ("fp32", None, True)


def test_a_second_export_is_silent_and_gives_the_same_files(
    bert_folder, fp32_bundle, tmp_path, capfd, caplog
):
    with caplog.at_level(logging.INFO):
        again = export(bert_folder, tmp_path / "again", ExportParams())
    assert again.fingerprint == Encoder.open(fp32_bundle).fingerprint
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("torch.onnx")]
    assert logging.root.manager.disable == logging.NOTSET


def test_graph_does_not_name_this_computer(fp32_bundle):
    graph = (fp32_bundle / "model.onnx").read_bytes()
    assert b"site-packages" not in graph
    assert str(Path(module.__file__).parent).encode() not in graph


def test_export_into_the_models_own_folder_keeps_the_model(bert_folder, tmp_path, phrases):
    both = tmp_path / "both"
    shutil.copytree(bert_folder, both)
    export(both, both, ExportParams())
    texts = phrases(5)
    np.testing.assert_allclose(Encoder.open(both).encode(texts), pytorch_vectors(both, texts, 48), atol=2e-6)


def test_a_graph_that_differs_from_pytorch_is_refused(bert_folder, tmp_path, monkeypatch):
    right = module.Embedder.forward
    monkeypatch.setattr(
        module.Embedder,
        "forward",
        lambda self, ids, mask: right(self, ids, torch.ones_like(mask)),
        raising=True,
    )
    with pytest.raises(GateError, match="PyTorch"):
        export(bert_folder, tmp_path / "out", ExportParams())
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"modules\.json"):
        export(tmp_path, tmp_path / "out", ExportParams())


def test_other_poolings_are_refused(bert_folder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(bert_folder, folder)
    (config,) = folder.glob("*Pooling/config.json")
    config.write_text(config.read_text().replace('"mean"', '"max"'))
    with pytest.raises(InputError, match="pooling is max"):
        export(folder, tmp_path / "out", ExportParams())


def norm_model(**others: str) -> onnx.ModelProto:
    """A norm of x + skip + bias, whose further outputs bear the given names."""
    outputs = ["normal", *(others.get(name, "") for name in ("mean", "deviation", "total"))]
    node = helper.make_node(
        "SkipLayerNormalization",
        ["x", "skip", "scale", "shift", "bias"],
        outputs if others else ["normal"],
        "norm",
        domain="com.microsoft",
        epsilon=1e-5,
    )
    rng = np.random.default_rng(0)
    constants = [
        numpy_helper.from_array(rng.normal(size=8).astype(np.float32), name)
        for name in ("scale", "shift", "bias")
    ]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, 8]) for name in ("x", "skip")]
    found = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("normal", *others.values())
    ]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(
        helper.make_graph([node], "norm", inputs, found, constants), opset_imports=opsets, ir_version=10
    )


def test_a_split_norm_computes_the_same_and_a_session_leaves_it_split(tmp_path):
    def run(model: onnx.ModelProto) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        rng = np.random.default_rng(1)
        inputs = {name: rng.normal(size=(3, 2, 8)).astype(np.float32) for name in ("x", "skip")}
        return session.run(None, inputs)[0]

    model = norm_model()
    fused = run(model)
    module.split_norms(model)
    np.testing.assert_allclose(run(model), fused, atol=1e-5)
    optimized = onnx.load(tmp_path / "optimized.onnx")
    assert [node.op_type for node in optimized.graph.node] == ["Sum", "LayerNormalization"]


def test_a_norm_whose_sum_is_used_elsewhere_stays_fused():
    model = norm_model(total="total")
    module.split_norms(model)
    assert [node.op_type for node in model.graph.node] == ["SkipLayerNormalization"]
