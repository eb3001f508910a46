"""The concepts that a query may mean, and what speaks for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from deft.text import fold, joined, normalize

if TYPE_CHECKING:
    from deft.terminology.concepts import Concepts

FEATURES = (
    "cosine",  # of the nearest string
    "cosine_gap",  # to the nearest string of any concept, 0 or less
    "lexical",  # similarity of the most similar string
    "lexical_gap",
    "exact",  # a string is the query
    "same",  # a string is the same term, with or without its hyphens
    "overlap",  # Dice coefficient of the words of query and string
    "coverage",  # share of the query's words that the string has
    "explained",  # share of the query's trigrams, by their weight, that the string has
    "hedged",  # minus the number of ways in which the query, and not the string, holds off what it names
    "context",  # cosine of the string that is nearest to what stands beside the query; 0 if nothing does
    "context_gap",
    "kind",  # logarithm of the probability that the query names a thing of its semantic groups
    "name",  # Dice coefficient of the words of query and preferred name
    "french",  # the string that speaks most for the concept is French
    "preferred",  # and a preferred name
    "agreement",  # logarithm of the number of atoms near the best cosine
    "sources",  # logarithm of the number of sources that have the concept
    "names",  # logarithm of the number of its atoms
    "age",  # minus the logarithm of the number of its CUI: concepts that came early are the common ones
    "mesh",  # it is in the Medical Subject Headings, and so is one that texts are indexed by
)
NO_MATCH_FEATURES = ("constant", "cosine", "lexical", "same", "overlap")
"""What speaks for a query having no concept in the index: the best that any concept reaches."""

VARIANT_TRUST = 0.97
"""What a variant of a query counts for, beside 1 for the query itself: a rule may be wrong."""

_HEDGES = {
    "denied": r"pas|absence d|absence de|sans|aucune?s?|jamais|nie|ni|non|exclu\w*|elimin\w+|negati\w+"
    r"|indemne|ø",
    "past": r"antecedents?|atcd|anciens?|anciennes?|gueri\w*|opere\w*|traite\w*|status post|enfance",
    "doubted": r"suspicion|suspect\w*|susp|possibles?|probables?|eventuel\w*|hypothese|doute",
    "watched for": r"depist\w+|prevent\w+|prevenir|evite\w*|prophyla\w+|vaccin\w*|surveillance|bilan"
    r"|controle|suivi|recherche|risques?|crainte|traitement|education|conseils?",
    "of others": r"famil\w+|pere|mere|fils|filles?|freres?|soeurs?|fratrie|oncle|tante|cousine?|conjoint\w*"
    r"|parents?|contage",
    "measured": r"\d[\d .,]{0,12} ?(?:[kmμu]?g|[mcdμ]?l|[mμu]?mol|m?eq|m?ui|u|mmhg|kg|[cm]m|%|g/l|μm|[np]g|fl"
    r"|ml/min)",
}
"""How a term says that somebody does not have what it names, or how much of it, as a folded term says it."""

_NEAR = 0.1  # strings this much below the best cosine agree with it
_HELD_OFF = {way: re.compile(rf"(?<!\w)(?:{words})(?!\w)") for way, words in _HEDGES.items()}
_LONGEST_ABBREVIATION = 5
_WORD = re.compile(r"\w+")
_LEAST_STEM = 4
_FIRST_CUIS = 0.02  # millions: the first twenty thousand count as equally old


@dataclass(frozen=True)
class Evidence:
    """Strings of the index that are near a query in one way or another.

    Attributes
    ----------
    rows
        Rows of the strings, of shape (n,).
    cosine, lexical, explained
        The similarities of each to the query, and the share of the query that it has, the best over the
        query's variants, of shape (n,).
    kind
        Logarithm of the probability of each set of semantic types, in the order of their labels; None if
        nothing is known of it.
    context
        The cosine of each to what stands beside the query; None if nothing does.
    """

    rows: np.ndarray
    cosine: np.ndarray
    lexical: np.ndarray
    explained: np.ndarray
    kind: np.ndarray | None = None
    context: np.ndarray | None = None


@dataclass(frozen=True)
class Pool:
    """Concepts a row each.

    Attributes
    ----------
    concept, atom
        Rows in the tables of the index: the concept, and its atom that speaks most for it, of shape (n,).
    features
        float64 of shape (n, features), columns as in `FEATURES`.
    length
        Number of characters of the query.
    capitals
        Whether the query is an abbreviation in capitals.
    """

    concept: np.ndarray
    atom: np.ndarray
    features: np.ndarray
    length: int = 0
    capitals: bool = False

    @property
    def alone(self) -> Pool:
        """The pool as it is without what stands beside the query."""
        features = self.features.copy()
        features[:, [FEATURES.index(name) for name in ("context", "context_gap")]] = 0.0
        return replace(self, features=features)

    def __len__(self) -> int:
        """Return the number of concepts."""
        return len(self.concept)

    def column(self, name: str) -> np.ndarray:
        """Return a feature of every concept."""
        return np.asarray(self.features[:, FEATURES.index(name)])

    @cached_property
    def no_match(self) -> np.ndarray:
        """Features of the answer "none of these", columns as in `NO_MATCH_FEATURES`."""
        if not len(self):
            return np.array([1.0, *[0.0] * (len(NO_MATCH_FEATURES) - 1)])
        return np.array([1.0, *(self.column(name).max() for name in NO_MATCH_FEATURES[1:])])


class PoolMaker:
    """Gather the concepts of strings and describe them.

    Parameters
    ----------
    concepts
        Tables of the index.
    """

    def __init__(self, concepts: Concepts) -> None:
        self._concepts = concepts
        self._strings = concepts.texts("strings", "string")
        self._name = concepts.texts("concepts", "name")
        self._concept = concepts.numbers("atoms", "concept")
        self._preferred = concepts.numbers("atoms", "preferred")
        self._language = concepts.labels("atoms", "language")
        self._names = concepts.numbers("concepts", "atoms")
        self._sources = concepts.numbers("concepts", "sources")
        self._number = concepts.numbers("concepts", "cui")
        self._mesh = concepts.numbers("concepts", "mesh")
        self._types = concepts.labels("concepts", "semantic_types")

    def make(
        self, texts: Sequence[str], evidence: Evidence, allowed: np.ndarray | None, order: str = "both"
    ) -> Pool:
        """Describe every concept of the strings in `evidence`.

        Parameters
        ----------
        texts
            The query and its variants.
        evidence
            What was found.
        allowed
            Atoms that may answer, of shape (atoms,); all if None.
        order
            Which similarity chooses the atom of a concept: `cosine`, `lexical` or `both`.
        """
        atoms, place = self._atoms(evidence.rows, allowed)
        words = self._words(texts, evidence.rows)
        strength = {
            "cosine": evidence.cosine,
            "lexical": evidence.lexical,
            "both": words["same"] + evidence.cosine + evidence.lexical,
        }[order]
        concept = self._concept[atoms]
        ranking = np.lexsort((atoms, -np.round(strength[place], 6), concept))
        atoms, place, concept = atoms[ranking], place[ranking], concept[ranking]
        first = np.flatnonzero(np.r_[True, concept[1:] != concept[:-1]]) if len(concept) else ranking
        best = {
            name: np.maximum.reduceat(values[place], first) if len(first) else np.zeros(0)
            for name, values in {
                **words,
                "cosine": evidence.cosine,
                "lexical": evidence.lexical,
                "explained": evidence.explained,
                "context": np.zeros(len(evidence.rows)) if evidence.context is None else evidence.context,
            }.items()
        }
        if (named := best["same"] == 1).any():  # what stands beside a name does not lead away from it
            most = np.where(named, np.inf, best["context"][named].max())
            best["context"] = np.minimum(best["context"], most)
        near = evidence.cosine >= evidence.cosine.max(initial=-1.0) - _NEAR
        agreement = np.add.reduceat(near[place].astype(float), first) if len(first) else np.zeros(0)
        columns = {
            **best,
            "cosine_gap": best["cosine"] - best["cosine"].max(initial=-1.0),
            "lexical_gap": best["lexical"] - best["lexical"].max(initial=0.0),
            "context_gap": best["context"] - best["context"].max(initial=-1.0),
            "hedged": words["hedged"][place[first]],
            "kind": self._kind(evidence.kind, concept[first]),
            "name": self._name_overlap(texts, concept[first]),
            "french": [self._language.at(atom) == "FRE" for atom in atoms[first]],
            "preferred": self._preferred[atoms[first]],
            "agreement": np.log1p(agreement),
            "sources": np.log(self._sources[concept[first]]),
            "names": np.log(self._names[concept[first]]),
            "age": -np.log(self._number[concept[first]] / 1e6 + _FIRST_CUIS),
            "mesh": self._mesh[concept[first]],
        }
        features = np.stack([np.asarray(columns[name], dtype=np.float64) for name in FEATURES], axis=1)
        capitals = len(texts[0]) <= _LONGEST_ABBREVIATION and texts[0].isupper()
        return Pool(concept[first], atoms[first], features, len(texts[0]), capitals)

    def _kind(self, kind: np.ndarray | None, concepts: np.ndarray) -> np.ndarray:
        return np.zeros(len(concepts)) if kind is None else kind[self._types.codes[concepts]]

    def _atoms(self, rows: np.ndarray, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Return the atoms of strings, and the place in `rows` of each."""
        starts, counts = self._concepts.atoms_of(rows)
        place = np.repeat(np.arange(len(rows)), counts)
        atoms = np.arange(len(place)) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        if allowed is None:
            return atoms, place
        kept = allowed[atoms]
        return atoms[kept], place[kept]

    def _words(self, texts: Sequence[str], rows: np.ndarray) -> dict[str, np.ndarray]:
        """Compare the words of the query and its variants with those of each string, the best over them."""
        names = ("exact", "same", "overlap", "coverage", "hedged")
        keys = [normalize(text) for text in texts]
        trusts = [1.0, *[VARIANT_TRUST] * (len(texts) - 1)]
        queries = list(zip(texts, map(joined, keys), map(_stems, keys), trusts, strict=True))
        held_off = hedges(texts[0])
        values = []
        for string in map(self._strings.at, rows):
            key = normalize(string)
            hedged = -float(len(held_off - hedges(string))) if held_off else 0.0
            own, key = _stems(key), joined(key)
            best = (0.0,) * (len(names) - 1)
            for text, other, words, trust in queries:
                common = trust * len(own & words)
                seen = (
                    trust * (string == text),
                    trust * (key == other),
                    2 * common / max(1, len(own) + len(words)),
                    common / max(1, len(words)),
                )
                best = tuple(map(max, best, seen))
            values.append((*best, hedged))
        columns = np.array(values, dtype=np.float64).reshape(-1, len(names)).T
        return dict(zip(names, columns, strict=True))

    def _name_overlap(self, texts: Sequence[str], concepts: np.ndarray) -> np.ndarray:
        """Compare the words of the query and its variants with the preferred name, the best over them."""
        stems = [_stems(normalize(text)) for text in texts]
        names = [_stems(normalize(name)) for name in map(self._name.at, concepts)]
        return np.array([max(_dice(own, words) for words in stems) for own in names], dtype=np.float64)


def hedges(text: str) -> frozenset[str]:
    """Return how a term holds off what it names."""
    folded = fold(text)
    ways = {way for way, words in _HELD_OFF.items() if words.search(folded)}
    return frozenset(ways | {"doubted"} if "?" in text else ways)


def _dice(one: frozenset[str], other: frozenset[str]) -> float:
    return 2 * len(one & other) / max(1, len(one) + len(other))


def _stems(key: str) -> frozenset[str]:
    """Return the words of a normalised string, without the ending of a plural."""
    words = _WORD.findall(key)
    return frozenset(word.rstrip("sx") if len(word) > _LEAST_STEM else word for word in words)
