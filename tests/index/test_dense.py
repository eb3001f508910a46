"""The vector index on disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deft.errors import InputError
from deft.index import dense as module
from deft.index.dense import (
    CODES,
    FLAT_ROWS,
    VECTORS,
    DenseIndex,
    open_vectors,
    quantize_vectors,
    rows_written,
    write_vectors,
)

FULL = Path("/dev/full")


def unit(values):
    vectors = np.asarray(values, dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def draw(count, dimension=8, seed=0):
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def build(vectors, **options):
    return DenseIndex.build(quantize_vectors(vectors), **options)


def save(index, vectors, folder):
    """Write an index as a build does."""
    directions = quantize_vectors(vectors)
    write_vectors(folder / VECTORS, [directions], 0, directions.shape)
    index.save_codes(folder)


def brute_force(vectors, query, count):
    directions = quantize_vectors(vectors).astype(np.float64)
    lengths = np.sqrt((directions * directions).sum(axis=1))
    cosines = np.round((directions * query.astype(np.float64)).sum(axis=1) / lengths, 6)
    order = np.lexsort((np.arange(len(vectors)), -cosines))[:count]
    return order, cosines[order]


def test_nearest_first_with_their_cosines():
    index = build(unit([[1, 0], [0, 1], [1, 1], [-1, 0]]))
    rows, cosines = index.search(unit([[1, 0], [0, -1]]), 3)
    assert rows.tolist() == [[0, 2, 1], [0, 3, 2]]
    np.testing.assert_array_equal(cosines, [[1, 0.707107, 0], [0, 0, -0.707107]])
    assert (len(index), index.dimension) == (4, 2)


def test_no_more_neighbours_than_rows():
    rows, cosines = build(draw(3)).search(draw(2, seed=1), 10)
    assert rows.shape == cosines.shape == (2, 3)
    assert set(rows[0]) == {0, 1, 2}


@given(
    arrays(np.int8, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-2, 2)),
    st.integers(1, 30),
)
def test_exact_whatever_the_ties(values, count):
    vectors = unit(values + np.array([0.5, 0, 0]))
    index = build(vectors)
    rows, cosines = index.search(vectors, len(vectors))
    for query, near, similarity in zip(vectors, rows, cosines, strict=True):
        expected = brute_force(vectors, query, len(vectors))
        np.testing.assert_array_equal(near, expected[0])
        np.testing.assert_array_equal(similarity, expected[1])
    fewer = index.search(vectors, count)[1]
    np.testing.assert_array_equal(fewer, cosines[:, :count])


def test_a_query_is_answered_alike_alone_and_in_company():
    index = build(draw(500, 48))
    queries = draw(300, 48, seed=1)
    rows, cosines = index.search(queries, 20)
    for place in range(0, 300, 17):
        alone = index.search(queries[place : place + 1], 20)
        np.testing.assert_array_equal(alone[0][0], rows[place])
        np.testing.assert_array_equal(alone[1][0], cosines[place])


def test_of_equal_vectors_the_first_rows_are_found_in_any_company():
    generator = np.random.default_rng(0)
    vectors = np.repeat(draw(40, 384), 30, axis=0)[generator.permutation(1200)]
    index, queries = build(vectors), draw(64, 384, seed=1)
    rows, _ = index.search(queries, 100)
    for place, query in enumerate(queries):
        np.testing.assert_array_equal(rows[place], brute_force(vectors, query, 100)[0])
        np.testing.assert_array_equal(rows[place], index.search(query[None, :], 100)[0][0])


@given(
    arrays(np.int8, st.tuples(st.integers(1, 30), st.just(3)), elements=st.integers(-2, 2)),
    st.data(),
)
def test_only_allowed_rows_are_found(values, data):
    vectors = unit(values + np.array([0.5, 0, 0]))
    allowed = data.draw(arrays(np.bool_, len(vectors)))
    count = data.draw(st.integers(1, 40))
    rows, cosines = build(vectors).search(vectors, count, allowed=allowed)
    width = min(count, len(vectors))
    assert rows.shape == cosines.shape == (len(vectors), width)
    for query, near, similarity in zip(vectors, rows, cosines, strict=True):
        order, exact = brute_force(vectors, query, len(vectors))
        expected = order[allowed[order]][:width]
        missing = width - len(expected)
        assert near.tolist() == [*expected, *[-1] * missing]
        assert similarity.tolist() == [*exact[allowed[order]][:width], *[-1.0] * missing]


def test_blocks_make_no_difference(monkeypatch):
    vectors, queries = draw(500), draw(5, seed=1)
    allowed = np.random.default_rng(2).random(500) < 0.6
    whole = [build(vectors).search(queries, 40, allowed=mask) for mask in (None, allowed)]
    monkeypatch.setattr(module, "_BLOCK", 37)
    parts = [build(vectors).search(queries, 40, allowed=mask) for mask in (None, allowed)]
    np.testing.assert_equal(parts, whole)


def test_cosines_of_given_rows():
    vectors, queries = draw(30), draw(4, seed=1)
    rows = np.array([7, 0, 7, 29])
    exact = build(vectors).cosines(queries, rows)
    expected = queries.astype(np.float64) @ vectors[rows].astype(np.float64).T
    np.testing.assert_allclose(exact, expected, atol=0.02, rtol=0)  # a byte a value, of eight values
    np.testing.assert_array_equal(exact, np.round(exact, 6))
    assert build(vectors).cosines(queries, np.zeros(0, dtype=np.int64)).shape == (4, 0)


@pytest.fixture(scope="module")
def vectors():
    """Clusters, as names of concepts are: noise has no near neighbours to find."""
    return unit(np.repeat(draw(400, 32), 10, axis=0) + 0.15 * draw(4000, 32, seed=1))


@pytest.fixture(scope="module")
def index(vectors):
    return build(vectors, kind="ivf")


class TestCodes:
    """The index that proposes rows by codes."""

    def test_the_nearest_are_found_and_their_cosines_are_exact(self, index, vectors):
        assert index.kind == "ivf"
        queries = unit(vectors[::50] + 0.05 * draw(80, 32, seed=2))
        rows, cosines = index.search(queries, 5)
        exact, _ = build(vectors, kind="flat").search(queries, 5)
        assert np.mean([len(set(one) & set(other)) for one, other in zip(rows, exact, strict=True)]) > 4.9
        for query, near, similarity in zip(queries, rows, cosines, strict=True):
            np.testing.assert_array_equal(index.cosines(query[None, :], near)[0], similarity)
            assert (np.diff(similarity) <= 0).all()

    def test_alone_and_in_company(self, index):
        queries = draw(64, 32, seed=3)
        rows, _ = index.search(queries, 20)
        alone = np.concatenate([index.search(query[None, :], 20)[0] for query in queries])
        np.testing.assert_array_equal(rows, alone)

    def test_only_allowed_rows_are_found_by_codes_too(self, index, vectors, monkeypatch):
        monkeypatch.setattr(module, "FLAT_ROWS", 100)
        allowed = np.random.default_rng(4).random(len(vectors)) < 0.5
        queries = unit(vectors[::50] + 0.05 * draw(80, 32, seed=5))
        rows, cosines = index.search(queries, 5, allowed=allowed)
        assert allowed[rows].all()
        exact, _ = build(vectors, kind="flat").search(queries, 5, allowed=allowed)
        assert np.mean([len(set(one) & set(other)) for one, other in zip(rows, exact, strict=True)]) > 4.8
        assert (np.diff(cosines) <= 0).all()

    def test_where_the_cells_hold_too_few_the_rest_is_searched(self, index, vectors, monkeypatch):
        monkeypatch.setattr(module, "FLAT_ROWS", 10)
        monkeypatch.setattr(module, "_looked_in", lambda codes: 1)
        allowed = np.zeros(len(vectors), dtype=bool)
        allowed[::4] = True
        queries = draw(3, 32, seed=5)
        expected = build(vectors, kind="flat").search(queries, 50, allowed=allowed)
        np.testing.assert_equal(index.search(queries, 50, allowed=allowed), expected)

    def test_of_few_allowed_rows_it_is_exact(self, index, vectors):
        allowed = np.random.default_rng(4).random(len(vectors)) < 0.1
        queries = draw(5, 32, seed=5)
        expected = build(vectors, kind="flat").search(queries, 30, allowed=allowed)
        np.testing.assert_equal(index.search(queries, 30, allowed=allowed), expected)

    def test_when_much_is_asked_for_it_is_exact(self, index, vectors):
        queries = draw(3, 32, seed=6)
        rows, _ = index.search(queries, len(vectors))
        assert (np.sort(rows, axis=1) == np.arange(len(vectors))).all()

    def test_it_survives_the_disk(self, index, vectors, tmp_path):
        save(index, vectors, tmp_path)
        again = DenseIndex.open(tmp_path)
        assert (again.kind, len(again), again.dimension) == ("ivf", 4000, 32)
        queries = draw(8, 32, seed=7)
        np.testing.assert_equal(again.search(queries, 10), index.search(queries, 10))
        (tmp_path / CODES).write_bytes(b"x" * 100)
        with pytest.raises(InputError, match=r"codes\.faiss: is no readable FAISS index\. Build the index"):
            DenseIndex.open(tmp_path)

    def test_rows_that_are_read_are_those_that_are_mapped(self, index, vectors, tmp_path, monkeypatch):
        save(index, vectors, tmp_path)
        queries = draw(8, 32, seed=7)
        mapped = DenseIndex.open(tmp_path).search(queries, 10)
        monkeypatch.setattr(module, "_RESIDENT", 0)
        again = DenseIndex.open(tmp_path)
        np.testing.assert_equal(again.search(queries, 10), mapped)
        assert again.cosines(queries, np.zeros(0, dtype=np.int64)).shape == (8, 0)

    def test_codes_of_another_index_are_refused(self, index, vectors, tmp_path):
        save(index, vectors[:-1], tmp_path)
        with pytest.raises(InputError, match=r"codes\.faiss: is of another index"):
            DenseIndex.open(tmp_path)

    def test_what_an_approximate_search_does_is_told(self, index):
        settings = index.search_settings
        assert settings["looked_in"] <= settings["cells"]
        assert build(draw(20)).search_settings == {}


@pytest.mark.parametrize(("count", "dimension"), [(15, 4), (100, 3)])
def test_vectors_that_codes_cannot_be_made_of(count, dimension):
    with pytest.raises(InputError, match=f"of {count} vectors of length {dimension}. Choose the kind flat"):
        build(draw(count, dimension), kind="ivf")


@pytest.mark.parametrize(
    ("count", "dimension", "kind"),
    [(FLAT_ROWS, 4, "flat"), (FLAT_ROWS + 1, 4, "ivf"), (FLAT_ROWS + 1, 3, "flat")],
)
def test_the_kind_goes_by_size(count, dimension, kind):
    assert build(draw(count, dimension)).kind == kind


def test_the_index_survives_the_disk(tmp_path):
    vectors = draw(20)
    save(build(vectors), vectors, tmp_path)
    index = DenseIndex.open(tmp_path)
    np.testing.assert_array_equal(index.search(vectors, 5)[0], build(vectors).search(vectors, 5)[0])


@pytest.mark.parametrize("change", [lambda data: data[:40], lambda data: b"", lambda data: b"x" * 100, None])
def test_damage(tmp_path, change):
    save(build(draw(20)), draw(20), tmp_path)
    path = tmp_path / VECTORS
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"vectors\.npy: is no readable array .*Build the index again"):
        DenseIndex.open(tmp_path)


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize(("name", "count"), [(VECTORS, 5), (VECTORS, 50_000), (CODES, 2_000)])
def test_a_full_disk_is_noticed_whatever_the_size(tmp_path, name, count):
    (tmp_path / name).symlink_to(FULL)
    index = build(draw(count), kind="flat" if name == VECTORS else "ivf")
    with pytest.raises(OSError, match="No space left"):
        save(index, draw(count), tmp_path)


def test_values_of_another_type_are_refused(tmp_path):
    np.save(tmp_path / VECTORS, draw(3))
    with pytest.raises(InputError, match=r"vectors\.npy: is no array of int8 in 2 dimensions"):
        open_vectors(tmp_path)


@given(arrays(np.float32, (5, 6), elements=st.floats(-1, 1, width=32)))
def test_quantizing_hardly_turns_a_vector(values):
    vectors = unit(values + np.eye(5, 6, dtype=np.float32) * 3)
    cosines = (unit(quantize_vectors(vectors)) * vectors).sum(axis=1)
    assert (cosines > 0.9999).all()


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(0, 200))
def test_vectors_are_written_on_wherever_the_file_was_cut(tmp_path, sizes, cut):
    path = tmp_path / VECTORS
    path.unlink(missing_ok=True)
    count = sum(sizes)
    values = np.random.default_rng(0).integers(-127, 128, (count, 5)).astype(np.int8)
    blocks = np.split(values, np.cumsum(sizes)[:-1]) if sizes else []
    write_vectors(path, blocks, 0, (count, 5))
    whole = path.read_bytes()
    assert rows_written(path, count, 5) == count
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    written = rows_written(path, count, 5)
    assert written <= count
    assert written == max(0, (len(whole) - 128 - cut) // 5 if cut <= len(whole) - 128 else 0)
    write_vectors(path, [values[written:]], written, (count, 5))
    assert path.read_bytes() == whole
    np.testing.assert_array_equal(np.load(path), values)
    assert rows_written(path, count + 1, 5) == 0
