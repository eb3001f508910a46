"""What a system does not have is done without: nothing that is missing on Windows is needed."""

import subprocess
import sys

SCRIPT = """
import mmap, os, sys
for name in ("register_at_fork", "pread", "posix_fallocate", "sched_getaffinity", "sysconf", "fork"):
    vars(os).pop(name, None)
vars(mmap).pop("MADV_DONTNEED", None)
sys.modules["resource"] = None

from deft import files
from deft.index import dense
from deft.index.build import build_index, remove_from_index
from deft.mapping.mapper import TermMapper

files.fcntl = None
dense._RESIDENT = 0  # a small index is read as a large one is
umls, bundle, out = sys.argv[1:]
build_index(umls, bundle, out)
remove_from_index(out, cuis=["C0000003"])
print(TermMapper.open(out).map(["rhume"])[0].best.cui)
"""


def test_an_index_is_built_changed_and_asked_without_them(umls, bundle, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(umls), str(bundle), str(tmp_path / "index")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "C0000001\n"), done.stderr


def test_files_are_written_without_file_locks(tmp_path):
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from deft.files import write_json\n"
        "write_json(Path(sys.argv[1]), 1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.json")], check=False, capture_output=True
    )
    assert (done.returncode, (tmp_path / "a.json").read_text()) == (0, "1\n"), done.stderr
    assert len(list(tmp_path.iterdir())) == 1
