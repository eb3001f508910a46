"""Speed, size and memory of encoder bundles.

Run as a module (``python -m deft.bench.speed``) it encodes the texts of a JSON request on standard input
and answers with its own peak memory: that of a process which has done nothing else.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deft.errors import DeftError, InputError

if TYPE_CHECKING:  # the process that measures its memory holds nothing else
    from deft.mapping.grades import TextEncoder

_MIB = 1 << 20
_PACKAGES = (
    "deft", "faiss-cpu", "neural-compressor", "numpy", "onnxruntime", "pandas", "pyarrow",
    "sentence-transformers", "tokenizers", "torch", "transformers",
)  # fmt: skip
# What a processor offers that the speed of matrix products hangs on.
_INSTRUCTIONS = (
    "avx2", "fma", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8",
    "asimd", "asimddp", "i8mm",
)  # fmt: skip


def measure(
    bundles: Mapping[str, Path], texts: Sequence[str], *, repeats: int = 3, threads: int | None = None
) -> dict[str, Any]:
    """Measure encoder bundles on the same texts.

    Parameters
    ----------
    bundles
        A folder for each system, by the system's name.
    texts
        Texts to encode in one call.
    repeats
        Timed rounds after one that warms up; a round times every system once.
    threads
        Threads of a system; the number of processors that this process may use if not given.

    Returns
    -------
    dict
        ``systems`` gives for each name ``texts_per_second`` (``value``: median, ``low`` and ``high``: slowest
        and fastest round), ``file_mib`` (the graph) and ``peak_memory_mib`` (a fresh process that encodes the
        texts once); beside it ``hardware``, ``versions``, ``threads``, ``texts`` and ``repeats``.

    Raises
    ------
    InputError
        A bundle cannot be opened, or there is no text.
    """
    from deft.encoder.runtime import Encoder

    if not texts:
        raise InputError("there is no text to time.")
    threads = threads or processors()
    encoders = {name: Encoder.open(path, threads=threads) for name, path in bundles.items()}
    rates = throughput(encoders, texts, repeats)
    return {
        "systems": {
            name: {
                "texts_per_second": rates[name],
                "file_mib": round(graph_size(path) / _MIB, 2),
                "peak_memory_mib": round(peak_memory(path, texts, threads) / _MIB, 1),
            }
            for name, path in bundles.items()
        },
        "texts": {"n": len(texts), "mean_characters": round(statistics.fmean(map(len, texts)), 1)},
        "repeats": repeats,
        "threads": threads,
        "hardware": hardware(),
        "versions": versions(),
    }


def throughput(
    encoders: Mapping[str, TextEncoder],
    texts: Sequence[str],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Return texts per second of each encoder: median, slowest and fastest round after a warm-up.

    Rounds interleave the encoders, so that a slow spell of the machine falls on all of them.
    """
    for encoder in encoders.values():
        encoder.encode(texts)
    rates: dict[str, list[float]] = {name: [] for name in encoders}
    for _ in range(repeats):
        for name, encoder in encoders.items():
            start = clock()
            encoder.encode(texts)
            rates[name].append(len(texts) / (clock() - start))
    return {name: spread(rounds) for name, rounds in rates.items()}


def spread(rounds: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Return the median of the rounds, the smallest and the largest."""
    found = {"value": statistics.median(rounds), "low": min(rounds), "high": max(rounds)}
    return {name: round(value, digits) for name, value in found.items()}


def graph_size(bundle: Path) -> int:
    """Return the size of a bundle's graph in bytes, with weights that stand in a file beside it."""
    return sum(path.stat().st_size for path in Path(bundle).glob("model.onnx*"))


def peak_memory(bundle: Path, texts: Sequence[str], threads: int) -> int:
    """Return the peak resident memory, in bytes, of a fresh process that encodes texts with a bundle.

    Raises
    ------
    DeftError
        The process failed; its last line is the message.
    """
    request = json.dumps({"bundle": str(bundle), "texts": list(texts), "threads": threads})
    process = subprocess.run(
        [sys.executable, "-m", "deft.bench.speed"],
        input=request,
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        reason = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        raise DeftError(f"{bundle}: the measurement of memory failed: {reason[-1]}")
    return int(json.loads(process.stdout)["peak_memory"])


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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": _about_processor("model name") or platform.processor() or platform.machine(),
        "instructions": [name for name in _INSTRUCTIONS if name in offered],
        "processors": processors(),
        "memory_gib": round(memory / (1 << 30), 1),
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


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _about_processor(name: str) -> str:
    """Return what Linux says of the first processor under a name, "" if nothing."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.partition(":")[0].strip() == name:
                return line.partition(":")[2].strip()
    return ""


def _answer() -> None:
    from deft.encoder.runtime import Encoder

    request = json.load(sys.stdin)
    Encoder.open(Path(request["bundle"]), threads=request["threads"]).encode(request["texts"])
    json.dump({"peak_memory": own_peak_memory()}, sys.stdout)


if __name__ == "__main__":
    _answer()
