"""An index whose files were damaged and kept their size is refused or answers: it never crashes.

In a process of its own, so that a crash is seen as a failure. At length, for developers:

    python tests/index/test_damage.py INDEX FOLDER SEED COUNT    # COUNT cases a file, of a copy in FOLDER
"""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from demo import Atom, write_umls

CASES = 12
PATTERNS = (b"\x00", b"\xff", b"\x7f", b"\x80\x00\x00\x00", b"\x01\x00", b"\xff\xff\xff\x7f")


def damage(data: bytes, draw: random.Random) -> bytes:
    """Return bytes of the same length: a bit turned, or a part overwritten or taken from elsewhere."""
    changed = bytearray(data)
    start = draw.randrange(len(data))
    if draw.random() < 0.4:  # headers are at the ends
        start = draw.choice((draw.randrange(min(200, len(data))), -1 - draw.randrange(min(900, len(data)))))
    start %= len(data)
    size = min(draw.choice((1, 1, 4, 8, 64, 1024)), len(data) - start)
    way = draw.randrange(4)
    if way == 0:
        changed[start] ^= 1 << draw.randrange(8)
    elif way == 1:
        changed[start : start + size] = (draw.choice(PATTERNS) * size)[:size]
    elif way == 2:
        changed[start : start + size] = draw.randbytes(size)
    else:
        other = draw.randrange(len(data) - size + 1)
        changed[start : start + size] = data[other : other + size]
    return bytes(changed)


def main(index: str, folder: str, seed: str, count: str) -> None:
    """Damage each file of a copy of an index in turn; print what was neither refused nor answered."""
    from deft.encoder.runtime import Encoder
    from deft.errors import InputError
    from deft.index.parts import Parts
    from deft.index.releases import current_release
    from deft.mapping.fusion import SHIPPED, MappingModel
    from deft.mapping.mapper import TermMapper

    release = current_release(Path(shutil.copytree(index, folder)))
    encoder, model = Encoder.open(release / "encoder"), MappingModel.read(SHIPPED)
    files = [path for path in sorted(release.iterdir()) if path.is_file()]
    refused = answered = 0
    for path in files:
        data = path.read_bytes()
        for case in range(int(count)):
            sys.stderr.write(f"{path.name} {case}\n")
            path.write_bytes(damage(data, random.Random(f"{seed} {path.name} {case}")))
            try:
                parts = Parts.open(release)
                mapper = TermMapper(parts.concepts, parts.dense, parts.lexical, encoder, model=model)
                mapper.map(["nom 7", "rhume"], k=3)
                answered += 1
            except InputError as error:
                refused += 1
                if "\n" in str(error):
                    raise
            path.unlink()  # a new file each time: the old one is mapped
            path.write_bytes(data)
    sys.stdout.write(json.dumps({"files": len(files), "refused": refused, "answered": answered}))


@pytest.fixture(scope="module", params=["flat", "ivf"])
def index(request, bundle, tmp_path_factory):
    from deft.index.build import build_index

    folder = tmp_path_factory.mktemp(request.param)
    atoms = [Atom(f"C{place:07d}", f"nom {place}") for place in range(70)]
    atoms += [Atom(f"C{place:07d}", f"name {place}", "ENG", source="MSH") for place in range(0, 70, 2)]
    umls = write_umls(folder / "umls", atoms, types=[(f"C{place:07d}", "T047") for place in range(70)])
    build_index(umls, bundle, folder / "index", kind=request.param)
    return folder / "index"


def test_a_damaged_index_never_crashes(index, tmp_path):
    command = [sys.executable, "-W", "error", "-X", "faulthandler", __file__, index, tmp_path / "copy"]
    done = subprocess.run([*command, "13", str(CASES)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["answered"] == CASES * counts["files"]
    assert counts["files"] >= 14
    assert counts["refused"] > counts["answered"] // 4 > 0


if __name__ == "__main__":
    main(*sys.argv[1:])
