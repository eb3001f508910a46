"""Every command and every Python example of the README runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("deft ")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("readme")
    (place / "data").symlink_to(ROOT / "data")
    return place


def test_the_two_commands_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("repro", "test"):
        assert f"make {command}\n" in "".join(blocks("bash"))
        assert f"\n{command}:" in makefile


def test_the_commands_run_in_order(folder, monkeypatch, capsys):
    from deft.cli.app import app

    assert len(COMMANDS) > 4
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        app(shlex.split(command)[1:], standalone_mode=False)
    assert "C0012569" in capsys.readouterr().out


def test_the_python_examples_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert blocks("python")
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert re.search(r"C\d{7}", capsys.readouterr().out)


def test_links_inside_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
