from __future__ import annotations

import pytest

pytest.importorskip("sentence_transformers")

from hypothesis import given
from hypothesis import strategies as st

from deft.training.sampler import ConceptBatchSampler

CUIS = st.sampled_from([f"C{i}" for i in range(12)])
ROWS = st.lists(
    st.tuples(st.frozensets(CUIS, min_size=1, max_size=3), st.frozensets(CUIS, max_size=3)), max_size=40
).map(lambda rows: [(own, negative - own) for own, negative in rows])


def sampler(
    rows: list[tuple[frozenset[str], frozenset[str]]], size: int = 4, seed: int = 1
) -> ConceptBatchSampler:
    return ConceptBatchSampler([own for own, _ in rows], [negative for _, negative in rows], size, seed=seed)


@given(ROWS, st.integers(2, 8))
def test_no_batch_holds_a_false_negative(
    rows: list[tuple[frozenset[str], frozenset[str]]], size: int
) -> None:
    batches = list(sampler(rows, size))
    assert len(batches) == len(sampler(rows, size))
    used = [row for batch in batches for row in batch]
    assert len(used) == len(set(used))
    for batch in batches:
        assert 0 < len(batch) <= size
        for row in batch:
            for other in batch:
                if other != row:
                    assert rows[row][0].isdisjoint(rows[other][0])
                    assert rows[row][0].isdisjoint(rows[other][1])


def test_distinct_concepts_fill_every_batch_and_use_every_row() -> None:
    rows = [(frozenset({f"C{i}"}), frozenset[str]()) for i in range(10)]
    batches = list(sampler(rows))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert sorted(row for batch in batches for row in batch) == list(range(10))


def test_a_concept_with_many_pairs_gets_as_many_batches() -> None:
    rows = [(frozenset({"C1"}), frozenset[str]())] * 6 + [(frozenset({"C2"}), frozenset[str]())] * 2
    batches = list(sampler(rows, 8))
    assert len(batches) == 6
    assert sorted(row for batch in batches for row in batch) == list(range(8))


def test_order_depends_on_seed_and_epoch_alone() -> None:
    rows = [(frozenset({f"C{i}"}), frozenset[str]()) for i in range(20)]
    one = sampler(rows)
    first = list(one)
    assert list(one) == first
    one.set_epoch(1)
    assert list(one) != first
    assert list(sampler(rows, seed=2)) != first
