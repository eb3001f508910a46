"""What a measurement runs on."""

import json
import subprocess
import sys

import numpy as np
import pytest

from deft.bench import machine


def test_a_spread_is_median_least_and_most():
    assert machine.spread([2.0, 4.0, 1.0]) == {"value": 2.0, "low": 1.0, "high": 4.0}


def test_peak_memory_sees_what_was_held():
    before = machine.own_peak_memory()
    assert before > 1 << 20
    held = np.ones(96 << 20, dtype=np.uint8)
    assert machine.own_peak_memory() >= held.nbytes
    assert machine.own_peak_memory() >= before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the inheritance is Linux's")
def test_peak_memory_of_a_child_is_its_own():
    held = np.ones(400 << 20, dtype=np.uint8)
    code = "from deft.bench.machine import own_peak_memory; print(own_peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) < machine.own_peak_memory() - (held.nbytes >> 1)


def test_what_it_ran_on_is_recorded():
    recorded = json.loads(json.dumps({**machine.hardware(), **machine.versions()}))
    assert recorded["processors"] >= 1
    assert recorded["memory_gib"] > 0
    assert recorded["processor"]
    assert recorded["python"].startswith("3.")
    assert "onnxruntime" in recorded


def test_memory_is_not_told_by_every_system(monkeypatch):
    monkeypatch.delattr(machine.os, "sysconf", raising=False)
    assert machine.hardware()["memory_gib"] is None
