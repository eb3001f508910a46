"""The pipelines: a stage declares the code that its command imports, and every value of params.yaml runs."""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache, reduce
from pathlib import Path

import pytest
import typer
import yaml
from test_house import HOUSE, MODULES

from deft import _HOME
from deft.cli.app import app
from deft.variants import VARIANTS

ROOT = HOUSE.parent
PIPELINES = [ROOT / "dvc.yaml", *sorted((ROOT / "experiments").glob("*/dvc.yaml"))]
# What shapes no result: the thin command line, the public face, and the words of errors.
EXEMPT = ("deft", "deft.errors", "deft.cli")


def stages() -> Iterator[tuple[str, str, dict]]:
    for path in PIPELINES:
        for name, stage in yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].items():
            yield str(path.relative_to(ROOT)), name, stage


STAGES = list(stages())
NAMES = [f"{path}:{name}" for path, name, _ in STAGES]


def commands(group: typer.Typer = app, prefix: str = "deft") -> dict[str, ast.AST]:
    """The function of each command, as it stands in the source."""
    found = {}
    for command in group.registered_commands:
        name = command.name or command.callback.__name__
        found[f"{prefix} {name}"] = with_helpers(command.callback)
    for inner in group.registered_groups:
        found |= commands(inner.typer_instance, f"{prefix} {inner.name}")
    return found


def with_helpers(function: Callable[..., None]) -> ast.Module:
    """A function and all functions of its module that it uses."""
    module = ast.parse(inspect.getsource(inspect.getmodule(function)))
    local = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    waiting, used = [function.__name__], {}
    while waiting:
        name = waiting.pop()
        if name in local and name not in used:
            used[name] = local[name]
            waiting += [node.id for node in ast.walk(local[name]) if isinstance(node, ast.Name)]
    return ast.Module(list(used.values()), [])


COMMANDS = commands()


def commands_of(stage: dict) -> list[str]:
    lines = [stage["cmd"]] if isinstance(stage["cmd"], str) else stage["cmd"]
    return [
        next(name for name in sorted(COMMANDS, reverse=True) if line.startswith(f"{name} ")) for line in lines
    ]


def imported(node: ast.AST) -> Iterator[str]:
    """Every module of the house that runs because of `node`, imports inside functions too."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.ImportFrom) and node.module:
        inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
        public = {_HOME[alias.name] for alias in node.names if node.module == "deft" and alias.name in _HOME}
        yield from inner or public or {node.module} & set(MODULES)
    elif isinstance(node, ast.Import):
        yield from {alias.name for alias in node.names} & set(MODULES)
    elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "deft" and node.attr in _HOME:
        yield _HOME[node.attr]  # the public face is imported when it is asked for
    for child in ast.iter_child_nodes(node):
        yield from imported(child)


@cache
def imports(module: str) -> frozenset[str]:
    return frozenset(imported(ast.parse(MODULES[module].read_text(encoding="utf-8"))))


def reached(stage: dict) -> set[str]:
    """The files that the commands of a stage import, directly or not."""
    waiting = {module for command in commands_of(stage) for module in imported(COMMANDS[command])}
    found: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in found and module not in EXEMPT:
            found.add(module)
            waiting |= imports(module)
    files = {MODULES[module] for module in found if MODULES[module].name != "__init__.py"}
    return {path.relative_to(ROOT).as_posix() for path in files}


def covers(dep: str, path: str) -> bool:
    return path == dep or path.startswith(f"{dep}/")


@pytest.mark.parametrize(("path", "name", "stage"), STAGES, ids=NAMES)
def test_a_stage_declares_what_its_command_imports(path, name, stage):
    deps = [dep for dep in stage["deps"] if dep == "deft" or dep.startswith("deft/")]
    files = reached(stage)
    missing = {file for file in files if not any(covers(dep, file) for dep in deps)}
    assert not missing, "an edit of these would not run the stage again"
    idle = [
        dep for dep in deps if not dep.endswith("templates") and not any(covers(dep, file) for file in files)
    ]
    assert not idle, "the stage does not import these"


def test_a_change_of_code_is_seen():
    """The comparison can fail: what is imported deep inside counts, and what types alone ask for does not."""
    assert "deft/text.py" in reached(dict(STAGES[NAMES.index("dvc.yaml:score_t2")][2]))
    assert "deft/training/checkpoints.py" in reached(dict(STAGES[NAMES.index("dvc.yaml:finetune")][2]))
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import deft.text\nimport deft.files"
    assert set(imported(ast.parse(source))) == {"deft.files"}
    assert set(imported(ast.parse("def f():\n    from deft.index import build"))) == {"deft.index.build"}


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.parent.name)
def test_a_list_is_watched_to_its_end(path):
    params = yaml.safe_load((path.parent / "params.yaml").read_text(encoding="utf-8"))
    found: dict[str, set[int]] = {}
    for name, place in re.findall(r"\$\{([\w.]+)\[(\d+)\]", path.read_text(encoding="utf-8")):
        found.setdefault(name, set()).add(int(place))
    lists = {name: _files(reduce(lambda block, part: block[part], name.split("."), params)) for name in found}
    watched = {lists[name][place] for name, places in found.items() for place in places}
    for name, files in lists.items():
        assert set(files) <= watched, name


def _files(values):
    return [value["path"] if isinstance(value, dict) else value for value in values]


@pytest.fixture(scope="module")
def dvc(tmp_path_factory):
    """Run dvc in a copy of the pipeline with other parameters."""
    pytest.importorskip("dvc")
    folder = tmp_path_factory.mktemp("pipeline")
    for name in ("dvc.yaml", ".dvcignore", "data/lay/lay_fr.tsv", "data/sample", "experiments/published.csv"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    (folder / "deft").symlink_to(HOUSE)
    for place in _made(ROOT / "dvc.yaml"):  # a plan is made only where every stage has run before
        path = folder / place
        (path.parent if path.suffix else path).mkdir(parents=True, exist_ok=True)
        if path.suffix:
            path.touch()
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "PYTHONPATH": str(ROOT)}

    def run(*arguments: str, **blocks: dict) -> str:
        params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for name, values in blocks.items():
            params[name] |= values
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("dvc", "init", "--no-scm", "-q")
    return run


def _made(path: Path) -> set[str]:
    """What the stages of a pipeline make and need of each other."""
    found = yaml.safe_load(path.read_text(encoding="utf-8"))["stages"].values()
    deps = {dep for stage in found for dep in stage["deps"]}
    named = {dep.replace("${quantize.engine}", variant) for dep in deps for variant in VARIANTS}
    return {dep for dep in named if dep.startswith(("experiments/", "umls_index"))}


LEXICON = "data/sample/lexicon.csv"
ALLOWED = {
    "as shipped": {},
    "nothing held out": {"prepare": {"held_out": []}},
    "several held out": {"prepare": {"held_out": [LEXICON, "data/sample/t1-train.xml"]}},
    "no graded pairs": {"prepare": {"t1_train": None}},
    "nothing for the gate": {"quantize": {"t1": None, "t2": None}},
    "one variant": {"quantize": {"engines": ["onnxruntime"]}},
    "no variant but the chosen one": {"quantize": {"engines": [], "engine": "inc"}},
    "another base": {"finetune": {"base": "scratch"}},
    "no fitted model": {"index": {"held_out_synonyms": 0}},
}


@pytest.mark.parametrize("blocks", ALLOWED.values(), ids=list(ALLOWED))
def test_every_allowed_value_makes_a_pipeline(dvc, blocks):
    listed = dvc("dvc", "stage", "list", **blocks)
    plan = dvc("dvc", "repro", "--dry", **blocks)
    root = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert {line.split()[0] for line in listed.splitlines()} == set(root)
    assert set(re.findall(r"Running stage '(\w+)'", plan)) == set(root)
    assert "None" not in plan
