"""The folder of an unfinished training run, from which it can go on after an interruption."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deft.files import cannot_write, read_json, write_json

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """The folder that holds the checkpoints of a run until it ends.

    Attributes
    ----------
    folder
        Beside the output of the run, ``.{name}.checkpoints``.
    last
        The last checkpoint that was written to its end; None if training starts afresh.
    """

    folder: Path
    last: str | None

    @classmethod
    def open(cls, out: Path, fingerprint: dict[str, Any], *, resume: bool) -> Checkpoints:
        """Open the folder of the run that writes `out`.

        Parameters
        ----------
        out
            What the run writes when it ends.
        fingerprint
            JSON values that tell the run from others. What another run left in the folder is removed.
        resume
            False removes what is there in any case.

        Raises
        ------
        InputError
            The folder cannot be written.
        """
        folder = out.with_name(f".{out.name}.checkpoints")
        run = folder / "run.json"
        try:
            if folder.exists() and not (resume and _same_run(run, fingerprint)):
                _log.info("%s: left by another run; training starts afresh.", folder)
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        if not run.exists():
            write_json(run, fingerprint)
        complete = [path for path in folder.glob("checkpoint-*") if _readable(path / "trainer_state.json")]
        last = max(complete, key=_step, default=None)
        return cls(folder, None if last is None else str(last))

    def at(self, step: int) -> str:
        """Return the folder of the checkpoint of a step."""
        return str(self.folder / f"checkpoint-{step}")

    def remove(self) -> None:
        """Remove the checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _same_run(run: Path, fingerprint: dict[str, Any]) -> bool:
    return _readable(run) and read_json(run) == fingerprint


def _readable(path: Path) -> bool:
    """Tell whether a JSON file was written to its end."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
