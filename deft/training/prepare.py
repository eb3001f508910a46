"""The first stage: from licensed-format files to the pairs that fine-tuning learns from.

Concepts of the gold mappings are held out, those too that the gold names by a CUI retired since: none of
their names enters a training or a dev pair, not even as a name that another concept shares, so that scores on
those mappings speak of concepts that training has not seen. The held-out strings stay in the index, of
course: they are what a query must find.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from deft.config import PrepareParams
from deft.corpora.deft2020 import SentencePair, read_t1
from deft.errors import InputError
from deft.files import atomic_folder, write_json
from deft.terminology.concepts import Concepts
from deft.terminology.lexicon import read_cuis
from deft.terminology.rrf import AtomFilter
from deft.terminology.table_maker import read_concepts
from deft.text import normalize
from deft.training.origin import SOURCES

HELD_OUT = "held_out.json"


@dataclass(frozen=True)
class Prepared:
    """How much was prepared."""

    concepts: int
    strings: int
    held_out_concepts: int
    synonyms_train: int
    synonyms_dev: int
    graded_train: int
    graded_dev: int


def prepare(params: PrepareParams, out: Path, *, progress: bool = False) -> Prepared:
    """Read the inputs and write the folder of training pairs.

    The folder holds `strings.parquet` (the distinct strings of the index), `atoms.parquet` (which concepts
    they name), `synonyms_{train,dev}.parquet` (`cui`, `left`, `right`: `left` is French),
    `graded_{train,dev}.parquet` (`left`, `right`, `grade` from 0 to 5), `held_out.json` (the CUIs that were
    kept out) and `sources.json` (what the pairs were made of, for the model's card).

    Raises
    ------
    InputError
        An input is missing or malformed, or no concept is left to learn from.
    """
    concepts = read_concepts(params.umls, AtomFilter(**params.atom_filters()), progress=progress)
    held_out = _held_out(params, concepts)
    names = _names(concepts)
    pairs = synonym_pairs(without(names, held_out), params.max_pairs_per_concept, params.seed)
    if pairs.empty:
        raise InputError(
            "no concept has two names to learn from.",
            path=params.umls,
            remedy="Widen the filters of `prepare`.",
        )
    train, dev = split_by(pairs, "cui", params.dev_fraction, params.seed)
    graded = _graded(params.t1_train)
    graded_train, graded_dev = split_by(graded, "left", params.dev_fraction, params.seed)
    with atomic_folder(out, marker=HELD_OUT) as folder:
        tables = {
            "strings": concepts.strings,
            "atoms": names[["string", "cui"]].drop_duplicates(),
            "synonyms_train": train,
            "synonyms_dev": dev,
            "graded_train": graded_train,
            "graded_dev": graded_dev,
        }
        for name, table in tables.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)
        write_json(folder / HELD_OUT, sorted(held_out))
        write_json(folder / SOURCES, _sources(params, concepts, len(graded)))
    return Prepared(
        len(concepts.concepts),
        len(concepts.strings),
        len(held_out),
        len(train),
        len(dev),
        len(graded_train),
        len(graded_dev),
    )


def without(names: pd.DataFrame, held_out: Collection[str]) -> pd.DataFrame:
    """Return the names of concepts that are not held out, less those that a held-out concept has too.

    Parameters
    ----------
    names
        Columns `cui` and `string`, among others.
    held_out
        CUIs.
    """
    keys = names["string"].map(normalize)
    own = names["cui"].isin(held_out)
    return names[~own & ~keys.isin(set(keys[own]))]


def synonym_pairs(names: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    """Pair each French name of a concept with its other names, at most `most` pairs a concept.

    Parameters
    ----------
    names
        Columns `cui`, `language`, `string`.
    most
        Largest number of pairs of one concept.
    seed
        Seed of the choice.

    Returns
    -------
    pd.DataFrame
        Columns `cui`, `left`, `right`; `left` is French, and two French names make one pair, not two.
    """
    generator = np.random.default_rng(seed)
    french = names.loc[names["language"] == "FRE", "cui"]
    rows: list[tuple[str, str, str]] = []
    for cui, group in names[names["cui"].isin(french)].groupby("cui", sort=True):
        pairs = _pairs(group)
        rows += [(str(cui), *pairs[place]) for place in sorted(generator.permutation(len(pairs))[:most])]
    return pd.DataFrame(rows, columns=["cui", "left", "right"])


def split_by(
    table: pd.DataFrame, column: str, fraction: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split a table in two so that no value of `column` is on both sides.

    The second part has about `fraction` of the values.
    """
    values = np.sort(table[column].unique())
    count = round(fraction * len(values))
    chosen = set(np.random.default_rng(seed).permutation(values)[:count])
    inside = table[column].isin(chosen)
    return table[~inside].reset_index(drop=True), table[inside].reset_index(drop=True)


def _pairs(group: pd.DataFrame) -> list[tuple[str, str]]:
    """Return every pair of a French name and another name of one concept that differs in more than form."""
    french = set(group.loc[group["language"] == "FRE", "string"])
    keys = {string: normalize(string) for string in group["string"]}
    strings = list(keys)
    return [
        (left, right)
        for place, left in enumerate(strings)
        if left in french
        for other, right in enumerate(strings)
        if keys[left] != keys[right] and not (right in french and other < place)
    ]


def _names(concepts: Concepts) -> pd.DataFrame:
    atoms = concepts.atoms
    strings = concepts.strings["string"].to_numpy()[atoms["string"]]
    return pd.DataFrame(
        {
            "cui": concepts.concepts["cui"].to_numpy()[atoms["concept"]],
            "language": atoms["language"],
            "string": strings,
        }
    )


def _sources(params: PrepareParams, concepts: Concepts, graded: int) -> list[str]:
    """Name the training data; the folders that it lies in are nobody's business."""
    languages, sources = (", ".join(sorted(set(concepts.atoms[name]))) for name in ("language", "source"))
    lines = [f"names of concepts ({languages}) of {params.umls.resolve().name}: {sources}"]
    if params.t1_train is not None and graded:
        lines.append(f"graded sentence pairs of {params.t1_train.name}")
    return lines


def _held_out(params: PrepareParams, concepts: Concepts) -> frozenset[str]:
    """Return the CUIs of the gold mappings as they are now: gold of an earlier release names retired ones."""
    return frozenset().union(
        *(
            concepts.follow(cuis)
            for path in params.held_out
            for cuis in read_cuis(path, params.held_out_cui_column)
        )
    )


def _graded(path: Path | None) -> pd.DataFrame:
    pairs: Iterable[SentencePair] = [] if path is None else read_t1(path)
    rows = [(pair.source, pair.target, pair.grade) for pair in pairs if pair.grade is not None]
    return pd.DataFrame(rows, columns=["left", "right", "grade"]).astype({"grade": "float64"})
