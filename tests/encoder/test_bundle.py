"""What an encoder folder must hold to be opened."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from deft.encoder.bundle import EncoderInfo, bundle_folder, read_info, write_info
from deft.encoder.runtime import Encoder
from deft.errors import InputError

INFO = EncoderInfo(
    dimension=2,
    max_length=16,
    pooling="mean",
    precision="int8",
    engine="inc",
    batch_invariant=True,
    base="base",
    training=("synonyms", "graded pairs"),
    licence="Apache-2.0",
    deft_version="0.1.0",
    sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",  # of an empty file
    tokenizer_sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    probes={"fièvre": (0.5, -0.25)},
)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "model.onnx").touch()
    (tmp_path / "tokenizer.json").touch()
    write_info(tmp_path, INFO)
    return tmp_path


@pytest.fixture
def copy(fp32_bundle, tmp_path) -> Path:
    return Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))


def test_what_is_written_is_read(folder):
    assert read_info(folder) == INFO


def test_fingerprint_changes_with_graph_and_tokenizer():
    assert INFO.fingerprint == replace(INFO, base="other").fingerprint
    assert (
        len(
            {
                INFO.fingerprint,
                replace(INFO, sha256="0").fingerprint,
                replace(INFO, tokenizer_sha256="0").fingerprint,
            }
        )
        == 3
    )


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such encoder folder"):
        Encoder.open(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "encoder.json"])
def test_a_missing_file_is_refused(copy, name):
    (copy / name).unlink()
    with pytest.raises(InputError, match=f"no {name}.*again"):
        Encoder.open(copy)


def test_a_truncated_graph_is_refused(copy):
    graph = copy / "model.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.onnx: is not the file"):
        Encoder.open(copy)


def test_another_tokenizer_is_refused(copy):
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    with pytest.raises(InputError, match=r"tokenizer\.json: is not the file"):
        Encoder.open(copy)


@pytest.mark.parametrize(("field", "value"), [("precision", "fp8"), ("dimension", "wide"), ("engine", 5)])
def test_a_malformed_fact_is_refused_by_name(folder, field, value):
    facts = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**facts, field: value}))
    with pytest.raises(InputError, match=f"field {field}"):
        read_info(folder)


def test_a_missing_fact_is_refused_by_name(folder):
    facts = json.loads((folder / "encoder.json").read_text())
    del facts["max_length"]
    (folder / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="field max_length"):
        read_info(folder)


@pytest.mark.parametrize("text", ["[]", "{", '"encoder"'])
def test_what_is_no_record_is_refused(folder, text):
    (folder / "encoder.json").write_text(text)
    with pytest.raises(InputError, match=r"encoder\.json"):
        read_info(folder)


def test_a_new_bundle_replaces_the_old_and_keeps_other_files(folder):
    (folder / "model.safetensors").write_text("weights")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text("{}")
    (folder / "runtime.json").write_text("{}")
    with bundle_folder(folder) as partial:
        assert not (partial / "encoder.json").exists()
        (partial / "model.onnx").write_text("new")
    assert (folder / "model.onnx").read_text() == "new"
    assert (folder / "model.safetensors").read_text() == "weights"
    assert (folder / "1_Pooling" / "config.json").exists()
    assert not (folder / "encoder.json").exists()
    assert not (folder / "runtime.json").exists()  # found for the former model


def test_a_failed_build_leaves_the_old_bundle(folder):
    def fail() -> None:
        with bundle_folder(folder) as partial:
            (partial / "model.onnx").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert read_info(folder) == INFO
