"""The installed core maps terms without torch, and `import deft` costs nothing."""

import inspect
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
CORE_ALONE = WITHOUT_TORCH.replace(
    '"torch",', '"torch", "pandas", "sklearn", "lxml", "jinja2", "openpyxl", "dvc",'
)
CORE = (
    "deft",
    "deft.cli",
    "deft.config",
    "deft.encoder.runtime",
    "deft.training.prepare",
    "deft.index.build",
    "deft.index.vectors",
    "deft.mapping.mapper",
    "deft.exchange.writers",
    "deft.terminology.concepts",
    "deft.terminology.lexicon",
    "deft.terminology.rrf",
    "deft.terminology.semantic_groups",
    "deft.corpora.deft2020",
    "deft.corpora.pairs",
    "deft.evaluation.experiment",
)

# What stands on the way of a query and does without data frames and models of settings.
WITHOUT_PANDAS = (
    "deft.corpora.delimited",
    "deft.exchange.curated",
    "deft.mapping.explain",
    "deft.mapping.filters",
    "deft.mapping.fusion",
    "deft.mapping.pool",
    "deft.mapping.query",
    "deft.mapping.results",
    "deft.exchange.writers",
    "deft.terminology.lexicon",
)
NOT_FOR_A_TERM = {
    *("torch", "transformers", "sentence_transformers", "datasets", "spacy"),
    *("sklearn", "lxml", "yaml", "jinja2", "openpyxl", "rich"),
    *("pandas", "duckdb", "filelock", "pyarrow.dataset", "pyarrow.parquet"),
    *(
        "deft.index.build",
        "deft.terminology.rrf",
        "deft.terminology.table_maker",
        "deft.config",
        "deft.corpora.deft2020",
        "deft.mapping.fit",
        "deft.exchange.review",
        "deft.exchange.sssom",
    ),
}


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


def test_the_core_builds_maps_and_reviews_without_any_extra(umls, bundle, tmp_path):
    code = CORE_ALONE + "from deft.cli import main; main()"

    def deft_(*arguments):
        done = python(code, *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "terms.csv").write_text("Terme;code\nrhume;1\nmal de tête;2\n", encoding="utf-8")
    deft_("index", "build", "--umls", umls, "--encoder", bundle, "--out", "i")
    deft_("index", "remove", "i", "--cui", "C0000004")
    deft_("index", "add", "i", "--umls", umls)
    deft_("index", "verify", "i")
    for form in ("table", "tsv", "jsonl", "sssom"):
        assert "C0000001" in deft_("map", "--input", "terms.csv", "--index", "i", "--format", form)
    assert "C0000006" in deft_("explain", "mal de tête", "--index", "i")
    deft_("map", "rhume", "--index", "i", "--review", "sheet.csv")
    sheet = (tmp_path / "sheet.csv").read_text(encoding="utf-8-sig").splitlines()
    first = sheet[1].split(";")
    first[sheet[0].split(";").index("decision")] = "oui"
    (tmp_path / "sheet.csv").write_text("\n".join([sheet[0], ";".join(first)]), encoding="utf-8")
    assert '"accepted": 1' in deft_("review", "apply", "sheet.csv", "--curated", "c.tsv")
    assert "curated" in deft_("map", "rhume", "--index", "i", "--curated", "c.tsv")


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("evaluate", ("score", "t1", "--data", "data/sample/t1-test.xml", "--model", "shipped")),
        ("evaluate", ("evaluate", "mapping", "--gold", "data/sample/lexicon.csv")),
        ("train", ("export", "--model", "absent", "--out", "absent", "--params", "params.yaml")),
    ],
)
def test_what_needs_an_extra_names_it(root, extra, arguments):
    done = python(CORE_ALONE + "from deft.cli import main; main()", *arguments, cwd=root)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"pip install 'deft[{extra}]'" in done.stderr


def imported(code, *arguments):
    """The modules that a process has imported once it has run some code."""
    show = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules))))\n"
    done = python(show + code, *arguments)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_deft_imports_the_standard_library_alone():
    packages = {name.partition(".")[0] for name in imported("import deft") - imported("")}
    assert packages - sys.stdlib_module_names == {"deft"}


@pytest.mark.parametrize("module", WITHOUT_PANDAS)
def test_modules_on_the_way_of_a_query_need_no_tables(module):
    assert not imported(f"import {module}") & {"pandas", "pyarrow", "pydantic", "scipy", "sklearn", "yaml"}


def test_mapping_a_term_imports_what_it_needs_alone(built):
    map_ = "from deft.cli import main; sys.argv[0] = 'deft'; main()"
    found = imported(map_, "map", "rhume", "--index", built)
    assert "deft.mapping.mapper" in found
    assert not found & NOT_FOR_A_TERM


def test_the_command_line_stays_light():
    done = python("import json, sys, deft.cli; print(json.dumps(sorted(sys.modules)))")
    assert not set(json.loads(done.stdout)) & {"pandas", "faiss", "numpy", "pyarrow", "onnxruntime", "torch"}


@pytest.mark.parametrize("name", deft.__all__)
def test_every_public_name_is_there(name):
    assert getattr(deft, name) is not None
    assert name in dir(deft)
    assert name == "__version__" or inspect.getdoc(getattr(deft, name))


def test_the_readme_lists_every_public_name(root):
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert [name for name in deft.__all__ if name != "__version__" and f"`{name}`" not in readme] == []


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
