"""Vectors on disk, so that nothing is embedded twice."""

import errno
import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from demo import FakeEncoder

from deft.errors import InputError
from deft.index.vectors import StoredVectors, encode_to_folder, encode_with_store, read_texts

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


def test_only_new_strings_are_encoded(tmp_path):
    store = encode_to_folder(["a", "b"], FakeEncoder(), tmp_path / "v")
    encoder = Counting()
    vectors = encode_with_store(["c", "b", "a", "d"], encoder, store)
    assert encoder.seen == ["c", "d"]
    np.testing.assert_array_equal(vectors, FakeEncoder().encode(["c", "b", "a", "d"]))
    encoder = Counting()
    encode_with_store(["b"], encoder, store)
    assert encoder.seen == []


def test_without_a_store_all_is_encoded():
    encoder = Counting()
    encode_with_store(["a"], encoder, None)
    assert encoder.seen == ["a"]


def test_vectors_of_another_encoder(tmp_path):
    store = replace(encode_to_folder(["a"], FakeEncoder(), tmp_path / "v"), fingerprint="other")
    with pytest.raises(InputError, match=r"made by another encoder\. Run `deft encode` with this"):
        encode_with_store(["a"], FakeEncoder(), store)


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
