"""How an encoder is run on a processor: session options, threads and blocks, stored beside the model.

Settings change the speed alone. `runtime.json` keeps those that `deft tune` found, by what the processor
offers, so that one folder serves several machines; it is no part of the encoder's fingerprint.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import onnxruntime
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from deft.encoder.bundle import SETTINGS
from deft.errors import InputError
from deft.files import read_json, write_json

Level = Literal["avx512_vnni", "avx2", "arm_i8mm", "arm_dot", "plain"]
Optimization = Literal["disabled", "basic", "extended", "all"]
Count = Annotated[int, Field(ge=1, strict=True)]

_CPU = "CPUExecutionProvider"
_REMOTE = frozenset({"AzureExecutionProvider"})
_OPTIMIZATIONS = {
    "disabled": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
}
_PROCESSOR = Path("/proc/cpuinfo")
_CONTROL_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_APPLE = ("darwin", "arm64")

# What the kernel calls a processor's products of 8-bit numbers, the best first.
_LEVELS: dict[str, Level] = {
    "avx512_vnni": "avx512_vnni",
    "avx2": "avx2",
    "i8mm": "arm_i8mm",
    "asimddp": "arm_dot",
}


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Settings:
    """How a session runs and how texts are given to it.

    Attributes
    ----------
    provider
        Execution provider of onnxruntime.
    optimization
        How far onnxruntime rewrites the graph when it is opened.
    intra_threads
        Threads that work on one operator.
    inter_threads
        Operators of a run that may be in work at once.
    workers
        Blocks in work at once; as many as there are threads for, if None.
    block_tokens
        Tokens of a block of texts, padding included.
    cores
        Processors of the machine that the thread counts were chosen on; with another number the usual
        counts are taken. None: any.
    """

    provider: str = _CPU
    optimization: Optimization = "all"
    intra_threads: Count = 1
    inter_threads: Count = 1
    workers: Count | None = None
    # 256 to 512 are equally fast on most processors; longer blocks leave the cache.
    block_tokens: Count = 512
    cores: Count | None = None

    def within(self, threads: int) -> Settings:
        """Return these settings for a number of threads: blocks at once times threads of each are no more."""
        intra = min(self.intra_threads, threads)
        return replace(
            self,
            intra_threads=intra,
            inter_threads=min(self.inter_threads, threads),
            workers=min(self.workers or threads, threads // intra),
        )

    def session_options(self) -> onnxruntime.SessionOptions:
        """Return onnxruntime's options for these settings."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = _OPTIMIZATIONS[self.optimization]
        options.intra_op_num_threads = self.intra_threads
        options.inter_op_num_threads = self.inter_threads
        if self.inter_threads > 1:
            options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        if self.workers != 1:  # a thread that waits busily takes its core from another block
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        return options

    @property
    def providers(self) -> list[str]:
        """The provider, if this machine has it, and the processor for what it cannot do."""
        wanted = [self.provider] if self.provider in local_providers() else []
        return list(dict.fromkeys([*wanted, _CPU]))


def read_settings(folder: Path) -> dict[Level, Settings]:
    """Read `runtime.json` of an encoder folder; without the file there are none.

    Raises
    ------
    InputError
        A field is unknown, missing or out of range.
    """
    path = Path(folder) / SETTINGS
    if not path.is_file():
        return {}
    try:
        return TypeAdapter(dict[Level, Settings]).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"] if part != "[key]") or None
        raise InputError(
            f"{first['msg']}.", path=path, field=field, remedy="Remove the file, or run `deft tune` again."
        ) from error


def write_settings(folder: Path, settings: Mapping[Level, Settings]) -> None:
    """Write `runtime.json`."""
    write_json(Path(folder) / SETTINGS, {level: asdict(found) for level, found in settings.items()})


def settings_here(folder: Path) -> Settings:
    """Return the settings of an encoder folder for this processor.

    Thread counts are those of a machine with as many processors as this one, or the usual ones.

    Raises
    ------
    InputError
        `runtime.json` is malformed.
    """
    found = read_settings(folder).get(processor_level(), Settings())
    if found.cores in (None, usable_cores()):
        return found
    return Settings(found.provider, found.optimization, block_tokens=found.block_tokens)


def local_providers() -> list[str]:
    """Return the execution providers of this machine; services elsewhere are none."""
    return [name for name in onnxruntime.get_available_providers() if name not in _REMOTE]


def processor_level() -> Level:
    """Return what the processor offers for int8; `plain` too where that cannot be known.

    Products of 8-bit numbers are exact with `avx512_vnni` and on ARM. With `avx2` they may overflow unless
    weights have 7 bits.
    """
    flags = _processor_flags()
    unknown: Level = "arm_dot" if (sys.platform, platform.machine()) == _APPLE else "plain"
    return next((level for flag, level in _LEVELS.items() if flag in flags), unknown)


def usable_cores() -> int:
    """Return the number of processors that this process may use; a quota of a container counts."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, _quota())))


def _quota() -> float:
    """Return the processors that control groups of Linux grant, of either version; infinity without them.

    A group gets no more than those above it, and a container may see its own group as the root.
    """
    least = math.inf
    with suppress(OSError, ValueError):
        for line in _OWN_GROUPS.read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            root = _CONTROL_GROUPS / controllers if controllers else _CONTROL_GROUPS
            if controllers and "cpu" not in controllers.split(","):
                continue
            own = PurePosixPath(group.lstrip("/"))
            least = min([least, *(_granted(root / part) for part in (own, *own.parents))])
    return least


def _granted(group: Path) -> float:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        if quota != "max" and int(quota) > 0:
            return int(quota) / int(period)
    return math.inf


def _processor_flags() -> frozenset[str]:
    if _PROCESSOR.is_file():
        for line in _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, values = line.partition(":")
            if name.strip() in {"flags", "Features"}:  # x86, ARM
                return frozenset(values.split())
    return frozenset()
