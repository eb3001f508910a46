"""A measurement is a process of its own."""

import numpy as np
import pytest

from deft.bench.process import measure
from deft.encoder.runtime import Encoder
from deft.errors import DeftError


def test_a_process_that_fails_says_why(tmp_path):
    request = {"umls": str(tmp_path / "absent")}
    with pytest.raises(DeftError, match=r"absent.*MRCONSO"):
        measure("deft.bench.index:parse", request)


def test_a_process_tells_memory_and_time(umls):
    measured = measure("deft.bench.index:parse", {"umls": str(umls)}, threads=1)
    assert measured.answer["atoms"] > 0
    assert measured.peak_memory > 1 << 20
    assert measured.seconds_to_ready > 0


def test_our_encoder_runs_in_a_process_of_its_own(bundle, tmp_path):
    vectors = tmp_path / "vectors.npy"
    request = {"kind": "deft", "folder": str(bundle), "threads": 1, "texts": ["rhume", "toux"]}
    request |= {"seconds": 0.01, "vectors": str(vectors)}
    measured = measure("deft.bench.run:encode_texts", request, threads=1)
    assert measured.answer["texts_per_second"] > 0
    assert np.load(vectors) == pytest.approx(Encoder.open(bundle).encode(["rhume", "toux"]), abs=1e-5)
