"""Reading with errors that name the place, writing that leaves nothing half-written, and checksums."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import logging
import mmap
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from deft.errors import InputError

logger = logging.getLogger(__name__)

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_JOB, _LOCK = "job.json", "lock"
STDIN = Path("-")
WORKING_FILES = (_JOB, _LOCK)
"""What is in a folder only while it is being written."""

_HARMLESS = {".gitignore", ".gitkeep", ".DS_Store"}  # a folder with nothing else counts as empty


@contextmanager
def atomic_write(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file beside `path` for writing (UTF-8 unless `binary`) and rename it to `path` at the end.

    If the block raises, `path` is as it was before and nothing is left beside it. What is no regular file,
    such as `/dev/stdout`, is written to directly.

    Raises
    ------
    InputError
        The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    direct = _is_special(path)
    partial = path if direct else path.with_name(f".{path.name}.part")
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        mode, encoding = ("wb", None) if binary else ("w", "utf-8")
        with partial.open(mode, encoding=encoding, newline=None if binary else "") as stream:
            yield stream
        if not direct:
            partial.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if not direct:
            _remove(partial)


@contextmanager
def atomic_folder(
    path: Path, *, marker: str | None = None, job: Mapping[str, Any] | None = None, worth: str = ""
) -> Iterator[Path]:
    """Give a new folder beside `path` to fill, and put it in the place of `path` at the end.

    Readers see the old folder or the new one, never a mixture. Leftovers of a build that was killed are
    removed first; if the block raises, `path` is as it was before.

    Parameters
    ----------
    path
        The folder to make or to replace.
    marker
        A file that every folder of this kind holds. If given, a folder with other things in it is not
        replaced.
    job
        What makes the folder what it is, as JSON. If given, what a build with the same job left behind when
        it was interrupted is not removed, but given to go on with.
    worth
        The file from which on that is worth while: without it, nothing is left behind.

    Raises
    ------
    InputError
        `path` is a file or someone's folder, its parent cannot be written, the disk is full, or another
        process writes it.
    """
    folder = Path(path).resolve()  # the folder that a link points to is replaced, not the link
    partial = folder.parent / f".{folder.name}.part"
    old = folder.parent / f".{folder.name}.old"
    absent = [parent for parent in folder.parents if not parent.exists()]
    try:
        _check_replaceable(path, folder, marker)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_writer(partial, path):
            kept = False
            try:
                if old.exists() and not folder.exists():  # killed between the two renames below
                    old.replace(folder)
                shutil.rmtree(old, ignore_errors=True)
                _empty(partial, unless=job)
                yield partial
                if folder.exists():
                    folder.replace(old)
                partial.replace(folder)
                for name in WORKING_FILES:
                    (folder / name).unlink(missing_ok=True)
                shutil.rmtree(old, ignore_errors=True)
            except BaseException:
                kept = job is not None and (partial / worth).exists()
                if kept:
                    logger.warning("%s: what was done is kept; the same command goes on from there.", partial)
                raise
            finally:
                if not kept:
                    shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        for parent in absent:
            with suppress(OSError):  # what is not empty stays
                parent.rmdir()


@contextmanager
def _only_writer(partial: Path, path: Path) -> Iterator[None]:
    """Make the folder that is worked in, and hold a lock in it; the system lifts it if the process dies."""
    from filelock import FileLock, Timeout

    while True:
        partial.mkdir(exist_ok=True)
        lock = FileLock(partial / _LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            remedy = "Wait until it is done, or choose another output."
            raise InputError("is being written by another process.", path=path, remedy=remedy) from None
        except FileNotFoundError:  # the other process was done just now
            continue
        if (partial / _LOCK).exists():
            break
        lock.release()
    try:
        yield
    finally:
        lock.release()


def _empty(partial: Path, *, unless: Mapping[str, Any] | None) -> None:
    """Remove what is in a folder, unless it comes from this job; note the job."""
    note = None if unless is None else json.dumps(unless, sort_keys=True)
    job = partial / _JOB
    if note is not None and job.exists() and job.read_text(encoding="utf-8") == note:
        return
    for entry in partial.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != _LOCK:
            entry.unlink()
    if note is not None:
        job.write_text(note, encoding="utf-8")


def cannot_write(path: Path, error: OSError) -> InputError:
    """Turn an operating system error on writing `path` into one that says what to do."""
    return InputError(
        f"cannot be written: {error.strerror or error}.",
        path=path,
        remedy="Check that the folder is writable and the disk has room, or choose another output.",
    )


def cannot_read(path: Path, error: Exception) -> InputError:
    """Turn an error on opening or decompressing `path` into one that names the file."""
    return InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}.", path=path)


def read_text(path: Path, *, mixed: bool = False) -> str:
    """Read a text in UTF-8, with or without byte order mark, plain or gzip; line ends are kept as they are.

    Parameters
    ----------
    path
        The file; `STDIN` is standard input.
    mixed
        Take a line that is not UTF-8 for Windows-1252, and log which lines those are: files that were pasted
        together have both.

    Raises
    ------
    InputError
        The file is missing, cut short, or not UTF-8.
    """
    path = Path(path)
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise cannot_read(path, error) from error
    if data.startswith(_UTF16):
        raise _not_utf8(path, 1, "UTF-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if mixed:
            return _decode_lines(path, data.removeprefix(codecs.BOM_UTF8))
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, "WINDOWS-1252") from error


def _decode_lines(path: Path, data: bytes) -> str:
    lines, guessed = [], []
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        try:
            lines.append(line.decode("utf-8"))
        except UnicodeDecodeError:
            lines.append(line.decode("cp1252", errors="replace"))
            guessed.append(number)
    shown = ", ".join(map(str, guessed[:5])) + (" ..." if len(guessed) > 5 else "")
    logger.warning("%s: %d lines are not UTF-8 and were read as Windows-1252: %s.", path, len(guessed), shown)
    return "".join(lines)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def release(mapped: Any) -> None:  # noqa: ANN401 - an array of NumPy or a map
    """Give the pages of a file that is mapped into memory back to the system.

    They stay in its cache, and are mapped again when they are read. Without this a process that looks here
    and there ends up with the whole file as its resident memory.

    Parameters
    ----------
    mapped
        A `mmap.mmap`, or an array of NumPy that is one or is a view of one; of others nothing happens.
    """
    while mapped is not None and not isinstance(mapped, mmap.mmap):
        mapped = getattr(mapped, "_mmap", None) or getattr(mapped, "base", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is any type
    """Read a JSON file.

    Raises
    ------
    InputError
        The file is missing or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"is not valid JSON ({error}).", path=path, line=line) from error


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


def _check_replaceable(path: Path, folder: Path, marker: str | None) -> None:
    if folder.is_dir():
        content = {entry.name for entry in folder.iterdir()} - _HARMLESS
        if marker is not None and content and marker not in content:
            raise InputError(
                f"holds other things and is not replaced (it has no {marker}).",
                path=path,
                remedy="Choose another output, or empty the folder.",
            )
    elif folder.exists():
        raise InputError("is a file, not a folder.", path=path, remedy="Choose another output.")


def _is_special(path: Path) -> bool:
    try:
        return path.exists() and not path.is_file()
    except OSError:  # writing will fail as well and say why
        return False


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # its folder is no folder: nothing was written
        return


def _not_utf8(path: Path, line: int, likely: str) -> InputError:
    remedy = f"Convert it, for example: iconv -f {likely} -t UTF-8 FILE > NEW."
    return InputError("is not UTF-8.", path=path, line=line, remedy=remedy)
