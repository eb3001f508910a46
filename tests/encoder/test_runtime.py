"""Encoding: the same vector in every company, and clear refusals."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deft.encoder import runtime
from deft.encoder.runtime import Encoder
from deft.encoder.settings import Settings, processor_level, write_settings
from deft.errors import InputError


@pytest.fixture(params=["fp32_bundle", "onnxruntime_bundle", "inc_bundle"])
def bundle(request) -> Path:
    return request.getfixturevalue(request.param)


def test_rows_are_unit_vectors_in_input_order(fp32_bundle):
    encoder = Encoder.open(fp32_bundle)
    vectors = encoder.encode(["fièvre", "maladie de Crohn", "fièvre"])
    assert vectors.shape == (3, encoder.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert (vectors[0] == vectors[2]).all()
    assert vectors[0] @ vectors[1] < 0.99


@pytest.mark.parametrize("threads", [1, 3])
def test_a_vector_depends_on_its_text_alone(bundle, threads, phrases):
    texts = phrases(150)
    encoder = Encoder.open(bundle, threads=threads)
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    order = random.Random(1).sample(range(len(texts)), len(texts))
    shuffled = encoder.encode([texts[row] for row in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-6)


def test_two_calls_and_two_encoders_agree_to_the_bit(bundle, phrases):
    texts = phrases(80)
    first = Encoder.open(bundle)
    assert (first.encode(texts) == first.encode(texts)).all()
    assert (first.encode(texts) == Encoder.open(bundle, threads=2).encode(texts)).all()


def test_no_text_gives_no_row(fp32_bundle):
    assert Encoder.open(fp32_bundle).encode([]).shape == (0, 32)


def test_invisible_differences_make_none(fp32_bundle):
    vectors = Encoder.open(fp32_bundle).encode(["fie\u0300vre du  foie", "fièvre\tdu\u200b\x00foie\n"])
    assert (vectors[0] == vectors[1]).all()


@pytest.mark.parametrize("blank", ["", "  \t", "\x00\u200b"])
def test_a_blank_text_is_refused_by_its_number(fp32_bundle, blank):
    with pytest.raises(InputError, match="number 2 is empty"):
        Encoder.open(fp32_bundle).encode(["fièvre", blank])


@pytest.mark.parametrize("texts", [["fièvre", None], ["fièvre", float("nan")]])
def test_what_is_no_string_is_refused_by_its_number(fp32_bundle, texts):
    with pytest.raises(InputError, match="number 2 is not a string"):
        Encoder.open(fp32_bundle).encode(texts)


def test_one_string_is_not_a_list_of_letters(fp32_bundle):
    with pytest.raises(InputError, match="one string"):
        Encoder.open(fp32_bundle).encode("fièvre")


def test_threads_must_be_positive(fp32_bundle):
    with pytest.raises(InputError, match="threads"):
        Encoder.open(fp32_bundle, threads=0)


def test_a_long_text_is_truncated_with_one_warning(fp32_bundle, caplog):
    long = "fièvre " * 1430
    assert len(long) > 10_000
    encoder = Encoder.open(fp32_bundle)
    with caplog.at_level(logging.WARNING):
        vectors = encoder.encode(["fièvre", long, long + "du foie"])
    (record,) = caplog.records
    assert "2 of 3 texts" in record.message
    assert "number 2" in record.message
    assert (vectors[1] == vectors[2]).all()


def test_opening_does_not_warn_of_long_probes(bert_folder, tmp_path, caplog):
    from deft.config import ExportParams
    from deft.training.export import export

    export(bert_folder, tmp_path / "short", ExportParams(max_length=8))
    Encoder.open(tmp_path / "short")
    assert not [record for record in caplog.records if record.name == runtime.__name__]


def test_progress_goes_to_standard_error_when_asked(fp32_bundle, capsys, phrases):
    encoder = Encoder.open(fp32_bundle)
    encoder.encode(phrases(5))
    assert capsys.readouterr() == ("", "")
    encoder.encode(phrases(5), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err


def test_graphs_with_one_scale_a_tensor_take_one_text_at_a_time(fp32_bundle, tmp_path, phrases):
    from deft.compress.registry import make_variant

    assert not make_variant(fp32_bundle, tmp_path / "int8", "onnxruntime-tensor").batch_invariant
    encoder = Encoder.open(tmp_path / "int8", threads=2)
    texts = phrases(60)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert (encoder.encode(texts) == alone).all()


def test_a_probe_that_differs_is_refused(fp32_bundle, tmp_path):
    facts = json.loads((fp32_bundle / "encoder.json").read_text())
    facts["probes"]["fièvre"][0] += 0.1
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("model.onnx", "tokenizer.json"):
        (changed / name).write_bytes((fp32_bundle / name).read_bytes())
    (changed / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="vector of 'fièvre' is not the one stored"):
        Encoder.open(changed)
    facts["probes"] = {}
    (changed / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="no probe vectors"):
        Encoder.open(changed)


def test_a_graph_that_onnxruntime_refuses_is_reported(fp32_bundle, tmp_path):
    info = Encoder.open(fp32_bundle).info
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    (tmp_path / "tokenizer.json").write_bytes((fp32_bundle / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="cannot load the graph"):
        Encoder(tmp_path, info)


def test_encoding_needs_neither_torch_nor_transformers(fp32_bundle):
    program = f"""
import sys

class Absent:
    names = "torch transformers sentence_transformers onnx onnxscript neural_compressor".split()

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ImportError(name)

sys.meta_path.insert(0, Absent())
from deft.encoder.runtime import Encoder
print(Encoder.open({str(fp32_bundle)!r}).encode(["fièvre"]).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "(1, 32)"), done.stderr


@pytest.mark.parametrize(
    "settings",
    [
        Settings(optimization="disabled"),
        Settings(intra_threads=2, inter_threads=2, workers=2),
        Settings(workers=3, block_tokens=16),
        Settings(block_tokens=4096),
    ],
)
def test_settings_change_no_vector(fp32_bundle, phrases, settings):
    texts = phrases(120)
    usual = Encoder.open(fp32_bundle, settings=Settings()).encode(texts)
    np.testing.assert_allclose(
        Encoder.open(fp32_bundle, threads=4, settings=settings).encode(texts), usual, atol=1e-5
    )


def test_stored_settings_are_taken_and_are_no_part_of_the_fingerprint(fp32_bundle, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    write_settings(folder, {processor_level(): Settings(block_tokens=77)})
    taken = []
    within = Settings.within
    monkeypatch.setattr(
        Settings, "within", lambda self, threads: taken.append(self.block_tokens) or within(self, threads)
    )
    assert Encoder.open(folder).fingerprint == Encoder.open(fp32_bundle).fingerprint
    Encoder.open(folder, settings=Settings(block_tokens=5))
    assert taken == [77, 512, 5]


def test_malformed_settings_are_refused(fp32_bundle, tmp_path):
    folder = Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    (folder / "runtime.json").write_text('{"plain": {"workers": -1}}')
    with pytest.raises(InputError, match=r"runtime\.json: field plain\.workers"):
        Encoder.open(folder)


def test_texts_tokenized_in_parts_keep_their_order_and_numbers(fp32_bundle, phrases, monkeypatch, caplog):
    texts = phrases(50)
    texts[33] = texts[44] = "fièvre " * 100
    expected = Encoder.open(fp32_bundle).encode(texts)
    monkeypatch.setattr(runtime, "_TOKENIZE_TEXTS", 7)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        found = Encoder.open(fp32_bundle).encode(texts)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (record,) = caplog.records
    assert "2 of 50 texts" in record.message
    assert "number 34" in record.message
