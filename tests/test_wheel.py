"""What is installed: the wheel holds the encoder with its licence, and works where there is no checkout."""

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string

import pytest

pytest.importorskip("build")

INSTALLED = """
import sys
sys.path[:] = [path for path in sys.path if path not in ("", {root!r})]
sys.path.insert(0, {folder!r})
import deft
assert deft.__file__.startswith({folder!r}), deft.__file__
from deft.cli import main
main()
"""


def build(kind, root, out, **environment):
    import os

    command = [sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", str(out), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = out.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(root, tmp_path_factory):
    return build("sdist", root, tmp_path_factory.mktemp("sdist"), SOURCE_DATE_EPOCH="1700000000")


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    return build("wheel", root, tmp_path_factory.mktemp("wheel"), SOURCE_DATE_EPOCH="1700000000")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_encoder_and_no_more(root, wheel, installed):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "deft",
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info",
    }
    assert not [name for name in names if name.endswith((".safetensors", ".pyc"))]
    vocabulary = root / "data" / "lay" / "lay_fr.tsv"
    assert (installed / "deft" / "terminology" / "lay_fr.tsv").read_bytes() == vocabulary.read_bytes()
    shipped = installed / "deft" / "encoder" / "shipped"
    assert {path.name for path in shipped.iterdir()} == {
        *("README.md", "encoder.json", "grades.json", "model.onnx", "tokenizer.json")
    }
    for path in shipped.iterdir():
        assert path.read_bytes() == (root / "data" / "encoder" / path.name).read_bytes()


def test_the_licence_of_the_weights_comes_along(installed):
    (folder,) = installed.glob("*.dist-info")
    metadata = message_from_string((folder / "METADATA").read_text(encoding="utf-8"))
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-4.0 AND CC-BY-4.0"
    assert {path.name for path in (folder / "licenses").iterdir()} == {"LICENSE", "NOTICE"}
    assert "CC BY-NC 4.0" in (folder / "licenses" / "NOTICE").read_text(encoding="utf-8")


def test_it_builds_an_index_and_maps_elsewhere(root, installed, tmp_path):
    code = INSTALLED.format(root=str(root), folder=str(installed))

    def deft(*arguments):
        command = [sys.executable, "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    deft("index", "build", "--umls", root / "data" / "sample" / "umls")
    assert "C0012569" in deft("map", "vision double")
    (card,) = tmp_path.glob("umls_index/*/encoder/README.md")
    assert "license: cc-by-nc-4.0" in card.read_text(encoding="utf-8")


def test_a_wheel_comes_out_of_the_source_distribution(sdist, wheel, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    (tmp_path / "out").mkdir()
    again = build("wheel", folder, tmp_path / "out", SOURCE_DATE_EPOCH="1700000000")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (wheel, again)]
    assert digests[0] == digests[1]  # the same bytes, so that anyone can check what is published
