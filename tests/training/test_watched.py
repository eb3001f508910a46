"""Checksums of the inputs that there may be several of, or none."""

import json

import pytest

from deft.config import Params
from deft.errors import InputError
from deft.files import sha256
from deft.training.watched import watched, write_checksums


@pytest.fixture
def params(root, tmp_path):
    def change(**blocks):
        read = Params.read(root / "params.yaml")
        changes = {name: getattr(read, name).model_copy(update=values) for name, values in blocks.items()}
        return read.model_copy(update=changes)

    return change


def test_every_file_counts_and_none_is_allowed(params, tmp_path):
    first, second, base = tmp_path / "a.csv", tmp_path / "b.csv", tmp_path / "base"
    (base / "1_Pooling").mkdir(parents=True)
    for path in (first, second, base / "1_Pooling" / "config.json"):
        path.write_text(path.name)
    none = {"held_out": (), "t1_train": None}
    assert watched(
        params(prepare=none, finetune={"base": "owner/name"}, quantize={"t1": None, "t2": None})
    ) == {
        "prepare": {},
        "finetune": {},
        "quantize": {},
    }
    several = params(
        prepare={"held_out": (first, second), "t1_train": None},
        finetune={"base": str(base)},
        quantize={"t1": first, "t2": None},
    )
    found = watched(several)
    assert found["prepare"] == {str(first): sha256(first), str(second): sha256(second)}
    assert list(found["finetune"]) == [str(base / "1_Pooling" / "config.json")]
    assert list(found["quantize"]) == [str(first)]
    write_checksums(several, tmp_path / "inputs")
    assert json.loads((tmp_path / "inputs" / "prepare.json").read_text()) == found["prepare"]
    second.write_text("changed")
    assert watched(several)["prepare"] != found["prepare"]


def test_a_missing_file_is_named(params, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read: No such file"):
        watched(params(prepare={"held_out": (tmp_path / "none.csv",)}))
