"""The lists of queries without an answer, and that what is fitted on is not what is measured on."""

from pathlib import Path

from deft.corpora.delimited import read_rows
from deft.mapping.kinds import OTHER
from deft.terminology.semantic_groups import GROUPS
from deft.text import fold

DATA = Path(__file__).parents[1] / "data" / "absent"
KINDS = {"drug", "procedure", "laboratory", "capitals", "negation", "column", "administrative", "device"}


def rows(name, *columns):
    return [cells for _, cells in read_rows(DATA / name, ("Terme", "kind", *columns))]


def test_no_query_is_in_both_or_twice():
    fit, dev = ([fold(cells["Terme"]) for cells in rows(name)] for name in ("fit.tsv", "dev.tsv"))
    assert all(fit + dev)
    assert len(set(fit) | set(dev)) == len(fit) + len(dev)
    card = (DATA / "README.md").read_text(encoding="utf-8")
    assert f"| `fit.tsv` | {len(fit)} |" in card
    assert f"| `dev.tsv` | {len(dev)} |" in card
    assert len(dev) >= 300


def test_kinds_and_groups_are_known():
    for cells in (*rows("fit.tsv"), *rows("dev.tsv")):
        assert cells["kind"] in KINDS | {"everyday"}
    for cells in rows("fit.tsv", "group"):
        assert cells["group"] in {*GROUPS, OTHER, ""}
        assert (cells["group"] == "") == (cells["kind"] == "negation")
