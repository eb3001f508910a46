"""Base, training data and licence on their way from a base to the bundles that are made of it."""

import json
import shutil

import pytest
import yaml
from demo import write_bundle

from deft.encoder.bundle import CARD, read_info
from deft.errors import InputError
from deft.training.origin import ORIGIN, Origin

FIRST = Origin("teacher", ("names (CC0)", "leaflets (CC BY-NC)"), "CC BY-NC 4.0")


def test_each_training_adds_its_data(tmp_path):
    FIRST.trained_on(["names of mine"]).save(tmp_path)
    again = Origin.read(tmp_path)
    assert again == Origin("teacher", (*FIRST.training, "names of mine"), "CC BY-NC 4.0")


def test_what_a_folder_says_of_itself(tmp_path, root):
    assert Origin.read("owner/name") == Origin("owner/name")
    assert Origin.read(tmp_path) == Origin(tmp_path.name)
    (tmp_path / CARD).write_text("---\nlanguage: fr\nlicense: mit\ntags: [a]\n---\n\nlicense: none\n")
    assert Origin.read(tmp_path) == Origin(tmp_path.name, (), "mit")
    bundle = write_bundle(tmp_path / "bundle")
    assert Origin.read(bundle) == Origin("random letters", ("nothing",), "Apache-2.0")
    shipped = Origin.read(root / "data" / "encoder")
    assert shipped.licence == "CC BY-NC 4.0"
    assert len(shipped.training) > 3


def test_a_spoilt_record_is_named(tmp_path):
    (tmp_path / ORIGIN).write_text('{"base": 1}')
    with pytest.raises(InputError, match=r"origin\.json: does not name base"):
        Origin.read(tmp_path)


def test_export_and_quantization_hand_the_origin_on(bert_folder, tmp_path):
    pytest.importorskip("sentence_transformers")
    from deft.compress.registry import make_variant
    from deft.config import ExportParams
    from deft.training.export import export

    model = shutil.copytree(bert_folder, tmp_path / "finetuned")
    FIRST.save(model)
    export(model, tmp_path / "fp32", ExportParams())
    make_variant(tmp_path / "fp32", tmp_path / "int8", "onnxruntime")
    for name, precision in (("fp32", "fp32"), ("int8", "int8 (onnxruntime)")):
        assert Origin.of(read_info(tmp_path / name)) == FIRST
        card = (tmp_path / name / CARD).read_text(encoding="utf-8")
        assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-nc-4.0"
        assert all(line in card for line in ("- names (CC0)\n", "under CC BY-NC 4.0.", precision, "teacher"))


def test_a_model_keeps_its_own_card(bert_folder, tmp_path):
    from deft.config import ExportParams
    from deft.training.export import export

    model = shutil.copytree(bert_folder, tmp_path / "model")
    (model / CARD).write_text("---\nlicense: mit\n---\nMine.\n", encoding="utf-8")
    assert export(model, model, ExportParams()).licence == "mit"
    assert (model / CARD).read_text(encoding="utf-8").endswith("Mine.\n")
    assert json.loads((model / "encoder.json").read_text())["licence"] == "mit"
