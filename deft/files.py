"""Reading with errors that name the place, writing that leaves nothing half-written, and checksums."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import logging
import mmap
import os
import re
import secrets
import shutil
import stat
import sys
import time
import zlib
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, cast

from deft.errors import InputError, one_line

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
STDIN = Path("-")
_HARMLESS = {".gitignore", ".gitkeep", ".DS_Store"}  # a folder with nothing else counts as empty
_DESCRIPTOR = re.compile(r"/dev/(?:(stdin|stdout|stderr)|fd/(\d+))|/proc/self/fd/(\d+)")
_STREAMS = ("stdin", "stdout", "stderr")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

_CHUNK = 1 << 20
_PATIENCE = (0.01, 0.03, 0.1)  # seconds

LARGEST_TEXT = 512 << 20
"""Bytes that a text may have: a small file of gzip can swell to any size, and a pipe has no end."""

LARGEST_JSON = 256 << 20


@contextmanager
def atomic_write(path: Path, *, binary: bool = False) -> Iterator[IO[Any]]:
    """Open a file beside `path` for writing (UTF-8 unless `binary`) and rename it to `path` at the end.

    If the block raises, `path` is as it was before and nothing is left beside it. A link stays a link, and
    the file that it points to is replaced. What is no regular file, such as a named pipe or `/dev/stdout`, is
    written to directly.

    Raises
    ------
    InputError
        The folder cannot be written, or the disk is full.
    """
    path = Path(path)
    how: dict[str, Any] = {} if binary else {"encoding": "utf-8", "newline": ""}
    mode = "b" if binary else ""
    try:
        descriptor = _descriptor(path)
        if descriptor is not None:
            if sys.stdout is not None:
                sys.stdout.flush()  # what was printed before comes before
            with os.fdopen(os.dup(descriptor), "w" + mode, **how) as stream:
                yield stream
        elif path.exists() and not path.is_file():
            with path.open("w" + mode, **how) as stream:
                yield stream
        else:
            with _replacement(Path(os.path.realpath(path)), mode, how) as stream:
                yield stream
    except OSError as error:
        raise cannot_write(path, error) from error


def _descriptor(path: Path) -> int | None:
    """Return the open file that `/dev/stdout` and the like name; opened by name it would be cut off."""
    named = _DESCRIPTOR.fullmatch(str(path)) if os.name == "posix" else None
    if named is None:
        return None
    stream, *numbers = named.groups()
    return _STREAMS.index(stream) if stream else int(next(filter(None, numbers)))


@contextmanager
def _replacement(target: Path, mode: str, how: dict[str, Any]) -> Iterator[IO[Any]]:
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("x" + mode, **how) as stream:  # made by this process, never through a link
            if fcntl is not None:
                with suppress(OSError):  # some file systems have no locks
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield stream
        _put(partial, target)
    finally:
        with suppress(OSError):  # its folder is no folder: nothing was written
            partial.unlink(missing_ok=True)


def _put(partial: Path, target: Path) -> None:
    for wait in _PATIENCE:
        try:
            partial.replace(target)
        except PermissionError:  # on Windows, while someone reads the target
            time.sleep(wait)
        else:
            return
    partial.replace(target)


def _remove_leftovers(target: Path) -> None:
    """Remove what killed processes left half-written of a file; what a living one writes is locked."""
    form = re.compile(re.escape(f".{target.name}.") + "[0-9a-f]{8}[.]part")
    with os.scandir(target.parent) as entries:
        found = [entry.path for entry in entries if form.fullmatch(entry.name)]
    for leftover in found:
        with suppress(OSError):  # it is written, someone else's, or gone
            if not stat.S_ISREG(os.lstat(leftover).st_mode):
                continue
            if fcntl is not None:
                with Path(leftover).open("rb") as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(leftover).unlink()


@contextmanager
def atomic_folder(path: Path, *, marker: str | None = None) -> Iterator[Path]:
    """Give a new folder beside `path` to fill, and put it in the place of `path` at the end.

    Readers see the old folder or the new one, never a mixture. Leftovers of a process that was killed are
    removed first; if the block raises, `path` is as it was before.

    Parameters
    ----------
    path
        The folder to make or to replace.
    marker
        A file that every folder of this kind holds. If given, a folder with other things in it is not
        replaced.

    Raises
    ------
    InputError
        `path` is a file or someone's folder, its parent cannot be written, the disk is full, or another
        process writes it.
    """
    folder = Path(path).resolve()  # the folder that a link points to is replaced, not the link
    partial, old, lock = (folder.parent / f".{folder.name}.{what}" for what in ("part", "old", "lock"))
    try:
        check_replaceable(path, () if marker is None else (marker,))
        with made_folders(folder.parent), only_writer(lock, path):
            if is_own_folder(old) and not folder.exists():  # killed between the two renames below
                old.replace(folder)
            remove_folder(old)
            remove_folder(partial)
            partial.mkdir()
            try:
                yield partial
                if folder.exists():
                    folder.replace(old)
                partial.replace(folder)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def only_writer(lock: Path, path: Path, *, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock while `path` is written; the system lifts it if the process dies.

    Parameters
    ----------
    lock
        The file of the lock. It is removed at the end unless others may wait for it.
    path
        What a message names.
    patience
        Seconds to wait for another process.

    Raises
    ------
    InputError
        Another process holds it, or it cannot be written.
    """
    from filelock import FileLock, Timeout  # a term is mapped without it

    held = FileLock(lock, timeout=patience)
    try:
        held.acquire()
    except OSError as error:
        if not isinstance(error, Timeout):  # which is one of them
            raise cannot_write(path, error) from error
        remedy = "Wait until it is done, or choose another output."
        raise InputError("is being written by another process.", path=path, remedy=remedy) from None
    try:
        yield
    finally:
        if not patience:
            with suppress(OSError):
                lock.unlink()  # while it is held: who comes now makes a new one
        held.release()
        if not patience and os.name == "nt":  # where an open file cannot be removed
            with suppress(OSError):
                lock.unlink(missing_ok=True)


@contextmanager
def made_folders(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; at the end, those that were made and are empty go."""
    absent = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for each in absent:
            with suppress(OSError):  # what is not empty stays
                each.rmdir()


def is_own_folder(path: Path) -> bool:
    """Tell whether `path` is a folder and not a link to one."""
    return path.is_dir() and not path.is_symlink()


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, if there is one; never what a link leads to.

    Raises
    ------
    InputError
        It is a link or a file: someone else put it there.
    """
    if not os.path.lexists(path):
        return
    if not is_own_folder(path):
        raise InputError("is in the way and is no folder.", path=path, remedy="Remove it.")
    shutil.rmtree(path)


def cannot_write(path: Path, error: OSError) -> InputError:
    """Turn an operating system error on writing `path` into one that says what to do."""
    return InputError(
        f"cannot be written: {error.strerror or error}.",
        path=path,
        remedy="Check that the folder is writable and the disk has room, or choose another output.",
    )


def cannot_read(path: Path, error: Exception) -> InputError:
    """Turn an error on opening or decompressing `path` into one that names the file."""
    return InputError(f"cannot be read: {one_line(error)}.", path=path)


def read_text(path: Path, *, mixed: bool = False, largest: int = LARGEST_TEXT) -> str:
    """Read a text in UTF-8, with or without byte order mark, plain or gzip; line ends are kept as they are.

    Parameters
    ----------
    path
        The file; `STDIN` is standard input.
    mixed
        Take UTF-16 as well, and a line that is not UTF-8 for Windows-1252, and log which lines those are:
        files that were pasted together have both.
    largest
        Bytes that it may have, decompressed.

    Raises
    ------
    InputError
        The file is missing, cut short, too large, or not UTF-8.
    """
    path = Path(path)
    data = bytearray()
    try:
        with _bytes_of(path) as stream:
            while len(data) <= largest and (part := stream.read(_CHUNK)):
                data += part
    except (OSError, EOFError, zlib.error) as error:
        raise cannot_read(path, error) from error
    if len(data) > largest:
        problem = f"holds more than {largest >> 20} MiB, which is more than is read at once."
        raise InputError(problem, path=path, remedy="Is it the right file? Split it if it is.")
    if data.startswith(_UTF16):
        try:
            if mixed:
                return data.decode("utf-16")
        except UnicodeDecodeError as error:
            raise InputError("is cut short, or no UTF-16.", path=path) from error
        raise _not_utf8(path, 1, "UTF-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if mixed:
            return _decode_lines(path, data.removeprefix(codecs.BOM_UTF8))
        raise _not_utf8(path, data.count(b"\n", 0, error.start) + 1, "WINDOWS-1252") from error


def _bytes_of(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _decode_lines(path: Path, data: bytearray) -> str:
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


def rises(values: Any, *, least: int = 0) -> bool:  # noqa: ANN401 - an array of NumPy
    """Tell whether each number is the one before it at the least, and `least` more."""
    after, before = values[1:], values[:-1]
    return bool((after > before).all() if least else (after >= before).all())


def within(values: Any, stop: int, *, start: int = 0) -> bool:  # noqa: ANN401 - an array of NumPy
    """Tell whether all numbers are from `start` to `stop`, which is not one of them."""
    return not len(values) or bool(values.min() >= start and values.max() < stop)


def read_json(path: Path) -> Any:  # noqa: ANN401 - JSON is any type
    """Read a JSON file.

    Raises
    ------
    InputError
        The file is missing, is not JSON, or is too large, too deeply nested or holds a number of more digits
        than Python reads.
    """
    text = read_text(path, largest=LARGEST_JSON)
    try:
        value = json.loads(text)
        if _SURROGATE.search(text):  # half a character has no place in a text and could not be written again
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InputError("is not valid JSON (it holds half a character).", path=path) from error
    except RecursionError as error:
        raise InputError("is not valid JSON here: it is nested too deeply.", path=path) from error
    except ValueError as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"is not valid JSON ({error}).", path=path, line=line) from error
    return value


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically."""
    with atomic_write(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


def check_replaceable(path: Path, markers: Collection[str] = ()) -> None:
    """Check that a folder may be made at `path`, or replaced there.

    Parameters
    ----------
    path
        The folder.
    markers
        Names of which a folder of this kind holds one at least; if none is given, any folder is replaced.

    Raises
    ------
    InputError
        It is a file, or a folder with other things in it.
    """
    if path.is_dir():
        content = {entry.name for entry in path.iterdir()} - _HARMLESS
        if markers and content and content.isdisjoint(markers):
            raise InputError(
                f"holds other things and is not replaced (it has no {next(iter(markers))}).",
                path=path,
                remedy="Choose another output, or empty the folder.",
            )
    elif path.exists():
        raise InputError("is a file, not a folder.", path=path, remedy="Choose another output.")


def _not_utf8(path: Path, line: int, likely: str) -> InputError:
    remedy = f"Convert it, for example: iconv -f {likely} -t UTF-8 FILE > NEW."
    return InputError("is not UTF-8.", path=path, line=line, remedy=remedy)
