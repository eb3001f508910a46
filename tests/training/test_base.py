from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("sentence_transformers")

import huggingface_hub.constants
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from deft.errors import InputError
from deft.training.base import load_base

TEXTS = ["douleur du rein", "fracture du genou", "douleur du genou"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A transformers folder without anything of sentence-transformers, its weights in half precision."""
    folder = tmp_path_factory.mktemp("plain")
    transformer = load_base("scratch", TEXTS)[0]
    transformer.auto_model.half().save_pretrained(folder)
    transformer.tokenizer.save_pretrained(folder)
    return folder


def test_scratch_is_the_same_each_time() -> None:
    one, other = load_base("scratch", TEXTS, seed=3), load_base("scratch", TEXTS, seed=3)
    assert one.tokenizer.get_vocab() == other.tokenizer.get_vocab()
    assert all((value == other.state_dict()[name]).all() for name, value in one.state_dict().items())
    changed = load_base("scratch", TEXTS, seed=4).state_dict()
    assert any((value != changed[name]).any() for name, value in one.state_dict().items())


def test_scratch_learns_its_vocabulary_from_the_texts() -> None:
    tokenizer = load_base("scratch", TEXTS).tokenizer
    assert tokenizer.tokenize("Douleur du genou") == ["douleur", "du", "genou"]
    assert tokenizer.tokenize("rond") == ["r", "##o", "##n", "##d"]
    assert tokenizer("du").input_ids == [2, tokenizer.convert_tokens_to_ids("du"), 3]


def test_a_plain_folder_gets_mean_pooling_and_unit_vectors(plain: Path) -> None:
    model = load_base(str(plain))
    assert [type(layer).__name__ for layer in model] == ["Transformer", "Pooling", "Normalize"]
    assert model[1].pooling_mode == "mean"
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    vector = model.encode("douleur du rein")
    tokens = model.encode("douleur du rein", output_value="token_embeddings").numpy(force=True)
    mean = tokens.mean(axis=0)
    assert vector == pytest.approx(mean / (mean @ mean) ** 0.5, abs=1e-5)


def test_a_sentence_transformers_folder_keeps_its_pooling(tmp_path: Path, plain: Path) -> None:
    model = SentenceTransformer(str(plain))
    model[1].pooling_mode = "cls"
    model.save_pretrained(str(tmp_path))
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    loaded = load_base(str(tmp_path))
    assert loaded[1].pooling_mode == "cls"
    assert type(loaded[-1]).__name__ == "Normalize"


def test_other_layers_are_refused(tmp_path: Path, plain: Path) -> None:
    model = SentenceTransformer(str(plain))
    model.append(Dense(32, 16))
    model.save_pretrained(str(tmp_path))
    with pytest.raises(InputError, match="Dense"):
        load_base(str(tmp_path))


def test_a_folder_without_weights(tmp_path: Path, plain: Path) -> None:
    shutil.copytree(plain, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model" / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="holds no PyTorch weights"):
        load_base(str(tmp_path / "model"))


def test_a_folder_without_configuration(tmp_path: Path, plain: Path) -> None:
    shutil.copytree(plain, tmp_path / "model", ignore=shutil.ignore_patterns("config.json"))
    with pytest.raises(InputError, match="cannot be loaded as a model"):
        load_base(str(tmp_path / "model"))


@pytest.mark.parametrize("name", ["scrach", "./missing", "/missing/model", "a/b/c"])
def test_neither_a_folder_nor_a_hub_id(name: str) -> None:
    with pytest.raises(InputError, match="is no folder"):
        load_base(name)


def test_offline_a_hub_id_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"almanach/no-such-model.*set finetune\.base to its folder"):
        load_base("almanach/no-such-model")
