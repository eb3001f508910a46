"""Releases of an index: each a folder that does not change, and a pointer to the one that answers.

    umls_index/current        which release answers, as JSON; replaced in one step
    umls_index/release-1/     tables, vectors, encoder and manifest
    umls_index/mapping.json   a mapping model that was fitted to the index, if there is one

A build fills a release of its own and moves the pointer when all of it is there and opens. Killed at any
moment it leaves a pointer to a whole release, the old one or the new one. A reader that follows the pointer
and does not find what it leads to looks again: another release has taken its place.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from deft.errors import InputError
from deft.files import (
    cannot_write,
    check_replaceable,
    is_own_folder,
    made_folders,
    only_writer,
    read_json,
    remove_folder,
    write_json,
)

POINTER = "current"
OWN_MODEL = "mapping.json"
"""A mapping model that was fitted to the index, if there is one."""

REBUILD = "Build it again with `deft index build`."

_RELEASE = re.compile(r"release-([1-9][0-9]{0,8})")
_LOCK, _JOB = ".deft-lock", ".deft-job.json"
_EARLIER = "manifest.json"  # where earlier versions had the files of a release, beside this one
_EARLIER_FILES = ("*.arrow", "*.npy", "*.faiss", _EARLIER)

logger = logging.getLogger(__name__)

Opened = TypeVar("Opened")


def current_release(index: Path) -> Path:
    """Return the folder of the release that answers.

    Raises
    ------
    InputError
        The folder is no index, or is one of an earlier version.
    """
    index = Path(index)
    path = index / POINTER
    if not path.is_file():
        if (index / _EARLIER).is_file():
            raise InputError("is an index of an earlier version of deft.", path=index, remedy=REBUILD)
        remedy = "Build one with `deft index build --umls FOLDER`."
        raise InputError(f"is no index (it has no file `{POINTER}`).", path=index, remedy=remedy)
    values = read_json(path)
    name = values.get("release") if isinstance(values, dict) else None
    if not isinstance(name, str) or not _RELEASE.fullmatch(name):
        raise InputError("names no release.", path=path, field="release", remedy=REBUILD)
    return index / name


def open_release(index: Path, open_folder: Callable[[Path], Opened]) -> Opened:
    """Open the release that answers, whole: if another takes its place meanwhile, that one.

    Raises
    ------
    InputError
        The folder is no index, or what `open_folder` raises.
    """
    while True:
        folder = current_release(index)
        try:
            return open_folder(folder)
        except (InputError, OSError):
            if current_release(index) == folder:
                raise


@contextmanager
def new_release(
    index: Path, job: Mapping[str, Any], *, worth: str, base: Path | None = None
) -> Iterator[Path]:
    """Give the folder of a new release to fill, and let it answer at the end.

    Parameters
    ----------
    index
        The index, made if there is none.
    job
        What makes the release what it is, as JSON. What the same job left behind when it was interrupted is
        given to go on with.
    worth
        The file from which on that is worth while: without it, nothing is left behind.
    base
        The release that the new one is made from, if it is: it has to be the one that answers.

    Raises
    ------
    InputError
        `index` is a file or someone's folder, it cannot be written, the disk is full, or another process
        writes it or has changed it.
    """
    index = Path(index)
    root = index.resolve()  # the folder that a link points to, not the link
    begun = [folder.name for folder in _releases(root) if _is_begun(folder)]
    try:
        check_replaceable(index, (POINTER, _EARLIER, _LOCK, *begun))
        with made_folders(root), only_writer(root / _LOCK, index):
            if base is not None and current_release(root) != base.resolve():
                problem = "was changed by another process meanwhile."
                raise InputError(problem, path=index, remedy="Run the command again.")
            folder = _begin(root, json.dumps(job, sort_keys=True).encode())
            try:
                yield folder
                write_json(root / POINTER, {"release": folder.name})
            except BaseException:
                _give_up(folder, worth)
                raise
            with suppress(OSError):  # it answers already
                (folder / _JOB).unlink()
                _remove_others(folder)
    except OSError as error:
        raise cannot_write(index, error) from error


def _releases(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if _RELEASE.fullmatch(path.name) and is_own_folder(path))


def _is_begun(folder: Path) -> bool:
    """Tell whether a release is of a build that did not come to its end."""
    return (folder / _JOB).is_file() or not any(folder.iterdir())


def _answers(folder: Path) -> bool:
    try:
        return current_release(folder.parent) == folder
    except InputError:
        return False


def _begin(root: Path, note: bytes) -> Path:
    """Return the release that the same job has begun, or a new one; others that were begun go."""
    for folder in _releases(root):
        job = folder / _JOB
        if _answers(folder):
            job.unlink(missing_ok=True)  # killed when the pointer had been moved
        elif job.is_file() and job.read_bytes() == note:
            for entry in folder.glob(".*"):
                if entry != job:  # half-written
                    remove_folder(entry) if is_own_folder(entry) else entry.unlink()
            return folder
        elif _is_begun(folder):
            remove_folder(folder)
    numbers = [int(folder.name.partition("-")[2]) for folder in _releases(root)]
    folder = root / f"release-{1 + max(numbers, default=0)}"
    folder.mkdir()
    (folder / _JOB).write_bytes(note)
    return folder


def _give_up(folder: Path, worth: str) -> None:
    if (folder / worth).exists():
        logger.warning("%s: what was done is kept; the same command goes on from there.", folder)
    elif not _answers(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _remove_others(folder: Path) -> None:
    """Remove what answered before. What cannot be removed, as others read it on Windows, goes next time."""
    root = folder.parent
    for other in _releases(root):
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    if (root / _EARLIER).is_file():
        for path in [path for pattern in _EARLIER_FILES for path in root.glob(pattern)]:
            path.unlink()
        shutil.rmtree(root / "encoder", ignore_errors=True)
