"""Which atoms may answer a query."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from deft.errors import InputError
from deft.terminology.concepts import Concepts
from deft.terminology.semantic_groups import types_of


@dataclass(frozen=True, slots=True)
class ConceptFilter:
    """What an answer must be; an empty field asks for nothing.

    Attributes
    ----------
    languages, sources
        LAT and SAB of the atoms that may match.
    semantic_types, semantic_groups
        TUIs and names of semantic groups; a concept passes if one of its types is in their union.
    exclude
        CUIs that are treated as absent.
    """

    languages: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    semantic_types: tuple[str, ...] = ()
    semantic_groups: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()

    def atoms(self, concepts: Concepts) -> np.ndarray | None:
        """Return which atoms pass, of shape (atoms,), or None if all do.

        Raises
        ------
        InputError
            A language, source, type or group is not in the index, or nothing passes.
        """
        if self == ConceptFilter():
            return None
        mask: np.ndarray = self._concepts(concepts)[concepts.numbers("atoms", "concept")]
        for column, values in (("language", self.languages), ("source", self.sources)):
            if values:
                labels = concepts.labels("atoms", column)
                _check_known(column, values, set(labels.values))
                mask &= labels.isin(values)
        if not mask.any():
            raise InputError("no atom of the index passes the filters.", remedy="Ask for less.")
        return mask

    def _concepts(self, concepts: Concepts) -> np.ndarray:
        mask = np.ones(concepts.rows["concepts"], dtype=bool)
        if self.semantic_types or self.semantic_groups:
            listed = concepts.labels("concepts", "semantic_types").values
            known = {tui for types in listed for tui in types.split(";")}
            _check_known("semantic type", self.semantic_types, known)
            mask = _having({*self.semantic_types, *types_of(self.semantic_groups)}, concepts)
        if self.exclude:
            rows = [row for cui in self.exclude if (row := concepts.row_of(cui)) is not None]
            mask[rows] = False
        return mask


def atoms_of_group(group: str, concepts: Concepts) -> np.ndarray:
    """Return which atoms are of concepts of a semantic group, of shape (atoms,); none may be.

    Raises
    ------
    InputError
        The group does not exist.
    """
    mask: np.ndarray = _having(types_of((group,)), concepts)[concepts.numbers("atoms", "concept")]
    return mask


def strings_of(atoms: np.ndarray | None, concepts: Concepts) -> np.ndarray | None:
    """Return which strings have an atom that passes, of shape (strings,), or None if all do."""
    if atoms is None:
        return None
    strings = np.zeros(concepts.rows["strings"], dtype=bool)
    strings[concepts.numbers("atoms", "string")[atoms]] = True
    return strings


def _having(types: Collection[str], concepts: Concepts) -> np.ndarray:
    """Return which concepts have one of the semantic types."""
    labels = concepts.labels("concepts", "semantic_types")
    return labels.isin(own for own in labels.values if not set(types).isdisjoint(own.split(";")))


def _check_known(what: str, values: tuple[str, ...], known: set[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        listed = ", ".join(sorted(value for value in known if value)[:30])  # concepts may have no type
        raise InputError(f"the index has no {what} {', '.join(unknown)}.", remedy=f"It has {listed}.")
