"""Speed, size and memory of encoder bundles: the stage of the pipeline, by the means of the benchmark."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deft.bench.machine import MIB, hardware, spread, versions
from deft.bench.process import Measured
from deft.bench.run import graph_size, run_system
from deft.encoder.settings import usable_cores
from deft.errors import InputError


def measure_bundles(
    bundles: Mapping[str, Path],
    texts: Sequence[str],
    *,
    repeats: int = 3,
    seconds: float = 1.0,
    threads: int | None = None,
) -> dict[str, Any]:
    """Measure encoder bundles on the same texts, each time in a process of its own.

    Parameters
    ----------
    bundles
        A folder for each system, by the system's name.
    texts
        Texts to encode in one call.
    repeats
        Rounds; a round measures every system once, so that a slow spell of the machine falls on all.
    seconds
        Time that the passes over the texts take at least, after one that warms up.
    threads
        Threads of a system; as many as this process may use processors if not given.

    Returns
    -------
    dict
        ``systems`` gives for each name ``texts_per_second`` (``value``: median, ``low`` and ``high``: slowest
        and fastest round), ``file_mib`` (the graph) and ``peak_memory_mib`` (median over the rounds); beside
        it ``hardware``, ``versions``, ``threads``, ``texts`` and ``repeats``.

    Raises
    ------
    InputError
        There is no text.
    DeftError
        A bundle cannot be opened, or its process failed.
    """
    if not texts:
        raise InputError("there is no text to time.")
    threads = threads or usable_cores()
    runs: dict[str, list[Measured]] = {name: [] for name in bundles}
    for _ in range(repeats):
        for name, folder in bundles.items():
            runs[name].append(run_system("deft", folder, texts, threads=threads, seconds=seconds))
    return {
        "systems": {
            name: {
                "texts_per_second": spread([run.answer["texts_per_second"] for run in runs[name]]),
                "file_mib": round(graph_size(folder) / MIB, 2),
                "peak_memory_mib": round(statistics.median(run.peak_memory for run in runs[name]) / MIB, 1),
            }
            for name, folder in bundles.items()
        },
        "texts": {"n": len(texts), "mean_characters": round(statistics.fmean(map(len, texts)), 1)},
        "repeats": repeats,
        "threads": threads,
        "hardware": hardware(),
        "versions": versions(),
    }
