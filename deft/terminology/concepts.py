"""Concepts on disk: which concepts each string names, and what is shown of a concept.

A string may name several concepts and a concept has several strings. A string is stored once, whatever the
number of its atoms, and its row is also the row of its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from deft.errors import InputError
from deft.terminology.rrf import AtomFilter, read_atoms, read_definitions, read_semantic_types
from deft.text import clean

FILES = ("strings.parquet", "atoms.parquet", "concepts.parquet")

_OTHER_LANGUAGE = 99


@dataclass(frozen=True)
class Concepts:
    """The strings, atoms and concepts of a terminology.

    Attributes
    ----------
    strings
        Column `string`: the distinct strings.
    atoms
        Columns `string` (row in `strings`), `concept` (row in `concepts`), `language`, `source`, `term_type`,
        `preferred`, `code`; sorted by string, and for one string the atoms that tell most about it first.
    concepts
        Columns `cui`, `name`, `semantic_types` (TUIs, separated by ``;``), `definition` ("" where there is
        none); sorted by CUI.
    """

    strings: pd.DataFrame
    atoms: pd.DataFrame
    concepts: pd.DataFrame

    @classmethod
    def read_umls(cls, folder: Path, keep: AtomFilter, *, progress: bool = False) -> Concepts:
        """Read the RRF files of a Metathesaurus.

        Raises
        ------
        InputError
            A file is missing or malformed, or nothing passes the filter.
        """
        atoms = read_atoms(folder, keep, progress=progress)
        return cls.build(
            atoms, read_semantic_types(folder), read_definitions(folder), languages=keep.languages
        )

    @classmethod
    def build(
        cls,
        atoms: pd.DataFrame,
        types: pd.DataFrame,
        definitions: pd.DataFrame,
        *,
        languages: Sequence[str] = (),
    ) -> Concepts:
        """Build the tables from those of `deft.terminology.rrf`.

        A concept is shown by its preferred name in the first of `languages` that it has a name in (French,
        then English, if none is given).

        Raises
        ------
        InputError
            No string is left once control and invisible characters are taken out.
        """
        order = {language: place for place, language in enumerate(languages or ("FRE", "ENG"))}
        rank = atoms["language"].map(order).fillna(_OTHER_LANGUAGE)
        atoms = atoms.assign(string=atoms["string"].map(clean), rank=rank)
        atoms = atoms[atoms["string"] != ""]
        if atoms.empty:
            raise InputError("no atom has a string that can be read.", remedy="Is MRCONSO.RRF whole?")
        string_codes, strings = pd.factorize(atoms["string"])
        concepts = _shown(atoms, types, definitions)
        row_of = pd.Series(concepts.index, index=concepts["cui"])
        atoms = atoms.assign(string=string_codes, concept=atoms["cui"].map(row_of))
        atoms = atoms.sort_values(
            ["string", "preferred", "rank", "concept", "source"],
            ascending=[True, False, True, True, True],
            kind="stable",
        )
        columns = ["string", "concept", "language", "source", "term_type", "preferred", "code"]
        return cls(pd.DataFrame({"string": strings}), atoms[columns].reset_index(drop=True), concepts)

    def save(self, folder: Path) -> None:
        """Write the tables into a folder that exists."""
        for name, table in zip(FILES, (self.strings, self.atoms, self.concepts), strict=True):
            table.to_parquet(folder / name, compression="zstd", index=False)

    @classmethod
    def open(cls, folder: Path) -> Concepts:
        """Read the tables that `save` wrote.

        Raises
        ------
        InputError
            A table is missing or is no Parquet file.
        """
        tables = []
        for name in FILES:
            try:
                tables.append(pd.read_parquet(folder / name))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"cannot be read ({error}).", path=folder / name, remedy="Build the index again."
                ) from error
        return cls(*tables)

    @cached_property
    def first_atom(self) -> np.ndarray:
        """Row of the first atom of each string, and the number of atoms at the end: shape (strings + 1,)."""
        return np.searchsorted(self.atoms["string"].to_numpy(), np.arange(len(self.strings) + 1))

    @cached_property
    def cuis(self) -> frozenset[str]:
        """Every CUI that has a string."""
        return frozenset(self.concepts["cui"])


def _shown(atoms: pd.DataFrame, types: pd.DataFrame, definitions: pd.DataFrame) -> pd.DataFrame:
    """Return what is shown of each concept: name, semantic types and definition."""
    names = atoms.sort_values(["cui", "rank", "preferred"], ascending=[True, True, False], kind="stable")
    names = names.drop_duplicates("cui")[["cui", "string"]]
    concepts = names.rename(columns={"string": "name"}).reset_index(drop=True)
    own = types[types["cui"].isin(concepts["cui"])]
    tuis = own.groupby("cui")["tui"].agg(lambda column: ";".join(sorted(set(column)))).to_dict()
    texts = definitions.drop_duplicates("cui").set_index("cui")["definition"].to_dict()
    return concepts.assign(
        semantic_types=[tuis.get(cui, "") for cui in concepts["cui"]],
        definition=[texts.get(cui, "") for cui in concepts["cui"]],
    )
