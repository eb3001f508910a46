"""Encoders side by side on a few terms and sentences."""

from __future__ import annotations

import json

import pytest
from demo import write_bundle, write_umls

from deft.corpora.deft2020 import SentenceSet, write_t2
from deft.evaluation.encoder_quality import EncoderEvaluation, evaluate_encoders


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> EncoderEvaluation:
    folder = tmp_path_factory.mktemp("data")
    write_umls(folder / "umls")
    gold = "lay\tcuis\nrhume\tC0000001\nmal de tête\tC0000006\nabsent\tC0999999\n"
    (folder / "gold.tsv").write_text(gold, encoding="utf-8")
    rows = ["un rhume,un rhume,5", "un rhume,le cœur,0", "mal de tête,mal à la tête,4"]
    (folder / "graded.csv").write_text("\n".join(["sentence1,sentence2,score", *rows]), encoding="utf-8")
    write_t2(folder / "sets.xml", [SentenceSet("1", "le cœur bat", ("rien", "le cœur bat", "tout"), 2)])
    return EncoderEvaluation(
        umls=folder / "umls",
        languages=("FRE",),
        mapping={"terms": {"path": folder / "gold.tsv", "query": "lay", "cui": "cuis"}},
        graded={"pairs": folder / "graded.csv"},
        sets={"sets": folder / "sets.xml"},
    )


def test_each_encoder_and_the_baseline_are_scored_on_the_same_items(data, tmp_path):
    one, other = write_bundle(tmp_path / "one"), write_bundle(tmp_path / "other", seed=1)
    scores = evaluate_encoders({"one": one, "same": one, "other": other}, data, resamples=100)
    json.dumps(scores)  # as it is written
    assert set(scores["systems"]) == {"ngrams", "one", "same", "other"}
    measures = {f"terms recall@{k}" for k in (1, 8, 64)} | {"pairs Spearman", "sets accuracy"}
    assert all(set(own) == measures for own in scores["systems"].values())
    # both terms are strings of their concepts; the absent concept does not count
    assert scores["systems"]["one"]["terms recall@1"]["value"] == 1
    assert scores["systems"]["ngrams"]["terms recall@1"]["value"] == 1
    assert scores["systems"]["one"]["sets accuracy"]["value"] == 1
    assert set(scores["differences"]) == {"same", "other"}
    assert all(part["value"] == 0 for part in scores["differences"]["same"].values())


def test_intervals_resample_what_the_column_says(data, tmp_path):
    rows = [f"rhume\tC0000001\t{place}\n" for place in range(8)] + ["zzz\tC0000006\t8\n"]
    (tmp_path / "gold.tsv").write_text("lay\tcuis\tconcept\n" + "".join(rows))
    block = {"path": tmp_path / "gold.tsv", "query": "lay", "cui": "cuis"}
    mapping = {"queries": block, "concepts": block | {"cluster": "concept"}}
    alone = data.model_copy(update={"graded": {}, "sets": {}})
    asked = EncoderEvaluation.model_validate(alone.model_dump() | {"mapping": mapping})
    one = write_bundle(tmp_path / "one")
    scores = evaluate_encoders({"one": one}, asked, resamples=200)["systems"]["one"]
    queries, concepts = (scores[f"{name} recall@1"] for name in mapping)
    assert queries["value"] == concepts["value"]
    assert queries["low"] < concepts["low"]  # two distinct queries, nine concepts
