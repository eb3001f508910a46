"""Checksums of inputs that `dvc.yaml` cannot list: there may be several, or none, or one that is no file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deft.config import Params
from deft.files import atomic_folder, cannot_read, sha256, write_json


def write_checksums(params: Params, out: Path) -> None:
    """Write the SHA-256 of such inputs by path, a JSON file a stage."""
    checksums = watched(params)
    with atomic_folder(out, marker="prepare.json") as folder:
        for stage, files in checksums.items():
            write_json(folder / f"{stage}.json", files)


def watched(params: Params) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of such inputs, by stage and by path.

    Raises
    ------
    InputError
        A file is missing.
    """
    base = Path(params.finetune.base)  # a model of the Hub is no folder
    inputs: dict[str, Sequence[Path | None]] = {
        "prepare": [*params.prepare.held_out, params.prepare.t1_train],
        "finetune": sorted(path for path in base.rglob("*") if path.is_file()) if base.is_dir() else [],
        "quantize": [params.quantize.t1, params.quantize.t2],
    }
    return {
        stage: {path.as_posix(): _checksum(path) for path in paths if path is not None}
        for stage, paths in inputs.items()
    }


def _checksum(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise cannot_read(path, error) from error
