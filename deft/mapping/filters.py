"""Which atoms may answer a query."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from deft.errors import InputError
from deft.terminology.semantic_groups import types_of

if TYPE_CHECKING:
    from deft.terminology.concepts import Concepts


@dataclass(frozen=True, slots=True, init=False)
class ConceptFilter:
    """What an answer must be; an empty field asks for nothing.

    Each field is made of any iterable of strings.

    Attributes
    ----------
    languages, sources
        LAT and SAB of the atoms that may match.
    without_sources
        SAB of atoms that are treated as absent.
    semantic_types, semantic_groups
        TUIs and names of semantic groups; a concept passes if one of its types is in their union.
    exclude
        CUIs that are treated as absent.

    Raises
    ------
    InputError
        A field is one string, or one of its values is no string.
    """

    languages: tuple[str, ...]
    sources: tuple[str, ...]
    semantic_types: tuple[str, ...]
    semantic_groups: tuple[str, ...]
    exclude: frozenset[str]
    without_sources: tuple[str, ...]

    def __init__(
        self,
        languages: Iterable[str] = (),
        sources: Iterable[str] = (),
        semantic_types: Iterable[str] = (),
        semantic_groups: Iterable[str] = (),
        exclude: Iterable[str] = (),
        without_sources: Iterable[str] = (),
    ) -> None:
        tuples = {
            "languages": languages,
            "sources": sources,
            "semantic_types": semantic_types,
            "semantic_groups": semantic_groups,
            "without_sources": without_sources,
        }
        for field, values in tuples.items():
            object.__setattr__(self, field, _several(field, values))
        object.__setattr__(self, "exclude", frozenset(_several("exclude", exclude)))

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
        if self.without_sources:  # an index that lacks one has nothing to leave out
            mask &= ~concepts.labels("atoms", "source").isin(self.without_sources)
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


def _several(field: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return values in their order; those of a set, which has none, sorted."""
    if isinstance(values, str):
        raise InputError(
            f"one string was given where a list is expected: {values!r}.",
            field=field,
            remedy="Put it in a list.",
        )
    given = tuple(values)
    for value in given:
        if not isinstance(value, str):
            raise InputError(f"{value!r} is no string.", field=field)
    return tuple(sorted(given)) if isinstance(values, set | frozenset) else given


def _having(types: Collection[str], concepts: Concepts) -> np.ndarray:
    """Return which concepts have one of the semantic types."""
    labels = concepts.labels("concepts", "semantic_types")
    return labels.isin(own for own in labels.values if not set(types).isdisjoint(own.split(";")))


def _check_known(what: str, values: tuple[str, ...], known: set[str]) -> None:
    unknown = [value for value in values if value not in known]
    if unknown:
        listed = ", ".join(sorted(value for value in known if value)[:30])  # concepts may have no type
        raise InputError(f"the index has no {what} {', '.join(unknown)}.", remedy=f"It has {listed}.")
