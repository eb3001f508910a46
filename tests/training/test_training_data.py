from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from deft.errors import InputError
from deft.training.training_data import TrainingConcepts, TrainingData, mine_negatives

NAMES = [
    ("infarctus", "C1"),
    ("crise cardiaque", "C1"),
    ("CRISE CARDIAQUE", "C1"),
    ("attaque", "C1"),
    ("attaque", "C2"),  # names two concepts
    ("AVC", "C2"),
    ("migraine", "C3"),
    ("angine", "C4"),
]
# On a circle: the farther in this list from "infarctus", the farther in angle.
ORDER = ["infarctus", "crise cardiaque", "attaque", "AVC", "angine", "migraine"]


def embed(texts: Sequence[str]) -> np.ndarray:
    angles = np.array([ORDER.index(text) for text in texts]) / 10
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def pair(cui: str, left: str, right: str) -> pd.DataFrame:
    return pd.DataFrame([(cui, left, right)], columns=["cui", "left", "right"])


def test_concepts_of_a_string_whatever_its_writing() -> None:
    concepts = TrainingConcepts(NAMES)
    assert concepts.of("attaque") == {"C1", "C2"}
    assert concepts.of("Crise  cardiaque.") == {"C1"}
    assert concepts.of("inconnu") == frozenset()


def test_concepts_keep_strings_without_letters_apart() -> None:
    concepts = TrainingConcepts([("!", "C1"), ("?", "C2")])
    assert concepts.of("!") == {"C1"}


def test_the_nearest_foreign_strings_are_mined() -> None:
    mined = mine_negatives(
        pair("C1", "infarctus", "crise cardiaque"), ORDER, TrainingConcepts(NAMES), embed, 2
    )
    # "attaque" is nearer but also a name of C1
    assert mined == [("AVC", "angine")]


def test_all_concepts_of_an_ambiguous_anchor_are_excluded() -> None:
    mined = mine_negatives(pair("C1", "attaque", "infarctus"), ORDER, TrainingConcepts(NAMES), embed, 1)
    assert mined == [("angine",)]  # not "AVC", a name of C2 as "attaque" is


def test_looks_beyond_the_many_names_of_a_large_concept() -> None:
    pool = [f"nom {i}" for i in range(500)] + ["ailleurs"]
    concepts = TrainingConcepts([(text, "C1") for text in pool[:500]] + [("ailleurs", "C2")])

    def line(texts: Sequence[str]) -> np.ndarray:
        angles = np.array([pool.index(text) for text in texts]) / 1000
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    assert mine_negatives(pair("C1", "nom 0", "nom 1"), pool, concepts, line, 1) == [("ailleurs",)]


def test_too_few_foreign_strings_are_repeated_and_none_is_an_error() -> None:
    concepts = TrainingConcepts(NAMES)
    rows = pair("C1", "infarctus", "crise cardiaque")
    assert mine_negatives(rows, ["infarctus", "AVC"], concepts, embed, 3) == [("AVC", "AVC", "AVC")]
    with pytest.raises(InputError, match="hard_negatives"):
        mine_negatives(rows, ["infarctus", "attaque"], concepts, embed, 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pd.DataFrame(NAMES, columns=["string", "cui"]).to_parquet(tmp_path / "atoms.parquet")
    pd.DataFrame({"string": ORDER}).to_parquet(tmp_path / "strings.parquet")
    for name in ("synonyms_train", "synonyms_dev"):
        pair("C1", "infarctus", "crise cardiaque").to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def test_reads_a_prepared_folder_without_graded_pairs(folder: Path) -> None:
    data = TrainingData.read(folder)
    assert data.strings == ORDER
    assert data.synonyms["right"].tolist() == ["crise cardiaque"]
    assert list(data.graded.columns) == ["left", "right", "grade"]
    assert data.graded.empty


@pytest.mark.parametrize("name", ["atoms", "strings", "synonyms_train", "synonyms_dev"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / f"{name}.parquet").unlink()
    with pytest.raises(InputError, match=f"{name}.parquet.*cannot be read"):
        TrainingData.read(folder)


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "strings.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"strings\.parquet: is not valid Parquet"):
        TrainingData.read(folder)


def test_a_missing_column_is_named(folder: Path) -> None:
    shutil.copy(folder / "strings.parquet", folder / "graded_train.parquet")
    with pytest.raises(InputError, match=r"graded_train\.parquet: field left: missing column"):
        TrainingData.read(folder)


@pytest.mark.parametrize(
    ("name", "message"), [("synonyms_train", "no training pair"), ("synonyms_dev", "no pair to watch")]
)
def test_nothing_to_learn_from(folder: Path, name: str, message: str) -> None:
    path = folder / f"{name}.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    with pytest.raises(InputError, match=message):
        TrainingData.read(folder)
