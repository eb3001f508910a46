"""Whether an index is whole."""

import json
import shutil

import pytest

from deft.errors import InputError
from deft.index.manifest import FORMAT, NAME, Manifest
from deft.index.releases import current_release

REBUILD = "Build it again with `deft index build`"


@pytest.fixture
def index(built, tmp_path):
    """The release of a copy of the index."""
    return current_release(shutil.copytree(built, tmp_path / "umls_index"))


def change(index, **values):
    content = json.loads((index / NAME).read_text()) | values
    (index / NAME).write_text(json.dumps(content))


def files(index):
    return sorted(path for path in index.rglob("*") if path.is_file() and path.name != NAME)


def test_a_whole_index(index, umls):
    manifest = Manifest.read(index)
    manifest.verify(index)
    assert manifest.rows == {"strings": 15, "atoms": 16, "concepts": 6}
    assert set(manifest.inputs) == {"MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF", "lay LAYFR"}
    assert manifest.inputs["MRSTY.RRF"].size == (umls / "META" / "MRSTY.RRF").stat().st_size
    assert set(manifest.files) == {path.relative_to(index).as_posix() for path in files(index)}
    assert manifest.encoder["dimension"] == 16


def test_every_file_that_is_missing_or_cut_is_named(index):
    for path in files(index):
        data = path.read_bytes()
        path.write_bytes(data[:-1])
        with pytest.raises(
            InputError, match=f"{path.name}: has {len(data) - 1} bytes, not {len(data)}.*{REBUILD}"
        ):
            Manifest.read(index)
        path.unlink()
        with pytest.raises(InputError, match=f"{path.name}: is missing from the index. {REBUILD}"):
            Manifest.read(index)
        path.write_bytes(data)
    Manifest.read(index).verify(index)


def test_a_flipped_bit_in_any_file_is_found(index):
    manifest = Manifest.read(index)
    for path in files(index):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"{path.name}: does not have the checksum.*{REBUILD}"):
            manifest.verify(index)
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    manifest.verify(index)


def test_another_version(index):
    change(index, format=FORMAT + 1)
    with pytest.raises(
        InputError,
        match=f"is an index of format {FORMAT + 1}; this version of deft reads format {FORMAT}. {REBUILD}",
    ):
        Manifest.read(index)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", r"manifest\.json:1: is not valid JSON"),
        ("[]", "is an index of format None"),
        ('{"format": 4}', r"manifest\.json: field inputs: is damaged"),
        ('{"format": 4, "inputs": {"a": {"size": "x"}}}', r"field inputs\.a\.size: is damaged"),
    ],
)
def test_a_damaged_manifest(index, text, problem):
    (index / NAME).write_text(text)
    with pytest.raises(InputError, match=problem):
        Manifest.read(index)


def test_no_release(tmp_path):
    with pytest.raises(InputError, match=rf"manifest\.json: is missing from the index\. {REBUILD}"):
        Manifest.read(tmp_path)
