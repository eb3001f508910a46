"""Spoil files that are right, and see that a reader answers them or says in one line what is wrong.

`pytest tests/test_fuzz.py` tries some hundred of each kind. At length, for developers:

    python -m tests.fuzz --count 20000 --seed 7            # every door
    python -m tests.fuzz --door lexicon --case 7:123       # one case again, with its traceback

A case is a seed and a number; it is the same file on every machine. Each door runs in a process of its own
with a limit on its memory, so that a crash or gigabytes are a finding too.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MEMORY = 6 * 2**30  # bytes of address space: libraries map some, a reader of small files needs little
SLOW = 10.0  # seconds for one small file

NASTY = (
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xe2\x80\xa8", b"\x1a", b"\r", b"\r\n\r\n"),
    *(
        b'"',
        b'""',
        b"'",
        b"\\",
        b"\t",
        b"|",
        b";",
        b",",
        b"\n\n",
        b"=1+1",
        b"<!--",
        b"&amp;&x;",
        b"%00",
        b"#",
    ),
    *(b"nan", b"NULL", b"inf", b"-1", b"1e999", b"0x10", b"1_0", b"C", b"C00", b"C0012569x", b"X0012569"),
    *("١٢".encode(), "²".encode(), "é".encode("cp1252"), "é".encode("utf-16-le"), "ﬁ\u0301".encode()),
    *(b"9" * 5000, b"a" * 140_000, b"[" * 3000, b"{" * 3000, b"<a>" * 3000, b"," * 5000, b"\n" * 500),
    *(b"!!int abc", b"&a [*a]", b"2020-13-45", b"0x" + b"f" * 5000, b"- - - - -", b"null", b"true", b"[]"),
)


def spoil(data: bytes, draw: random.Random) -> bytes:
    """Change a file in one to four places: as disks, editors, exports and the ill-willed do."""
    for _ in range(draw.randint(1, 4)):
        data = draw.choice(_WAYS)(data, draw)
    return data


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randint(0, len(data))]


def _flip(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _insert(data: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + draw.choice(NASTY) + data[at:]


def _replace_field(data: bytes, draw: random.Random) -> bytes:
    """Put something nasty in the place of a whole field, value or tag."""
    ends = [0, *(at + 1 for at, byte in enumerate(data[:100_000]) if byte in b'\t\n|;,:"<>'), len(data)]
    first = draw.randrange(len(ends) - 1)
    return data[: ends[first]] + draw.choice(NASTY) + data[max(ends[first], ends[first + 1] - 1) :]


def _drop(data: bytes, draw: random.Random) -> bytes:
    first = draw.randint(0, len(data))
    return data[:first] + data[first + draw.randint(1, 200) :]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    first = draw.randint(0, len(data))
    part = data[first : first + draw.randint(1, 300)]
    return data[:first] + part * draw.choice((2, 3, 50)) + data[first:]


def _shuffle_lines(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    draw.shuffle(lines)
    return b"".join(lines)


def _encode(data: bytes, draw: random.Random) -> bytes:
    text = data.decode("utf-8", errors="replace")
    return text.encode(
        draw.choice(("utf-16", "utf-16-be", "utf-32", "cp1252", "utf-8-sig")), errors="replace"
    )


_WAYS = (_cut, _flip, _flip, _insert, _insert, _replace_field, _replace_field, _drop, _repeat)
_WAYS += (_shuffle_lines, _encode)


@dataclass(frozen=True)
class Door:
    """Where a kind of file comes in: what is right, and the function that reads it."""

    name: str
    """Name of the file as the reader gets it."""
    read: Callable[[Path], object]
    seeds: Callable[[], list[bytes]]


@dataclass(frozen=True)
class Finding:
    """A file that was not answered as it should be."""

    door: str
    case: str
    what: str


def cases(door: Door, seed: int, count: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
    """Give the spoilt files of a door."""
    seeds = door.seeds()
    for number in range(first, first + count):
        draw = random.Random(f"{seed}:{number}")
        yield number, spoil(draw.choice(seeds), draw)


def try_door(key: str, seed: int, count: int, first: int = 0) -> Iterator[Finding]:
    """Read spoilt files, and give those that raise what is no `DeftError`, or take long."""
    from deft.errors import DeftError
    from tests.fuzz_doors import DOORS

    door = DOORS[key]
    with tempfile.TemporaryDirectory() as folder:
        for number, data in cases(door, seed, count, first):
            path = Path(folder) / door.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            began = time.perf_counter()
            print(json.dumps({"at": number}), flush=True)
            try:
                door.read(path)
            except DeftError as error:
                if "\n" in str(error):
                    yield Finding(key, f"{seed}:{number}", f"more than one line: {error!r:.200}")
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                yield Finding(key, f"{seed}:{number}", f"{type(error).__name__}: {error!s:.200}")
            if (took := time.perf_counter() - began) > SLOW:
                yield Finding(key, f"{seed}:{number}", f"took {took:.0f} s")


def run_door(key: str, seed: int, count: int) -> list[Finding]:
    """Try a door in a process of its own; when it dies, that is a finding, and the next case goes on."""
    found, first = [], 0
    while first < count:
        command = [
            sys.executable,
            "-m",
            "tests.fuzz",
            "--inside",
            key,
            str(seed),
            str(count - first),
            str(first),
        ]
        child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
        found += [Finding(**line) for line in lines if "what" in line]
        if child.returncode == 0:
            break
        if not lines:
            raise RuntimeError(child.stderr)
        at = max(line["at"] for line in lines if "at" in line)
        what = f"the process ended with {child.returncode}: {child.stderr[-600:]}"
        found.append(Finding(key, f"{seed}:{at}", what))
        first = at + 1
    return found


def _inside(key: str, seed: str, count: str, first: str) -> None:
    faulthandler.enable()
    logging.disable()
    with suppress(ImportError):  # not on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for finding in try_door(key, int(seed), int(count), int(first)):
        print(json.dumps(asdict(finding)), flush=True)


def _again(key: str, case: str) -> None:
    """Read the file of one case, and let the traceback through."""
    from tests.fuzz_doors import DOORS

    seed, number = map(int, case.split(":"))
    with tempfile.TemporaryDirectory() as folder:
        for _, data in cases(DOORS[key], seed, 1, number):
            path = Path(folder) / DOORS[key].name
            path.write_bytes(data)
            print(f"{len(data)} bytes: {data[:2000]!r}")
            print(DOORS[key].read(path))


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--door", action="append", help="a kind of file (default: all)")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--count", type=int, default=2000, help="files a door")
    parser.add_argument("--case", help="SEED:NUMBER of one file, read with its traceback")
    parser.add_argument("--inside", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        return _inside(*given.inside)
    if given.case:
        return _again(given.door[0], given.case)
    from tests.fuzz_doors import DOORS

    found = []
    for key in given.door or DOORS:
        new = run_door(key, given.seed, given.count)
        found += new
        print(f"{key}: {given.count} files, {len(new)} findings")
        for finding in new[:20]:
            print(f"  {finding.case}  {finding.what}")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
