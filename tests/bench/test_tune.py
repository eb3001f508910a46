"""The search for settings: what is near the reference and fast wins, and a stopped search goes on."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna")

from deft.bench import tune as module
from deft.bench.tune import Trial, Tuned, TuneParams, candidates, store, tune
from deft.encoder.bundle import CARD, FILES
from deft.encoder.runtime import Encoder
from deft.encoder.settings import Settings, processor_level, read_settings, usable_cores, write_settings
from deft.errors import GateError, InputError

PARAMS = TuneParams(trials=8, repeats=1, threads=2)


@pytest.fixture
def texts(phrases) -> list[str]:
    return phrases(12)


@pytest.fixture
def rates(monkeypatch) -> dict[str, float]:
    """Texts a second by precision, in place of a clock; a block of 1024 tokens gains 50."""
    rates = {"fp32": 100.0, "int8": 300.0}

    def throughput(encoders, _texts, _repeats):
        return {
            name: {"value": rates[encoder.info.precision] + 50 * (encoder._block_tokens == 1024)}
            for name, encoder in encoders.items()
        }

    monkeypatch.setattr(module, "throughput", throughput)
    return rates


@pytest.fixture
def garbage(onnxruntime_bundle, fp32_bundle, tmp_path) -> Path:
    """An int8 bundle whose vectors are those of another model."""
    import onnx
    from onnx import numpy_helper

    from deft.encoder.bundle import read_info
    from deft.encoder.runtime import seal

    folder = Path(shutil.copytree(onnxruntime_bundle, tmp_path / "garbage"))
    graph = onnx.load(folder / "model.onnx")
    for tensor in graph.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            mixed = np.random.default_rng(0).permutation(numpy_helper.to_array(tensor).ravel())
            tensor.CopyFrom(numpy_helper.from_array(mixed.reshape(tuple(tensor.dims)), tensor.name))
    onnx.save(graph, folder / "model.onnx")
    seal(folder, read_info(onnxruntime_bundle))
    return folder


def test_the_first_trial_is_the_default(fp32_bundle, texts, tmp_path, rates):
    first = tune({"fp32": fp32_bundle}, texts, tmp_path, PARAMS).trials[0]
    assert (first.number, first.bundle, first.times, first.feasible) == (0, "fp32", 1.0, True)
    assert (first.optimization, first.intra_threads, first.workers, first.block_tokens) == ("all", 1, 2, 512)
    assert first.cosine_mean == pytest.approx(1, abs=1e-6)


def test_the_fastest_wins(fp32_bundle, onnxruntime_bundle, texts, tmp_path, rates):
    params = replace(PARAMS, trials=30)
    tuned = tune({"fp32": fp32_bundle, "int8": onnxruntime_bundle}, texts, tmp_path, params)
    assert (tuned.bundle, tuned.settings.block_tokens) == ("int8", 1024)
    assert (tuned.texts_per_second, tuned.times) == (350, 3.5)
    assert (tuned.level, tuned.settings.cores) == (processor_level(), usable_cores())
    assert all(trial.feasible for trial in tuned.trials)


def test_a_trial_far_from_the_reference_never_wins(fp32_bundle, garbage, texts, tmp_path, rates):
    bundles = {"fp32": fp32_bundle, "garbage": garbage}
    tuned = tune(bundles, texts, tmp_path / "work", replace(PARAMS, trials=12))
    fast = [trial for trial in tuned.trials if trial.bundle == "garbage"]
    assert fast
    assert not any(trial.feasible for trial in fast)
    assert min(trial.times for trial in fast) > tuned.times
    assert tuned.bundle == "fp32"


def test_where_nothing_is_near_the_reference_nothing_wins(fp32_bundle, garbage, texts, tmp_path, rates):
    params = replace(PARAMS, trials=3)
    with pytest.raises(GateError, match="None of 3 trials"):
        tune({"garbage": garbage}, texts, tmp_path / "work", params, reference=fp32_bundle)


def test_the_default_stays_where_the_second_timing_finds_nothing_faster(
    fp32_bundle, texts, tmp_path, rates, monkeypatch
):
    monkeypatch.setattr(
        module._Measure,
        "again",
        lambda self, chosen: dict.fromkeys(chosen, (90.0, 0.9)) | {0: (100.0, 1.0)},
    )
    tuned = tune({"fp32": fp32_bundle}, texts, tmp_path, replace(PARAMS, trials=15))
    assert max(trial.times for trial in tuned.trials) == 1.5
    assert (tuned.times, tuned.settings.block_tokens) == (1.0, 512)


def test_a_stopped_search_goes_on(fp32_bundle, texts, tmp_path, rates, monkeypatch):
    measure, calls = module._Measure.__call__, []

    def count(self, number, name, settings):
        if number == 3 and 3 not in calls:
            calls.append(3)
            raise KeyboardInterrupt
        calls.append(number)
        return measure(self, number, name, settings)

    monkeypatch.setattr(module._Measure, "__call__", count)
    with pytest.raises(KeyboardInterrupt):
        tune({"fp32": fp32_bundle}, texts, tmp_path, PARAMS)
    tuned = tune({"fp32": fp32_bundle}, texts, tmp_path, PARAMS)
    assert calls == [0, 1, 2, 3, *range(3, 8)]
    assert [trial.number for trial in tuned.trials] == list(range(8))
    again = tune({"fp32": fp32_bundle}, texts, tmp_path, PARAMS)
    assert again.trials == tuned.trials
    assert len(calls) == 9


def test_the_trials_of_another_search_are_refused(fp32_bundle, texts, tmp_path, rates):
    tune({"fp32": fp32_bundle}, texts, tmp_path, replace(PARAMS, trials=1))
    with pytest.raises(InputError, match="another machine"):
        tune({"fp32": fp32_bundle}, texts[1:], tmp_path, replace(PARAMS, trials=1))


def test_equal_seeds_try_equal_settings(fp32_bundle, texts, tmp_path, rates):
    runs = [tune({"fp32": fp32_bundle}, texts, tmp_path / name, PARAMS).trials for name in "ab"]
    other = tune({"fp32": fp32_bundle}, texts, tmp_path / "c", replace(PARAMS, seed=1)).trials
    assert runs[0] == runs[1] != other


def test_the_trace_has_a_row_a_trial(fp32_bundle, texts, tmp_path, rates):
    tuned = tune({"fp32": fp32_bundle}, texts, tmp_path, PARAMS)
    with (tmp_path / "trials.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["number"]) for row in rows] == list(range(8))
    assert [row["block_tokens"] for row in rows] == [str(trial.block_tokens) for trial in tuned.trials]
    assert {row["feasible"] for row in rows} == {"True"}


def test_a_true_clock_gives_rates(onnxruntime_bundle, texts, tmp_path):
    tuned = tune({"int8": onnxruntime_bundle}, texts, tmp_path, replace(PARAMS, trials=2))
    assert all(trial.texts_per_second > 0 for trial in tuned.trials)
    assert tuned.times > 0


@pytest.mark.parametrize(("load", "warnings"), [(0.1, 0), (1e4, 1)])
def test_a_busy_machine_is_warned_of(
    fp32_bundle, texts, tmp_path, rates, monkeypatch, caplog, load, warnings
):
    monkeypatch.setattr(module.os, "getloadavg", lambda: (load, 0.0, 0.0))
    tune({"fp32": fp32_bundle}, texts, tmp_path, replace(PARAMS, trials=1))
    assert sum("busy" in record.message for record in caplog.records) == warnings


def test_threads_are_never_more_than_allowed(fp32_bundle, texts, tmp_path, rates):
    trials = tune({"fp32": fp32_bundle}, texts, tmp_path, replace(PARAMS, trials=12)).trials
    assert {trial.workers * trial.intra_threads for trial in trials} <= {1, 2}


def test_no_text_and_malformed_settings_are_refused(fp32_bundle, texts, tmp_path):
    with pytest.raises(InputError, match="no text"):
        tune({"fp32": fp32_bundle}, [], tmp_path, PARAMS)
    folder = Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    (folder / "runtime.json").write_text('{"plain": {"fast": true}}')
    with pytest.raises(InputError, match=r"field plain\.fast"):
        tune({"fp32": folder}, texts, tmp_path / "work", PARAMS)


def tuned_with(settings: Settings) -> Tuned:
    trial = Trial(0, "fp32", settings.provider, "all", 1, 1, 1, 64, 10.0, 2.0, 1.0, 1.0, feasible=True)
    return Tuned("avx2", "fp32", settings, 10.0, 2.0, (trial,))


def test_settings_are_stored_beside_the_model_and_those_of_other_processors_stay(fp32_bundle, tmp_path):
    folder = Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    write_settings(folder, {"plain": Settings(block_tokens=9), "avx2": Settings(block_tokens=8)})
    found = Settings(block_tokens=64)
    store(tuned_with(found), folder, folder)
    expected = {"plain": Settings(block_tokens=9), "avx2": found}
    assert read_settings(folder) == expected
    store(tuned_with(found), folder, tmp_path / "new")
    assert read_settings(tmp_path / "new") == expected
    assert Encoder.open(tmp_path / "new").fingerprint == Encoder.open(fp32_bundle).fingerprint
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        (*FILES, CARD, "runtime.json")
    )


def test_candidates_are_made_once_from_the_table_of_variants(fp32_bundle, tmp_path):
    found = candidates(fp32_bundle, tmp_path)
    assert list(found) == ["fp32", "onnxruntime", "onnxruntime-tensor"]
    invariant = {name: Encoder.open(folder).info.batch_invariant for name, folder in found.items()}
    assert invariant == {"fp32": True, "onnxruntime": True, "onnxruntime-tensor": False}
    written = (tmp_path / "onnxruntime" / "model.onnx").stat().st_mtime_ns
    candidates(fp32_bundle, tmp_path)
    assert (tmp_path / "onnxruntime" / "model.onnx").stat().st_mtime_ns == written


def test_the_command_stores_settings_and_draws_the_search(fp32_bundle, texts, tmp_path, monkeypatch, capsys):
    from deft.cli import main

    folder = Path(shutil.copytree(fp32_bundle, tmp_path / "copy"))
    table = tmp_path / "texts.csv"
    table.write_text("\n".join(["string", *texts]), encoding="utf-8")
    options = [
        "--encoder",
        folder,
        "--input",
        table,
        "--trials",
        "3",
        "--repeats",
        "1",
        "--work",
        tmp_path / "w",
    ]
    monkeypatch.setattr("sys.argv", ["deft", "tune", *map(str, options)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    said = json.loads(capsys.readouterr().out)
    assert said["bundle"] == "encoder"
    assert read_settings(folder) == {processor_level(): Settings(**said["settings"])}
    page = (tmp_path / "w" / "tune.html").read_text(encoding="utf-8")
    assert page.count("<use") >= 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_command_asks_where_the_best_of_several_goes(fp32_bundle, tmp_path, monkeypatch, capsys):
    from deft.cli import main

    options = [
        "--encoder",
        fp32_bundle,
        "--candidate",
        f"again={fp32_bundle}",
        "--input",
        tmp_path / "none.csv",
    ]
    monkeypatch.setattr("sys.argv", ["deft", "tune", *map(str, options)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err


class Clock:
    """Time that passes only when an encoder works."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def __call__(self):
        return self.now


class Slow:
    """An encoder whose calls take given seconds."""

    def __init__(self, name, clock, seconds):
        self.name, self.clock, self.seconds = name, clock, iter(seconds)

    def encode(self, texts):
        self.clock.calls.append(self.name)
        self.clock.now += next(self.seconds)


def test_throughput_is_the_median_after_a_warm_up():
    clock = Clock()
    encoders = {"slow": Slow("slow", clock, [99, 2, 4, 1]), "fast": Slow("fast", clock, [99, 1, 1, 1])}
    rates = module.throughput(encoders, ["a", "b", "c", "d"], 3, clock=clock)
    assert rates["slow"] == {"value": 2.0, "low": 1.0, "high": 4.0}
    assert rates["fast"] == {"value": 4.0, "low": 4.0, "high": 4.0}


def test_throughput_interleaves_the_encoders():
    clock = Clock()
    encoders = {name: Slow(name, clock, [1] * 3) for name in "ab"}
    module.throughput(encoders, ["x"], 2, clock=clock)
    assert clock.calls == list("ababab")
