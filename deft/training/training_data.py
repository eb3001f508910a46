"""What fine-tuning learns from: the prepared pairs, which concepts their texts name, and hard negatives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
from pyarrow import ArrowException

from deft.errors import InputError
from deft.files import read_json
from deft.text import normalize
from deft.training.origin import SOURCES

Embed = Callable[[Sequence[str]], np.ndarray]

_SYNONYMS = ("cui", "left", "right")
_GRADED = ("left", "right", "grade")
_SEARCHED_AT_ONCE = 4096


class TrainingConcepts:
    """The concepts that a text is a name of.

    Two strings that are the same term (`deft.text.normalize`) name the same concepts, so that a variant in
    case or punctuation that stands under one concept only is not taken for a name of another.
    """

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        """Read (string, CUI) rows."""
        cuis: defaultdict[str, set[str]] = defaultdict(set)
        for text, cui in names:
            cuis[same_term(text)].add(cui)
        self._cuis = {text: frozenset(found) for text, found in cuis.items()}

    def of(self, text: str) -> frozenset[str]:
        """Return the CUIs of the concepts that `text` names; empty if it names none."""
        return self._cuis.get(same_term(text), frozenset())


def same_term(text: str) -> str:
    """Return a key that is equal for strings that are the same term, and never empty."""
    return normalize(text) or text


@dataclass(frozen=True)
class TrainingData:
    """The content of a prepared folder.

    Attributes
    ----------
    synonyms, synonyms_dev
        Columns ``cui``, ``left``, ``right``: two names of one concept.
    graded, graded_dev
        Columns ``left``, ``right``, ``grade`` (0 to 5); empty where there is no graded data.
    strings
        The distinct strings of the index.
    concepts
        The concepts that these strings name.
    sources
        What the pairs were made of, a line a source.
    """

    synonyms: pd.DataFrame
    synonyms_dev: pd.DataFrame
    graded: pd.DataFrame
    graded_dev: pd.DataFrame
    strings: list[str]
    concepts: TrainingConcepts
    sources: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> TrainingData:
        """Read a folder written by the stage `prepare`.

        Raises
        ------
        InputError
            A file is missing (the graded ones and the list of sources may be), is not Parquet or lacks a
            column; or there is nothing to learn from.
        """
        folder = Path(folder)
        atoms = _read(folder / "atoms.parquet", ("string", "cui"))
        named = folder / SOURCES
        data = cls(
            synonyms=_read(folder / "synonyms_train.parquet", _SYNONYMS),
            synonyms_dev=_read(folder / "synonyms_dev.parquet", _SYNONYMS),
            graded=_read(folder / "graded_train.parquet", _GRADED, optional=True),
            graded_dev=_read(folder / "graded_dev.parquet", _GRADED, optional=True),
            strings=_read(folder / "strings.parquet", ("string",))["string"].tolist(),
            concepts=TrainingConcepts(zip(atoms["string"], atoms["cui"], strict=True)),
            sources=tuple(map(str, read_json(named))) if named.exists() else ("pairs of unnamed sources",),
        )
        if data.synonyms.empty and data.graded.empty:
            raise InputError("holds no training pair.", path=folder, remedy="Widen the filters of `prepare`.")
        if data.synonyms_dev.empty and data.graded_dev.empty:
            raise InputError(
                "holds no pair to watch training on.", path=folder, remedy="Raise prepare.dev_fraction."
            )
        return data


def mine_negatives(
    pairs: pd.DataFrame, pool: Sequence[str], concepts: TrainingConcepts, embed: Embed, count: int
) -> list[tuple[str, ...]]:
    """Find, for each pair, the strings nearest to its left text that name none of that text's concepts.

    Parameters
    ----------
    pairs
        Columns ``cui``, ``left``, ``right``.
    pool
        The strings to choose from.
    concepts
        The concepts of all these strings.
    embed
        Gives float32 vectors of unit norm, of shape (n, dimension).
    count
        Negatives for each pair. A pool that holds fewer for a pair gives them several times.

    Returns
    -------
    list of tuple of str
        One tuple of `count` strings for each row of `pairs`.

    Raises
    ------
    InputError
        Every string of the pool names a concept of the pair.
    """
    anchors = pairs["left"].tolist()
    own = [concepts.of(left) | {cui} for left, cui in zip(anchors, pairs["cui"], strict=True)]
    pool_concepts = [concepts.of(text) for text in pool]
    place = {text: row for row, text in enumerate(dict.fromkeys(anchors))}
    queries = embed(list(place))
    index = faiss.IndexFlatIP(queries.shape[1])
    index.add(embed(pool))

    found: dict[int, list[str]] = {}
    pending, depth = list(range(len(anchors))), min(len(pool), 32 + 8 * count)
    while pending:
        for start in range(0, len(pending), _SEARCHED_AT_ONCE):
            rows = pending[start : start + _SEARCHED_AT_ONCE]
            _, neighbours = index.search(queries[[place[anchors[row]] for row in rows]], depth)
            for row, ranking in zip(rows, neighbours.tolist(), strict=True):
                foreign = (pool[i] for i in ranking if own[row].isdisjoint(pool_concepts[i]))
                found[row] = list(islice(foreign, count))
        if depth == len(pool):
            break
        # A concept with very many names can fill the first neighbours: look deeper for those rows only.
        pending = [row for row in pending if len(found[row]) < count]
        depth = min(len(pool), depth * 8)
    return [_repeated(found[row], count, anchors[row]) for row in range(len(anchors))]


def _repeated(found: list[str], count: int, anchor: str) -> tuple[str, ...]:
    if not found:
        raise InputError(
            f"no string outside the concepts of {anchor!r} can serve as a hard negative.",
            field="finetune.hard_negatives",
            remedy="Set it to 0, or prepare more concepts.",
        )
    return tuple(islice(cycle(found), count))


def _read(path: Path, columns: tuple[str, ...], *, optional: bool = False) -> pd.DataFrame:
    if optional and not path.exists():
        return pd.DataFrame(
            {column: pd.Series(dtype=float if column == "grade" else str) for column in columns}
        )
    try:
        table = pd.read_parquet(path)
    except OSError as error:
        raise InputError(
            f"cannot be read: {error.strerror or error}.", path=path, remedy="Run the stage `prepare`."
        ) from error
    except (ArrowException, ValueError) as error:
        raise InputError(
            f"is not valid Parquet ({error}).", path=path, remedy="Run the stage `prepare` again."
        ) from error
    for column in columns:
        if column not in table.columns:
            raise InputError(
                "missing column.", path=path, field=column, remedy="Run the stage `prepare` again."
            )
    return table[list(columns)]
