"""The vector index on disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deft.errors import InputError
from deft.index.dense import FILE, DenseIndex

FULL = Path("/dev/full")


def unit(values):
    vectors = np.asarray(values, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw(count, dimension=8, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def brute_force(vectors, query, count):
    cosines = np.round((vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1), 6)
    order = np.lexsort((np.arange(len(vectors)), -cosines))[:count]
    return order, cosines[order]


def test_nearest_first_with_their_cosines():
    index = DenseIndex.build(unit([[1, 0], [0, 1], [1, 1], [-1, 0]]))
    rows, cosines = index.search(unit([[1, 0], [0, -1]]), 3)
    assert rows.tolist() == [[0, 2, 1], [0, 3, 2]]
    np.testing.assert_array_equal(cosines, [[1, 0.707107, 0], [0, 0, -0.707107]])
    assert (len(index), index.dimension) == (4, 2)


def test_no_more_neighbours_than_rows():
    rows, cosines = DenseIndex.build(draw(3)).search(draw(2, seed=1), 10)
    assert rows.shape == cosines.shape == (2, 3)
    assert set(rows[0]) == {0, 1, 2}


@given(
    arrays(np.int8, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 30),
)
def test_exact_whatever_the_ties(values, count):
    vectors = unit(values + np.array([0.5, 0, 0]))
    index = DenseIndex.build(vectors)
    rows, cosines = index.search(vectors, len(vectors))
    for query, near, similarity in zip(vectors, rows, cosines, strict=True):
        expected = brute_force(vectors, query, len(vectors))
        np.testing.assert_array_equal(near, expected[0])
        np.testing.assert_array_equal(similarity, expected[1])
    fewer = index.search(vectors, count)[1]
    np.testing.assert_array_equal(fewer, cosines[:, :count])


def test_a_query_is_answered_alike_alone_and_in_company():
    index = DenseIndex.build(draw(500, 48))
    queries = draw(300, 48, seed=1)
    rows, cosines = index.search(queries, 20)
    for place in range(0, 300, 17):
        alone = index.search(queries[place : place + 1], 20)
        np.testing.assert_array_equal(alone[0][0], rows[place])
        np.testing.assert_array_equal(alone[1][0], cosines[place])


def test_the_index_survives_the_disk(tmp_path):
    vectors = draw(20)
    DenseIndex.build(vectors).save(tmp_path)
    index = DenseIndex.open(tmp_path)
    np.testing.assert_array_equal(
        index.search(vectors, 5)[0], DenseIndex.build(vectors).search(vectors, 5)[0]
    )


@pytest.mark.parametrize("change", [lambda data: data[:40], lambda data: b"", lambda data: b"x" * 100, None])
def test_damage(tmp_path, change):
    DenseIndex.build(draw(20)).save(tmp_path)
    path = tmp_path / FILE
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"dense\.faiss: is no readable FAISS index\. Build the index again"):
        DenseIndex.open(tmp_path)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("count", [5, 50_000])
def test_a_full_disk_is_noticed_whatever_the_size(tmp_path, count):
    (tmp_path / FILE).symlink_to(FULL)
    with pytest.raises(OSError, match="No space left"):
        DenseIndex.build(draw(count)).save(tmp_path)
