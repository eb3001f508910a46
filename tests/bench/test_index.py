"""What an index costs, measured small; no speed is asserted."""

import json
from dataclasses import replace

import pytest
from bench_results import point

from deft.bench import index
from deft.errors import InputError


def test_projection_is_a_straight_line():
    projected = index.project([point(100_000, 3.0), point(1_000_000, 3.0), point(4_000_000, 3.0)], 15_000_000)
    assert projected["values"]["disk_mib"] == {"slope": 3.0, "intercept": 2.0, "value": 47.0}
    assert "straight line through 3" in projected["method"]
    assert index.project([point(5, 1.0)], 10) is None


def test_index_of_each_size_is_measured_once(bundle, root, monkeypatch):
    vocabulary = root / "data" / "sample" / "umls"
    params = index.IndexBenchParams(queries=5, embedded=10, threads=1)
    (found,) = index.bench_index(bundle, vocabulary, [120], params)
    (measured,) = found["points"]
    assert (measured["strings"], found["projection"]) == (120, None)
    assert all(measured[name] > 0 for name in index.GROWING)
    assert measured["recall_at_10_of_exact"] == 1.0  # so few are searched exactly
    assert measured["query_p50_milliseconds"] <= measured["query_p99_milliseconds"]
    known = json.loads(json.dumps(found))
    made = point(240, 3.0)
    monkeypatch.setattr(index, "_point", lambda *_: made)
    (more,) = index.bench_index(bundle, vocabulary, [240], params, known=known)
    assert more["points"] == [measured, made]
    (other,) = index.bench_index(bundle, vocabulary, [240], replace(params, queries=6), known=known)
    assert other["points"] == [made]  # measured in another way, it does not stay


def test_sizes_are_needed(bundle, root):
    with pytest.raises(InputError, match="sizes"):
        next(index.bench_index(bundle, root / "data" / "sample" / "umls", []))
