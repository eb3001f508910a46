"""Settings: what is stored beside a model is read back, checked, and fits the machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deft.encoder import settings as module
from deft.encoder.settings import Settings, processor_level, read_settings, settings_here, write_settings
from deft.errors import InputError

FOUND = Settings(optimization="basic", intra_threads=2, inter_threads=2, workers=3, block_tokens=256, cores=7)


def test_what_is_written_is_read(tmp_path):
    write_settings(tmp_path, {"avx2": FOUND, "plain": Settings()})
    assert read_settings(tmp_path) == {"avx2": FOUND, "plain": Settings()}


def test_without_a_file_there_are_none(tmp_path):
    assert read_settings(tmp_path) == {}
    assert settings_here(tmp_path) == Settings()


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ({"avx2": {"workers": 0}}, "avx2.workers"),
        ({"avx2": {"block_tokens": "512"}}, "avx2.block_tokens"),
        ({"avx2": {"intra_threads": None}}, "avx2.intra_threads"),
        ({"avx2": {"optimization": "most"}}, "avx2.optimization"),
        ({"avx2": {"speed": 11}}, "avx2.speed"),
        ({"sse": {}}, "sse"),
        ([], None),
    ],
)
def test_a_malformed_file_is_refused_by_file_and_field(tmp_path, content, field):
    (tmp_path / "runtime.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="deft tune") as raised:
        read_settings(tmp_path)
    assert (raised.value.path, raised.value.field) == (tmp_path / "runtime.json", field)


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("fpu sse2 avx avx2 avx512f avx512_vnni", "avx512_vnni"),
        ("fpu sse2 avx avx2 avx512f", "avx2"),
        ("fpu sse2 avx avx_vnni_int8", "plain"),
    ],
)
def test_the_processor_decides_what_is_taken(tmp_path, monkeypatch, flags, level):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name\t: some\nflags\t\t: {flags}\nbugs\t: none\n")
    monkeypatch.setattr(module, "_PROCESSOR", cpuinfo)
    monkeypatch.setattr(module, "usable_cores", lambda: 7)
    write_settings(
        tmp_path,
        {name: replace(FOUND, block_tokens=number) for number, name in enumerate(_LEVELS, start=1)},
    )
    assert processor_level() == level
    assert settings_here(tmp_path) == replace(FOUND, block_tokens=_LEVELS.index(level) + 1)


def test_a_system_that_tells_nothing_is_plain(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PROCESSOR", tmp_path / "none")
    assert processor_level() == "plain"


def test_threads_of_another_machine_are_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    write_settings(tmp_path, dict.fromkeys(_LEVELS, FOUND))
    assert settings_here(tmp_path) == Settings(optimization="basic", block_tokens=256)


@given(
    st.builds(
        Settings,
        intra_threads=st.integers(1, 64),
        inter_threads=st.integers(1, 4),
        workers=st.none() | st.integers(1, 64),
    ),
    st.integers(1, 64),
)
def test_no_more_threads_are_used_than_allowed(settings, threads):
    fitted = settings.within(threads)
    assert fitted.workers is not None
    assert 1 <= fitted.workers * fitted.intra_threads <= threads
    assert fitted.inter_threads <= threads
    assert fitted.within(threads) == fitted
    if settings.workers is None:
        assert fitted.workers == threads // fitted.intra_threads


def test_options_are_those_of_the_settings():
    options = FOUND.session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 2)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert Settings().session_options().execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL


def test_a_provider_that_is_not_here_gives_way_to_the_processor():
    assert Settings(provider="NoSuchProvider").providers == ["CPUExecutionProvider"]


_LEVELS = ("avx512_vnni", "avx2", "plain")


class TestQuota:
    @pytest.fixture
    def groups(self, tmp_path, monkeypatch):
        """Put control groups in place: what `/proc/self/cgroup` says, and files below `/sys/fs/cgroup`."""
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
        monkeypatch.setattr(module, "_CONTROL_GROUPS", tmp_path / "fs")
        monkeypatch.setattr(module, "_OWN_GROUPS", tmp_path / "own")

        def place(own, **files):
            (tmp_path / "own").write_text(own)
            for name, content in files.items():
                path = tmp_path / "fs" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)

        return place

    @pytest.mark.parametrize(
        ("own", "files", "cores"),
        [
            ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
            ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
            ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
            ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
            ("0::/a/b\n", {"a/cpu.max": "300000 100000\n", "a/b/cpu.max": "max 100000\n"}, 3),
            ("0::/gone\n", {"cpu.max": "400000 100000\n"}, 4),
            (
                "5:cpu,cpuacct:/d\n3:memory:/d\n",
                {"cpu,cpuacct/d/cpu.cfs_quota_us": "500000", "cpu,cpuacct/d/cpu.cfs_period_us": "100000"},
                5,
            ),
            ("5:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
            ("nonsense", {}, 64),
            ("0::/\n", {"cpu.max": "x y z"}, 64),
            ("0::/\n", {"cpu.max": "1 0"}, 64),
        ],
    )
    def test_a_container_gets_what_it_is_granted(self, groups, own, files, cores):
        groups(own, **files)
        assert module.usable_cores() == cores

    def test_affinity_is_no_part_of_every_system(self, groups, monkeypatch):
        groups("")
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: 6)
        assert module.usable_cores() == 6
        monkeypatch.setattr(os, "cpu_count", lambda: None)
        assert module.usable_cores() == 1


@pytest.mark.parametrize(
    ("features", "level"),
    [("fp asimd asimddp i8mm bf16", "arm_i8mm"), ("fp asimd asimddp", "arm_dot"), ("fp asimd", "plain")],
)
def test_arm_has_levels_of_its_own(tmp_path, monkeypatch, features, level):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nFeatures\t: {features}\n")
    monkeypatch.setattr(module, "_PROCESSOR", tmp_path / "cpuinfo")
    assert processor_level() == level


def test_apple_tells_nothing_and_has_dot_products(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_PROCESSOR", tmp_path / "none")
    monkeypatch.setattr(module.sys, "platform", "darwin")
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    assert processor_level() == "arm_dot"
