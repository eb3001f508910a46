"""Vectors on disk, so that nothing is embedded twice."""

import errno
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from demo import Atom, FakeEncoder, make_concepts

from deft.errors import InputError
from deft.index import vectors as module
from deft.index.dense import open_vectors, quantize_vectors
from deft.index.vectors import OldIndex, StoredVectors, embed, encode_to_folder, read_texts

AGAIN = "Run `deft encode` again"


class Counting(FakeEncoder):
    def __init__(self):
        self.seen = []

    def encode(self, texts, *, alone=False, progress=False):
        self.seen += texts
        return super().encode(texts)


def test_vectors_survive_the_disk(tmp_path):
    stored = encode_to_folder(["a", "b", "a"], FakeEncoder(), tmp_path / "v")
    again = StoredVectors.open(tmp_path / "v")
    assert list(stored.strings) == list(again.strings) == ["a", "b"]
    assert again.fingerprint == "fake"
    np.testing.assert_array_equal(again.vectors, FakeEncoder().encode(["a", "b"]))


def test_only_new_strings_are_embedded(tmp_path):
    store = encode_to_folder(["a", "b"], FakeEncoder(), tmp_path / "v")
    concepts = make_concepts([Atom("C0000001", text) for text in "abcd"])
    encoder = Counting()
    embed(concepts, encoder, tmp_path, store)
    assert encoder.seen == ["c", "d"]
    vectors = open_vectors(tmp_path)
    np.testing.assert_array_equal(vectors, quantize_vectors(FakeEncoder().encode(list("abcd"))))


def test_an_index_is_a_store_too(tmp_path):
    concepts = make_concepts([Atom("C0000001", text) for text in "bd"])
    embed(concepts, FakeEncoder(), tmp_path)
    old = OldIndex(tmp_path, "fake", concepts)
    assert old.rows_of(["a", "b", "c", "d", "é"]).tolist() == [-1, 0, -1, 1, -1]
    (tmp_path / "new").mkdir()
    encoder = Counting()
    embed(make_concepts([Atom("C0000001", text) for text in "abcd"]), encoder, tmp_path / "new", old)
    assert encoder.seen == ["a", "c"]
    np.testing.assert_array_equal(open_vectors(tmp_path / "new")[[1, 3]], open_vectors(tmp_path))


def test_what_was_embedded_before_it_was_interrupted_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_STRINGS", 2)
    concepts = make_concepts([Atom("C0000001", text) for text in "abcdefg"])

    class Dying(Counting):
        def encode(self, texts, *, alone=False, progress=False):
            if "e" in texts:
                raise KeyboardInterrupt
            return super().encode(texts)

    with pytest.raises(KeyboardInterrupt):
        embed(concepts, Dying(), tmp_path)
    encoder = Counting()
    embed(concepts, encoder, tmp_path)
    assert encoder.seen == ["e", "f", "g"]
    np.testing.assert_array_equal(
        open_vectors(tmp_path), quantize_vectors(FakeEncoder().encode(list("abcdefg")))
    )
    encoder = Counting()
    embed(concepts, encoder, tmp_path)
    assert encoder.seen == []


def test_vectors_of_another_encoder(tmp_path):
    store = replace(encode_to_folder(["a"], FakeEncoder(), tmp_path / "v"), fingerprint="other")
    with pytest.raises(InputError, match=r"made by another encoder\. Run `deft encode` with this"):
        embed(make_concepts([Atom("C0000001", "a")]), FakeEncoder(), tmp_path, store)


@pytest.mark.parametrize("name", ["strings.parquet", "vectors.npy", "vectors.json"])
@pytest.mark.parametrize("keep", [0, 20])
def test_damage(tmp_path, name, keep):
    encode_to_folder(["a", "b"], FakeEncoder(), tmp_path / "v")
    path = tmp_path / "v" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"(cannot be read|is not valid JSON)"):
        StoredVectors.open(tmp_path / "v")
    path.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        StoredVectors.open(tmp_path / "v")


def test_files_that_do_not_belong_together(tmp_path):
    encode_to_folder(["a", "b"], FakeEncoder(), tmp_path / "v")
    np.save(tmp_path / "v" / "vectors.npy", np.zeros((3, 24), dtype=np.float32))
    with pytest.raises(InputError, match=rf"holds 2 strings and 3 vectors\. {AGAIN}"):
        StoredVectors.open(tmp_path / "v")
    (tmp_path / "v" / "vectors.json").write_text("[]")
    with pytest.raises(InputError, match=AGAIN):
        StoredVectors.open(tmp_path / "v")


def test_a_full_disk_keeps_the_old_vectors(tmp_path, monkeypatch):
    encode_to_folder(["a"], FakeEncoder(), tmp_path / "v")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        encode_to_folder(["b"], FakeEncoder(), tmp_path / "v")
    assert list(StoredVectors.open(tmp_path / "v").strings) == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_an_output_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    encoder = Counting()
    with pytest.raises(InputError, match="cannot be written"):
        encode_to_folder(["a"], encoder, tmp_path / "file" / "v")
    assert encoder.seen == []


def test_texts_of_tables(tmp_path):
    pd.DataFrame({"string": ["b", "a", "b"], "n": [1, 2, 3]}).to_parquet(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("string,n\nb,1\na,2\nb,3\n")
    assert (
        read_texts(tmp_path / "t.parquet", "string") == read_texts(tmp_path / "t.csv", "string") == ["b", "a"]
    )
    for name in ("t.parquet", "t.csv"):
        with pytest.raises(InputError, match=name):
            read_texts(tmp_path / name, "absent")


@pytest.mark.parametrize(
    ("values", "row"), [(["a", None], 2), (["", "a"], 1), (["a", " \u200b"], 2), ([1, 2], 1)]
)
def test_rows_without_text(tmp_path, values, row):
    pd.DataFrame({"string": values}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=rf"t\.parquet: field string: row {row} holds no text"):
        read_texts(tmp_path / "t.parquet", "string")


def test_no_parquet(tmp_path):
    (tmp_path / "t.parquet").write_text("string\na\n")
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "t.parquet", "string")
