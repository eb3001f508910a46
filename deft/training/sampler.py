"""Batches for in-batch contrast, in which no text is a false negative."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Sequence

import torch
from sentence_transformers.base.sampler import DefaultBatchSampler


class ConceptBatchSampler(DefaultBatchSampler):  # type: ignore[misc]
    """Shuffled batches in which no text is another row's false negative.

    Every other positive and every hard negative of a batch serves an anchor as a negative. Two rows that
    share a concept, or of which one has a name of the other's concept as its hard negative, are therefore
    never in one batch. A row that finds no place waits for the next batch. The number of batches is the
    smallest that such batches could need; rows still waiting then sit this epoch out.
    """

    def __init__(
        self, own: Sequence[frozenset[str]], negative: Sequence[frozenset[str]], batch_size: int, *, seed: int
    ) -> None:
        super().__init__(range(len(own)), batch_size=batch_size, drop_last=False, seed=seed)
        self._own = own
        self._negative = negative
        most_frequent = max(Counter(cui for cuis in own for cui in cuis).values(), default=0)
        self._length = max(math.ceil(len(own) / batch_size), most_frequent)

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._length

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the rows of each batch of the epoch set last."""
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        waiting = deque(torch.randperm(len(self._own), generator=generator).tolist())
        for _ in range(self._length):
            yield self._next(waiting)

    def _next(self, waiting: deque[int]) -> list[int]:
        """Take the next batch from `waiting`; what does not fit stays there, first in line."""
        batch: list[int] = []
        late: list[int] = []
        own: set[str] = set()
        negative: set[str] = set()
        while waiting and len(batch) < self.batch_size:
            row = waiting.popleft()
            if own.isdisjoint(self._own[row] | self._negative[row]) and negative.isdisjoint(self._own[row]):
                batch.append(row)
                own |= self._own[row]
                negative |= self._negative[row]
            else:
                late.append(row)
        waiting.extendleft(reversed(late))
        return batch
