"""Fixtures that several packages share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))  # test modules import `demo` from here

from demo import PAIRS, SETS, write_bundle, write_umls

pytest_plugins = ["models"]  # tiny encoders of true architectures

settings.register_profile(
    "deft", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30
)
settings.load_profile("deft")

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def umls(tmp_path_factory) -> Path:
    """A Metathesaurus of six concepts."""
    return write_umls(tmp_path_factory.mktemp("release") / "META").parent


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Path:
    """A small encoder."""
    pytest.importorskip("onnx")
    return write_bundle(tmp_path_factory.mktemp("bundle") / "encoder")


@pytest.fixture(scope="session")
def built(umls, bundle, tmp_path_factory) -> Path:
    """An index of `umls`, not to be changed."""
    from deft.index.build import build_index

    out = tmp_path_factory.mktemp("built") / "umls_index"
    build_index(umls, bundle, out)
    return out


@pytest.fixture
def run(monkeypatch, capsys) -> Callable[..., Outcome]:
    """Run `deft` as a shell would, in this process."""
    from deft.cli import main

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["deft", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def t1(tmp_path) -> Path:
    """A task 1 file of six pairs."""
    from deft.corpora.deft2020 import write_t1

    write_t1(tmp_path / "t1.xml", PAIRS)
    return tmp_path / "t1.xml"


@pytest.fixture
def t2(tmp_path) -> Path:
    """A task 2 file of two sets."""
    from deft.corpora.deft2020 import write_t2

    write_t2(tmp_path / "t2.xml", SETS)
    return tmp_path / "t2.xml"
