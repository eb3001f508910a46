"""Character n-grams: what an encoder has to beat, computed in the same run and scored alike."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer

from deft.errors import InputError
from deft.text import normalize

_NGRAMS = (2, 4)
_CELLS = 40_000_000  # similarities that are held at a time


@dataclass(frozen=True)
class NgramBaseline:
    """Concepts ranked by the TF-IDF cosine of character n-grams between the query and their closest string.

    The search is exact. Strings are compared in their normalised form, n-grams do not cross words.
    """

    cuis: tuple[str, ...]
    _vectorizer: Any
    _matrix: Any  # one sparse row a string
    _columns: NDArray[np.intp]  # strings, grouped by the concept that carries them
    _starts: NDArray[np.intp]  # where the group of each concept starts

    @classmethod
    def fit(
        cls,
        strings: Sequence[str],
        cuis: Sequence[Collection[str]],
        *,
        ngrams: tuple[int, int] = _NGRAMS,
    ) -> NgramBaseline:
        """Index strings.

        Parameters
        ----------
        strings
            The strings of the index.
        cuis
            The concepts that carry each string.
        ngrams
            Shortest and longest n-gram, in characters.

        Raises
        ------
        InputError
            There is no string that holds a letter or digit.
        """
        vectorizer = TfidfVectorizer(
            analyzer="char_wb", ngram_range=ngrams, dtype=np.float32, preprocessor=normalize
        )
        try:
            matrix = vectorizer.fit_transform(strings).T.tocsr()
        except ValueError as error:  # scikit-learn's word for an empty vocabulary
            raise InputError("no string to compare with: all of them are empty once normalised.") from error
        carried = sorted((cui, column) for column, owners in enumerate(cuis) for cui in owners)
        names, starts = np.unique([cui for cui, _ in carried], return_index=True)
        columns = np.array([column for _, column in carried], dtype=np.intp)
        return cls(tuple(names.tolist()), vectorizer, matrix, columns, starts)

    def rank(self, queries: Sequence[str], k: int = 64) -> list[tuple[str, ...]]:
        """Return the `k` closest concepts of each query, best first, equals by CUI.

        A concept that shares no n-gram with the query is no candidate, so a list may be shorter than `k`.
        """
        return [self._best(row, k) for row in self._similarities(queries)]

    def _similarities(self, queries: Sequence[str]) -> Iterator[NDArray[np.float32]]:
        """Yield, for each query, its cosine to the closest string of every concept."""
        batch = max(1, _CELLS // max(len(self._columns), 1))
        for start in range(0, len(queries), batch):
            vectors = self._vectorizer.transform(queries[start : start + batch])
            by_string = (vectors @ self._matrix).toarray()
            yield from np.maximum.reduceat(by_string[:, self._columns], self._starts, axis=1)

    def _best(self, similarities: NDArray[np.float32], k: int) -> tuple[str, ...]:
        k = min(k, len(similarities))
        smallest = np.partition(similarities, -k)[-k]
        candidates = np.flatnonzero((similarities >= smallest) & (similarities > 0))
        order = np.argsort(-similarities[candidates], kind="stable")[:k]
        return tuple(self.cuis[position] for position in candidates[order])


@dataclass(frozen=True)
class NgramEncoder:
    """Vectors of hashed character n-grams, weighted by TF-IDF: a baseline that encodes like an encoder."""

    _hasher: Any
    _weights: Any

    @classmethod
    def fit(
        cls, texts: Sequence[str], *, ngrams: tuple[int, int] = _NGRAMS, dimension: int = 16_384
    ) -> NgramEncoder:
        """Count on `texts` how rare each n-gram is."""
        hasher = HashingVectorizer(
            analyzer="char_wb",
            ngram_range=ngrams,
            n_features=dimension,
            alternate_sign=False,
            norm=None,
            dtype=np.float32,
            preprocessor=normalize,
        )
        return cls(hasher, TfidfTransformer().fit(hasher.transform(texts)))

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one row of unit norm for each text, zeros for a text without letters or digits."""
        rows: NDArray[np.float32] = self._weights.transform(self._hasher.transform(texts)).toarray()
        return rows
