"""The character n-gram baselines."""

import numpy as np
import pytest

from deft.errors import InputError
from deft.evaluation import baseline
from deft.evaluation.baseline import NgramBaseline, NgramEncoder

STRINGS = ["infarctus du myocarde", "Infarctus aigu", "céphalée", "mal de tête", "fracture du fémur"]
CUIS = [{"C0000001"}, {"C0000001", "C0000002"}, {"C0000003"}, {"C0000003"}, {"C0000004"}]


def test_ranks_concepts_not_strings():
    ranking = NgramBaseline.fit(STRINGS, CUIS).rank(["infarctus"])[0]
    assert set(ranking[:2]) == {"C0000001", "C0000002"}
    assert len(ranking) == len(set(ranking))


def test_compares_normalised_forms_and_breaks_ties_by_cui():
    found = NgramBaseline.fit(STRINGS, CUIS).rank(["INFARCTUS AIGU", "cephalee"], k=2)
    assert found[0] == ("C0000001", "C0000002")
    assert found[1][0] == "C0000003"


def test_leaves_out_concepts_that_share_nothing():
    assert NgramBaseline.fit(STRINGS, CUIS).rank(["zzz", "!!"]) == [(), ()]


def test_agrees_with_a_search_string_by_string():
    rng = np.random.default_rng(0)
    strings = ["".join(rng.choice(list("abc "), 8)) + "a" for _ in range(60)]
    cuis = [{f"C{rng.integers(20):07d}" for _ in range(rng.integers(1, 3))} for _ in strings]
    searched = NgramBaseline.fit(strings, cuis)
    queries = ["abc cab", "aa bb", "cccc"]
    cosines = (searched._vectorizer.transform(queries) @ searched._matrix).toarray()
    for row, ranking in zip(cosines, searched.rank(queries, k=7), strict=True):
        best = {}
        for cosine, owners in zip(row, cuis, strict=True):
            for cui in owners:
                best[cui] = max(best.get(cui, 0), cosine)
        expected = sorted((cui for cui in best if best[cui] > 0), key=lambda cui: (-best[cui], cui))[:7]
        assert list(ranking) == expected


def test_the_size_of_batches_changes_nothing(monkeypatch):
    whole = NgramBaseline.fit(STRINGS, CUIS).rank(STRINGS)
    monkeypatch.setattr(baseline, "_CELLS", 1)
    assert NgramBaseline.fit(STRINGS, CUIS).rank(STRINGS) == whole


def test_refuses_nothing_to_compare_with():
    with pytest.raises(InputError, match="no string"):
        NgramBaseline.fit(["!", "?"], [{"C0000001"}, {"C0000002"}])


def test_encoder_gives_unit_rows_that_measure_spelling():
    rows = NgramEncoder.fit(STRINGS).encode(["céphalées", "cephalee", "fémur", "!"])
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-5)
    assert rows[0] @ rows[1] > 0.6 > rows[0] @ rows[2]
