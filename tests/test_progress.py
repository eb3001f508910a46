"""Progress: a bar on a terminal, plain lines in a log file."""

import io
import sys

from deft import progress
from deft.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_file_gets_a_line_at_the_end(capsys):
    assert list(Progress(range(2000), desc="read", unit=" lines")) == list(range(2000))
    with Progress(desc="embed", unit="text") as bar:
        bar.update(1200)
    assert capsys.readouterr().err.splitlines() == [
        "read: 2,000/2,000 lines in 00:00",
        "embed: 1,200 text in 00:00",
    ]


def test_a_long_work_tells_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_SECONDS", 0.0)
    for _ in Progress(range(3), desc="train", unit="step"):
        pass
    written = capsys.readouterr().err
    assert written.count("\n") > 2
    assert written.endswith("train: 3/3 step in 00:00\n")
    assert "\r" not in written


def test_silent_unless_asked(capsys):
    with Progress(total=3, disable=True) as bar:
        bar.update(3)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(total=2, desc="train") as bar:
        bar.update(2)
    assert stream.getvalue().count("\n") == 1
    assert "\r" in stream.getvalue()
    assert "100%" in stream.getvalue()


def test_libraries_are_quiet_and_the_end_says_what_was_made(bert_folder, tmp_path):
    """Whatever torch and its neighbours have to say when they are imported, a person did not ask for it."""
    import subprocess

    out = tmp_path / "fp32"
    command = [sys.executable, "-m", "deft.cli", "export", "--model", str(bert_folder), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr.splitlines() == [f"Written: {out}"]
