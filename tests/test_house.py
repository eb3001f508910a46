"""Imports run one way, without a circle, and torch stays behind its border."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import deft

HOUSE = Path(deft.__file__).parent

# From the top of the house to the ground: a room imports from itself and from those after it alone. What
# stands in one tuple is on one floor, and does not import one another.
FLOORS = (
    ("deft", "deft.cli"),
    ("deft.spacy",),
    ("deft.bench",),
    ("deft.recipe",),
    ("deft.compress",),
    ("deft.training",),
    ("deft.evaluation", "deft.exchange"),
    ("deft.mapping",),
    ("deft.index",),
    ("deft.encoder",),
    ("deft.terminology",),
    ("deft.corpora",),
    ("deft.config",),
    ("deft.variants",),
    ("deft.files",),
    ("deft.text", "deft.progress"),
    ("deft.errors",),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
WITH_TORCH = {"deft.bench", "deft.recipe", "deft.compress", "deft.training"}
BEHIND_THE_BORDER = {"torch", "transformers", "sentence_transformers", "onnx", "onnxscript", "datasets"}


def name_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(HOUSE.rglob("*.py"))}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file; the public face is looked up by name alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found.update(inner or {node.module})
    return found


IMPORTS = {module: imports_of(path) for module, path in MODULES.items()}


@pytest.mark.parametrize("module", [module for module in MODULES if module != "deft"])
def test_imports_run_one_way(module):
    own = room_of(module)
    for other in IMPORTS[module]:
        room = room_of(other)
        if other in MODULES and room not in {own, "deft"}:  # the version stands at the door
            assert FLOOR[own] < FLOOR[room], f"{module} imports {other}"


def test_there_is_no_circle():
    graph = {
        module: {other for other in found if other in MODULES} - {"deft"}
        for module, found in IMPORTS.items()
        if module != "deft"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", MODULES)
def test_torch_stays_behind_its_border(module):
    if room_of(module) not in WITH_TORCH:
        assert not {name.partition(".")[0] for name in IMPORTS[module]} & BEHIND_THE_BORDER
