"""What a measurement runs on, and what a process of it holds."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from deft.encoder.settings import usable_cores

MIB = 1 << 20

_PACKAGES = (
    "deft", "faiss-cpu", "neural-compressor", "numpy", "onnxruntime", "pandas", "pyarrow",
    "sentence-transformers", "tokenizers", "torch", "transformers",
)  # fmt: skip
# What a processor offers that the speed of matrix products hangs on.
_INSTRUCTIONS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimddp", "i8mm",
)  # fmt: skip


def spread(rounds: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the median of the rounds, the smallest and the largest."""
    found = {"value": statistics.median(rounds), "low": min(rounds), "high": max(rounds)}
    return {name: round(value, digits) for name, value in found.items()}


def own_peak_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    # On Linux getrusage hands the parent's peak down to its child; the kernel's own account starts anew.
    own = _memory_status("VmHWM")
    if own is not None:
        return own
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def own_memory() -> int:
    """Return the resident memory of this process now, in bytes; where only its peak is known, that."""
    return _memory_status("VmRSS") or own_peak_memory()


def _memory_status(name: str) -> int | None:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None


def hardware() -> dict[str, Any]:
    """Return what the measurement ran on: processor, its instructions, number, memory and system."""
    offered = (_about_processor("flags") or _about_processor("Features")).split()
    return {
        "processor": _about_processor("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in _INSTRUCTIONS if name in offered],
        "processors": usable_cores(),
        "memory_gib": _memory_gib(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _about_processor(name: str) -> str:
    """Return what Linux says of the first processor under a name, "" if nothing."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    return ""


def _memory_gib() -> float | None:
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # not on every system
        return None
    return round(memory / (1 << 30), 1)
