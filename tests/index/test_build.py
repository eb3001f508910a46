"""Building an index, and what is left when it fails."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from demo import ATOMS, Atom, write_bundle, write_lines, write_umls

from deft.encoder.runtime import Encoder
from deft.errors import InputError
from deft.index import build as building
from deft.index.build import build_index
from deft.index.dense import CODES, DenseIndex
from deft.index.lexical import LexicalIndex
from deft.index.manifest import Manifest
from deft.index.vectors import encode_to_folder
from deft.mapping.mapper import TermMapper
from deft.terminology.concepts import Concepts
from deft.terminology.rrf import AtomFilter

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def index(built, tmp_path):
    """A copy of the index that may be changed."""
    (tmp_path / "place").mkdir()
    return shutil.copytree(built, tmp_path / "place" / "umls_index")


def answers(index):
    return TermMapper.open(index).map(["rhume", "crise cardiaque"], k=3)


def neighbours(index):
    return sorted(path.name for path in index.parent.iterdir())


def test_the_folder_is_all_that_is_needed(built, tmp_path):
    moved = shutil.copytree(built, tmp_path / "elsewhere")
    assert answers(moved) == answers(built)
    assert answers(moved)[1].best.cui == "C0000003"


def test_rows_are_those_of_the_strings(built, bundle):
    strings = Concepts.open(built).strings["string"].to_list()
    index = DenseIndex.open(built)
    rows, cosines = index.search(Encoder.open(bundle).encode(strings), 1)
    assert rows[:, 0].tolist() == list(range(len(strings)))
    np.testing.assert_allclose(cosines, 1)


def test_two_builds_are_the_same_but_for_nothing(built, umls, bundle, tmp_path):
    build_index(str(umls), str(bundle), str(tmp_path / "again"))
    assert Manifest.read(tmp_path / "again") == Manifest.read(built)


def test_rows_of_the_lexical_index_are_those_of_the_strings(built):
    strings = Concepts.open(built).strings["string"].to_list()
    index = LexicalIndex.open(built)
    assert len(index) == len(strings)
    assert [index.search(string, 1)[0].tolist() for string in strings] == [
        [row] for row in range(len(strings))
    ]


def test_retired_concepts_are_in_the_index_and_their_file_is_an_input(bundle, tmp_path, built):
    umls = write_umls(tmp_path / "umls")
    write_lines(umls / "MRCUI.RRF", ["C0000009|2020AA|SY|||C0000003|Y|"])
    manifest = build_index(umls, bundle, tmp_path / "i")
    assert set(manifest.inputs) == {"MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF", "MRCUI.RRF"}
    assert Concepts.open(tmp_path / "i").current("C0000009") == ("C0000003",)
    assert "MRCUI.RRF" not in Manifest.read(built).inputs
    assert Concepts.open(built).current("C0000009") == ("C0000009",)


def test_the_kind_of_the_vector_index_can_be_chosen(bundle, tmp_path):
    atoms = [Atom(f"C{place:07d}", f"nom {place}") for place in range(40)]
    umls = write_umls(tmp_path / "umls", atoms, types=[(atom.cui, "T047") for atom in atoms])
    found = {}
    for kind in ("flat", "pq"):
        assert build_index(umls, bundle, tmp_path / kind, kind=kind).kind == kind
        assert (tmp_path / kind / CODES).exists() == (kind == "pq")
        found[kind] = TermMapper.open(tmp_path / kind).map(["nom 7", "nom 12"])
    assert found["flat"] == found["pq"]


def test_filters_are_recorded(umls, bundle, tmp_path):
    manifest = build_index(umls, bundle, tmp_path / "i", AtomFilter(languages=("ENG",)))
    assert manifest.filters["languages"] == ("ENG",)
    assert Manifest.read(tmp_path / "i").rows == {"strings": 5, "atoms": 5, "concepts": 5}
    assert all(mapping.best.language == "ENG" for mapping in answers(tmp_path / "i"))


def test_stored_vectors_give_the_same_index(built, umls, bundle, tmp_path):
    encoder = Encoder.open(bundle)
    encode_to_folder(["rhume", "heart", "not in it"], encoder, tmp_path / "vectors")
    build_index(umls, bundle, tmp_path / "i", vectors=tmp_path / "vectors")
    assert answers(tmp_path / "i") == answers(built)


def test_stored_vectors_of_another_encoder(umls, bundle, tmp_path):
    other = write_bundle(tmp_path / "other", seed=1)
    encode_to_folder(["rhume"], Encoder.open(other), tmp_path / "vectors")
    with pytest.raises(InputError, match="made by another encoder"):
        build_index(umls, bundle, tmp_path / "i", vectors=tmp_path / "vectors")
    assert not (tmp_path / "i").exists()


def test_a_new_build_replaces_the_old_index(index, bundle, tmp_path):
    umls = write_umls(tmp_path / "umls", ATOMS[:3])
    build_index(umls, bundle, index)
    assert Manifest.read(index).rows["concepts"] == 1
    assert neighbours(index) == ["umls_index"]


def test_an_index_can_be_built_again_with_its_own_encoder(index, umls, built):
    build_index(umls, index / "encoder", index)
    assert Manifest.read(index) == Manifest.read(built)


FAILURES = {
    "vectors": (building, "encode_with_store"),
    "dense": (DenseIndex, "save"),
    "lexical": (LexicalIndex, "save"),
    "parquet": (pd.DataFrame, "to_parquet"),
    "copy": (shutil, "copyfile"),
    "manifest": (Manifest, "write"),
}


@pytest.mark.parametrize("place", FAILURES)
def test_a_full_disk_anywhere_is_an_input_error_and_the_old_index_answers(
    index, built, umls, bundle, monkeypatch, place
):
    def fail(*arguments, **options):
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(*FAILURES[place], fail)
        with pytest.raises(InputError, match=r"umls_index: cannot be written: No space left.*choose another"):
            build_index(umls, bundle, index)
    assert answers(index) == answers(built)
    assert neighbours(index) == ["umls_index"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_build(index, built, umls, bundle, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Concepts, "save", fail)
        with pytest.raises(error):
            build_index(umls, bundle, index)
    assert answers(index) == answers(built)
    assert neighbours(index) == ["umls_index"]


KILLED = """
import sys, time
from pathlib import Path
from deft.index import build
build.Concepts.save = lambda self, folder: (Path(folder, "half").write_text(""), time.sleep(60))
build.build_index(*sys.argv[1:])
"""


def test_a_killed_build(index, built, umls, bundle):
    command = [sys.executable, "-c", KILLED, str(umls), str(bundle), str(index)]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        while not (index.parent / ".umls_index.part" / "half").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert neighbours(index) == [".umls_index.part", "umls_index"]
    assert answers(index) == answers(built)
    Manifest.read(index).verify(index)
    build_index(umls, bundle, index)
    assert neighbours(index) == ["umls_index"]
    assert answers(index) == answers(built)


def test_bad_input_leaves_nothing(umls, bundle, tmp_path):
    out = tmp_path / "place" / "i"
    with pytest.raises(InputError, match="no such encoder folder"):
        build_index(umls, tmp_path / "absent", out)
    with pytest.raises(InputError, match=r"no MRCONSO\.RRF"):
        build_index(tmp_path, bundle, out)
    with pytest.raises(InputError, match="no atom with language XXX"):
        build_index(umls, bundle, out, AtomFilter(languages=("XXX",)))
    assert not out.parent.exists()


def test_a_folder_that_is_no_index_is_not_replaced(umls, bundle, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    with pytest.raises(
        InputError, match=r"holds other things and is not replaced \(it has no manifest\.json\)"
    ):
        build_index(umls, bundle, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_an_output_that_cannot_be_written(umls, bundle, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/i: cannot be written"):
        build_index(umls, bundle, tmp_path / "file" / "i")
