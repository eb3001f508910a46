"""How the command ends when it is stopped, cut off or out of means."""

import os
import signal
import subprocess
import sys

import pytest

DEFT = [sys.executable, "-m", "deft.cli"]
posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

SLOW = """
import sys, time
from deft.cli import main
import deft.index.build as build

def slow(*_, **__):
    from deft.files import atomic_write
    from pathlib import Path
    with atomic_write(Path(sys.argv[-1])):
        print("working", flush=True)
        time.sleep(60)

build.build_index = slow
sys.argv = ["deft", "index", "build", "--umls", ".", "--out", sys.argv[-1]]
main()
"""


def python(code, *arguments, **options):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_in_order(tmp_path, number):
    command = [sys.executable, "-c", SLOW, str(tmp_path / "out")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "working\n"
    child.send_signal(number)
    _, said = child.communicate(timeout=30)
    assert said == f"deft: stopped by {number.name}.\n"
    assert child.returncode == 128 + number
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_command_is_still_importing(number):
    code = (
        "import os, sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'typer': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Watch())\n"
        "from deft.cli import main\n"
        "main()"
    )
    done = python(code)
    assert done.stderr == f"deft: stopped by {number.name}.\n"
    assert done.returncode == 128 + number


@posix
def test_what_is_ignored_stays_ignored():
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from deft.cli import _stopped_by_signals\n"
        "with _stopped_by_signals():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('alive', signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    assert python(code).stdout == "alive True\n"


@posix
def test_a_pipe_that_nobody_reads(built):
    command = [*DEFT, "map", *["rhume"] * 4000, "--index", str(built), "--format", "tsv"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout.readline().startswith(b"query\t")
    child.stdout.close()
    assert child.stderr.read() == b""
    assert child.wait() == 1


@posix
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(built, closed):
    arguments = " ".join(f"'{part}'" for part in [*DEFT, "map", "rhume", "--index", built])
    done = subprocess.run(["sh", "-c", f"{arguments} {closed}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    assert ("C0000001" in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("MemoryError()", 1, "there is not enough memory"),
        ("RuntimeError('std::bad_alloc')", 1, "there is not enough memory"),
        ("ZeroDivisionError('by\\nzero')", 1, "unforeseen ZeroDivisionError: by This is a fault of deft"),
        ("OSError(28, 'No space left on device', 'f.tsv')", 2, "f.tsv: No space left on device."),
        ("ModuleNotFoundError('x', name='sklearn.svm')", 2, "pip install 'deft[evaluate]'"),
        ("ModuleNotFoundError('x', name='torch')", 2, "pip install 'deft[train]'"),
    ],
)
def test_what_goes_wrong_is_one_line(run, monkeypatch, error, code, said):
    monkeypatch.setattr("deft.mapping.explain.explain", lambda *_: exec(f"raise {error}"))
    monkeypatch.setattr("deft.cli.mapping.open_mapper", lambda *_: None)
    done = run("explain", "rhume")
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    assert done.err.startswith("deft: ")
    assert said in done.err


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setattr("deft.cli.mapping.open_mapper", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("--debug", "explain", "rhume")


def test_too_little_memory_is_one_line(built):
    resource = pytest.importorskip("resource")
    code = "from deft.cli import main; main()"
    limit = 700 * 2**20

    def narrow():
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = python(code, "map", "rhume", "--index", built, preexec_fn=narrow, env=environment)
    assert done.returncode in {0, 1, 2}
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_any_console_takes_what_is_said(tmp_path, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [*DEFT, "map", "rhume", "--index", str(tmp_path / "Ελλάδα œuf")]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(b"deft: ")
    assert b"Traceback" not in done.stderr
