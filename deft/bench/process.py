"""One measurement in a process of its own, which has loaded nothing but what it measures.

Run as a module with the name of a function it does the work of the child: a JSON request comes on standard
input, and its answer goes to standard output.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deft.errors import DeftError

Ready = Callable[[], None]
Task = Callable[[Mapping[str, Any], Ready], dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """What a process answered.

    Attributes
    ----------
    answer
        What its function returned.
    peak_memory
        Bytes that it had resident at most, from its start to its end.
    seconds_to_ready
        From its start, imports and loading included, until it called `ready`.
    """

    answer: dict[str, Any]
    peak_memory: int
    seconds_to_ready: float


def measure(task: str, request: Mapping[str, Any], *, threads: int | None = None) -> Measured:
    """Run a function in a fresh process.

    Parameters
    ----------
    task
        The function, ``module:name``. It is called with the request and with a function `ready`, which it
        calls once when the part is over whose time is taken from the start of the process.
    request
        What JSON can hold.
    threads
        Threads that numerical libraries are told to use.

    Raises
    ------
    DeftError
        The process failed; its last line is the message.
    """
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "deft.bench.process", task]
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter()
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=errors, text=True, encoding="utf-8", env=environment
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                json.dump(request, process.stdin)
                process.stdin.close()
            except BrokenPipeError:  # it failed before it read; what it says of that comes below
                pass
            process.stdout.readline()
            ready = time.perf_counter() - start
            answer = process.stdout.readline()
        if process.returncode != 0 or not answer:
            errors.seek(0)
            reason = errors.read().strip().splitlines() or [f"exit code {process.returncode}"]
            raise DeftError(f"the measurement {task} failed: {reason[-1]}")
    document = json.loads(answer)
    return Measured(document["answer"], document["peak_memory"], ready)


def answer(task: str) -> None:
    """Do the work of the child."""
    from deft.bench.machine import own_peak_memory

    channel, sys.stdout = sys.stdout, sys.stderr  # libraries print
    module, _, name = task.partition(":")
    function: Task = getattr(importlib.import_module(module), name)
    said: list[str] = []

    def ready() -> None:
        said.append("ready")
        print("ready", file=channel, flush=True)

    found = function(json.load(sys.stdin), ready)
    if not said:
        ready()
    print(json.dumps({"answer": found, "peak_memory": own_peak_memory()}), file=channel, flush=True)


if __name__ == "__main__":
    answer(sys.argv[1])
