"""Concepts on disk: which concepts each string names, and what is shown of a concept.

A string may name several concepts and a concept has several strings. A string is stored once, whatever the
number of its atoms, and its row is also the row of its vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from deft.errors import InputError
from deft.terminology.rrf import (
    AtomFilter,
    read_atoms,
    read_definitions,
    read_retired,
    read_semantic_types,
)
from deft.text import clean

FILES = ("strings.parquet", "atoms.parquet", "concepts.parquet", "retired.parquet")

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
    retired
        Columns `cui` and `target`: CUIs of earlier releases, and the concept of this one that each became (a
        synonym: relation SY of MRCUI); sorted.
    """

    strings: pd.DataFrame
    atoms: pd.DataFrame
    concepts: pd.DataFrame
    retired: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame({"cui": [], "target": []}, dtype="str")
    )

    @classmethod
    def read_umls(cls, folder: Path, keep: AtomFilter, *, progress: bool = False) -> Concepts:
        """Read the RRF files of a Metathesaurus.

        Raises
        ------
        InputError
            A file is missing or malformed, or nothing passes the filter.
        """
        atoms = read_atoms(folder, keep, progress=progress)
        tables = cls.build(
            atoms, read_semantic_types(folder), read_definitions(folder), languages=keep.languages
        )
        return replace(tables, retired=_followed(read_retired(folder)))

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
        for name, table in zip(FILES, (self.strings, self.atoms, self.concepts, self.retired), strict=True):
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
    def source_counts(self) -> np.ndarray:
        """Number of sources that have each concept, of shape (concepts,)."""
        pairs = self.atoms[["concept", "source"]].drop_duplicates()
        return np.bincount(pairs["concept"].to_numpy(), minlength=len(self.concepts))

    def row_of(self, cui: str) -> int | None:
        """Return the row of a concept, None if it is not there."""
        return self._rows.get(cui)

    def current(self, cui: str) -> tuple[str, ...]:
        """Return the CUIs that a retired one became, or the CUI itself."""
        return self._targets.get(cui, (cui,)) if self.row_of(cui) is None else (cui,)

    def follow(self, cuis: Iterable[str]) -> frozenset[str]:
        """Return CUIs with the retired ones replaced by what they became."""
        return frozenset(target for cui in cuis for target in self.current(cui))

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {cui: row for row, cui in enumerate(self.concepts["cui"])}

    @cached_property
    def _targets(self) -> dict[str, tuple[str, ...]]:
        return {str(cui): tuple(rows) for cui, rows in self.retired.groupby("cui")["target"]}

    @cached_property
    def cuis(self) -> frozenset[str]:
        """Every CUI that has a string."""
        return frozenset(self.concepts["cui"])


def _followed(retired: pd.DataFrame) -> pd.DataFrame:
    """Return what retired CUIs became, through any number of releases.

    Only synonymy (SY) is followed: broader, narrower and related concepts (RB, RN, RO) are other concepts.
    """
    same = retired[(retired["relation"] == "SY") & (retired["target"] != "")]
    following: dict[str, set[str]] = {}
    for cui, target in zip(same["cui"], same["target"], strict=True):
        following.setdefault(cui, set()).add(target)
    rows = []
    for cui in sorted(following):
        reached, open_ = set[str](), [cui]
        while open_:
            for target in following.get(open_.pop(), set()) - reached:
                reached.add(target)
                open_.append(target)
        rows += [(cui, target) for target in sorted(reached - {cui}) if target not in following]
    return pd.DataFrame(rows, columns=["cui", "target"], dtype="str")


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
