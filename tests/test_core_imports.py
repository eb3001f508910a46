"""The installed core maps terms without torch, and `import deft` costs nothing."""

import json
import subprocess
import sys

import pytest

import deft

WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "sentence_transformers", "onnx", "datasets"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
"""
CORE = (
    "deft",
    "deft.cli",
    "deft.config",
    "deft.encoder.runtime",
    "deft.encoder.prepare",
    "deft.index.build",
    "deft.index.vectors",
    "deft.mapping.mapper",
    "deft.mapping.writers",
    "deft.terminology.concepts",
    "deft.terminology.lexicon",
    "deft.terminology.rrf",
    "deft.terminology.semantic_groups",
    "deft.corpora.deft2020",
    "deft.corpora.pairs",
    "deft.evaluation.experiment",
)


def python(code, *arguments, cwd=None):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_the_core_imports_and_maps_without_torch(built):
    imports = "".join(f"import {module}\n" for module in CORE)
    work = "import sys; print(deft.TermMapper.open(sys.argv[1]).map(['rhume'])[0].best.cui)"
    done = python(WITHOUT_TORCH + imports + work, built)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "C0000001\n"


def test_the_command_without_torch(tmp_path, root):
    code = WITHOUT_TORCH + "from deft.cli import main; main()"
    done = python(code, "--help")
    assert done.returncode == 0, done.stderr
    assert "Map French medical terms" in done.stdout
    done = python(
        code, "export", "--model", tmp_path, "--out", tmp_path / "out", "--params", root / "params.yaml"
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "which is not installed. Install it with: pip install 'deft[train]'" in done.stderr


def test_importing_deft_imports_nothing_heavy():
    heavy = (
        "pandas",
        "faiss",
        "numpy",
        "pyarrow",
        "onnxruntime",
        "sklearn",
        "torch",
        "lxml",
        "typer",
        "pydantic",
    )
    done = python("import json, sys, deft; print(json.dumps(sorted(sys.modules)))")
    assert not set(json.loads(done.stdout)) & set(heavy)


def test_the_command_line_stays_light():
    done = python("import json, sys, deft.cli; print(json.dumps(sorted(sys.modules)))")
    assert not set(json.loads(done.stdout)) & {"pandas", "faiss", "numpy", "pyarrow", "onnxruntime", "torch"}


@pytest.mark.parametrize("name", deft.__all__)
def test_every_public_name_is_there(name):
    assert getattr(deft, name) is not None
    assert name in dir(deft)


def test_public_names_are_those_of_their_modules():
    from deft.errors import DeftError
    from deft.mapping.mapper import TermMapper

    assert deft.TermMapper is TermMapper
    assert deft.DeftError is DeftError
    assert issubclass(deft.InputError, deft.DeftError)
    namespace = {}
    exec("from deft import *", namespace)
    assert set(deft.__all__) <= set(namespace)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="module 'deft' has no attribute 'Mapper'"):
        _ = deft.Mapper
