"""The doors by which files come in, each with files that are right."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.fuzz import ROOT, Door

SAMPLE = ROOT / "data" / "sample"


def _head(path: Path, size: int = 3000) -> bytes:
    return path.read_bytes()[:size]


def _table(*rows: tuple[str, ...]) -> list[bytes]:
    """The same table with each separator."""
    return ["\n".join(separator.join(row) for row in rows).encode() for separator in (",", ";", "\t")]


def _xlsx(*rows: tuple[str, ...]) -> list[bytes]:
    from openpyxl import Workbook

    book, stream = Workbook(), io.BytesIO()
    for row in rows:
        book.active.append(row)
    book.save(stream)
    return [stream.getvalue()]


def _json(*values: object) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(value, ensure_ascii=False, indent=1).encode() for value in values]


_TERMS = (
    ("Terme", "CUI", "Sources"),
    ("j'ai mal au bide", "C0000737", "a"),
    ("tour de reins", "C0024031;C0004604", "b"),
)
_CURATED = (
    ("query", "cui", "name", "decision"),
    ("mal de tête", "C0018681", "Céphalée", "accept"),
    ("rhume", "C0009443", "Rhume", "reject"),
)
_PAIRS = (("sentence1", "sentence2", "score"), ("un rhume", "une grippe", "2.5"), ("a", "b", "0"))
_RETIRED = b"C0000258|2018AA|SY|||C0545276|Y|\nC0000363|2018AA|DEL||||Y|\n"
_RUNTIME = {"plain": {"optimization": "all", "intra_threads": 1, "workers": 2, "cores": 2}}


def _read_terms(path: Path) -> object:
    from deft.terminology.lexicon import read_queries

    return read_queries(path)


def _read_lexicon(path: Path) -> object:
    from deft.terminology.lexicon import read_lexicon

    return read_lexicon(path)


def _read_gold(path: Path) -> object:
    from deft.terminology.lexicon import read_gold

    return read_gold(path)


def _read_t1(path: Path) -> object:
    from deft.corpora.deft2020 import read_t1

    return read_t1(path)


def _read_t2(path: Path) -> object:
    from deft.corpora.deft2020 import read_t2

    return read_t2(path)


def _read_predictions(path: Path) -> object:
    from deft.corpora.deft2020 import read_choices, read_grades

    return read_grades(path) and read_choices(path)


def _read_pairs(path: Path) -> object:
    from deft.corpora.pairs import read_pairs

    return read_pairs(path)


def _read_umls(path: Path) -> object:
    from deft.terminology import rrf

    streams = {
        "MRCONSO.RRF": rrf.stream_atoms,
        "MRSTY.RRF": rrf.stream_semantic_types,
        "MRDEF.RRF": rrf.stream_definitions,
        "MRCUI.RRF": rrf.stream_retired,
    }
    return list(streams[path.name](path.parent))


def _read_params(path: Path) -> object:
    from deft.config import Params

    return Params.read(path)


def _read_curated(path: Path) -> object:
    from deft.exchange.curated import read_curated

    return read_curated(path)


def _apply_review(path: Path) -> object:
    from deft.exchange.review import apply_review

    return apply_review(path, path.with_name("curated_out.tsv"))


def _read_model(path: Path) -> object:
    from deft.mapping.fusion import MappingModel

    return MappingModel.read(path)


def _read_grade_model(path: Path) -> object:
    from deft.mapping.grades import GradeModel

    return GradeModel.load(path)


def _read_settings(path: Path) -> object:
    from deft.encoder.settings import read_settings

    return read_settings(path.parent)


@cache
def _bundle() -> Path:
    from tests.demo import write_bundle

    return write_bundle(Path(tempfile.mkdtemp()) / "encoder")


def _seed(name: str) -> Callable[[], list[bytes]]:
    return lambda: [(_bundle() / name).read_bytes()]


def _open_encoder(path: Path) -> object:
    """Open an encoder one of whose files is spoilt, as if whoever wrote its checksums had spoilt it."""
    from deft.encoder.runtime import Encoder
    from deft.files import sha256

    folder = path.parent / "encoder"
    shutil.copytree(_bundle(), folder, dirs_exist_ok=True)
    if path.name != "encoder.json":
        facts = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        facts["sha256" if path.name == "model.onnx" else "tokenizer_sha256"] = sha256(path)
        (folder / "encoder.json").write_text(json.dumps(facts), encoding="utf-8")
    shutil.copyfile(path, folder / path.name)
    return Encoder.open(folder, threads=1).encode(["rhume"])


def _read_leaderboard(path: Path) -> object:
    from deft.evaluation.leaderboard import read_leaderboard

    return read_leaderboard(path)


def _sheet() -> tuple[tuple[str, ...], ...]:
    from deft.exchange.review import SHEET_COLUMNS, _id

    query, cui = "mal de tête", "C0018681"
    given = {"id": _id(query, cui), "query": query, "cui": cui, "decision": "oui"}
    row = dict.fromkeys(SHEET_COLUMNS, "x") | given
    return tuple(SHEET_COLUMNS), tuple(row.values())


def _xml(path: Path, tag: bytes) -> list[bytes]:
    return [_head(path).rpartition(b"<" + tag)[0] + b"</doc>"]


def _whole(path: str) -> Callable[[], list[bytes]]:
    return lambda: [(ROOT / path).read_bytes()]


DOORS = {
    "terms": Door("terms.csv", _read_terms, lambda: _table(*_TERMS)),
    "terms-xlsx": Door("terms.xlsx", _read_terms, lambda: _xlsx(*_TERMS)),
    "lexicon": Door("lexicon.csv", _read_lexicon, lambda: [_head(SAMPLE / "lexicon.csv")]),
    "gold": Door("gold.csv", _read_gold, lambda: [_head(SAMPLE / "lexicon.csv"), *_table(*_TERMS)]),
    "t1": Door("t1.xml", _read_t1, lambda: _xml(SAMPLE / "t1-test.xml", b"paire")),
    "t2": Door("t2.xml", _read_t2, lambda: _xml(SAMPLE / "t2-test.xml", b"ensemble")),
    "predictions": Door("predictions.tsv", _read_predictions, lambda: [b"0\t2\n1\t3\n2\t1\n"]),
    "pairs": Door("pairs.csv", _read_pairs, lambda: _table(*_PAIRS)),
    **{
        name.lower(): Door(name, _read_umls, lambda name=name: [_head(SAMPLE / "umls" / name)])
        for name in ("MRCONSO.RRF", "MRSTY.RRF", "MRDEF.RRF")
    },
    "mrcui.rrf": Door("MRCUI.RRF", _read_umls, lambda: [_RETIRED]),
    "params": Door("params.yaml", _read_params, _whole("params.yaml")),
    "curated": Door("curated.tsv", _read_curated, lambda: _table(*_CURATED)[2:]),
    "review": Door("review.csv", _apply_review, lambda: _table(*_sheet())),
    "review-xlsx": Door("review.xlsx", _apply_review, lambda: _xlsx(*_sheet())),
    "model": Door("model.json", _read_model, _whole("deft/mapping/model.json")),
    "grades": Door("grades.json", _read_grade_model, _whole("data/encoder/grades.json")),
    **{
        name: Door(name, _open_encoder, _seed(name))
        for name in ("encoder.json", "tokenizer.json", "model.onnx")
    },
    "settings": Door("runtime.json", _read_settings, _json(_RUNTIME)),
    "published": Door("published.csv", _read_leaderboard, _whole("experiments/published.csv")),
}
