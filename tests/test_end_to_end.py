"""The whole path on a tiny scale: every stage, from RRF and XML to the report, with a random encoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

pytest.importorskip("sentence_transformers")

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "data" / "sample"

INT8 = "experiments/models/int8/onnxruntime"
STRINGS = "experiments/prepared/strings.parquet"
T1 = f"--data {SAMPLE}/t1-test.xml --train {SAMPLE}/t1-train.xml"
ERRORS = "--errors experiments/errors.csv"
SCORING = "--data-kind sample --bootstrap 100"
STAGES = f"""
prepare
finetune
export
quantize
encode --input {STRINGS} --encoder {INT8} --out experiments/vectors
index build --params params.yaml --encoder {INT8} --vectors experiments/vectors --out umls_index
fit --held-out-synonyms 500 --held-out {SAMPLE}/lexicon.csv
map --input {SAMPLE}/lexicon.csv --index umls_index --format jsonl --output experiments/mapping.jsonl
score t1 {T1} --model {INT8} {SCORING} --output experiments/t1.json --write-predictions experiments/t1.tsv
score t2 --data {SAMPLE}/t2-test.xml --model {INT8} {SCORING} --output experiments/t2.json
evaluate mapping --gold {SAMPLE}/lexicon.csv {SCORING} --output experiments/mapping.json {ERRORS}
speed --encoder onnxruntime={INT8} --input {STRINGS} --count 32 --repeats 1 --output experiments/speed.json
report --published {ROOT}/experiments/published.csv
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Run every stage as dvc.yaml does, in a folder of its own."""
    from deft.cli.app import app

    folder = tmp_path_factory.mktemp("experiment")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["prepare"] |= {
        "umls": str(SAMPLE / "umls"),
        "semantic_types": ["T184", "T191"],
        "t1_train": str(SAMPLE / "t1-train.xml"),
        "held_out": [str(SAMPLE / "lexicon.csv")],
        "max_pairs_per_concept": 2,
    }
    params["finetune"] |= {"base": "scratch", "epochs": 1, "evaluations_per_epoch": 1}
    params["quantize"] |= {
        "t1": str(SAMPLE / "t1-train.xml"),
        "t2": str(SAMPLE / "t2-train.xml"),
        "tolerance": {"spearman": 1, "accuracy": 1, "recall_at_1": 1},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in STAGES.strip().splitlines():
            app(stage.split(), standalone_mode=False)
    return folder


def test_every_row_of_the_lexicon_is_mapped_in_order(experiment):
    from deft.terminology.lexicon import read_terms

    lines = (experiment / "experiments" / "mapping.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["query"] for row in rows] == read_terms(SAMPLE / "lexicon.csv")
    assert all(len({candidate["cui"] for candidate in row["candidates"]}) == 5 for row in rows)


def test_training_never_saw_a_concept_of_the_lexicon(experiment):
    import pandas as pd

    from deft.terminology.lexicon import read_cuis

    held_out = frozenset().union(*read_cuis(SAMPLE / "lexicon.csv"))
    for part in ("train", "dev"):
        pairs = pd.read_parquet(experiment / "experiments" / "prepared" / f"synonyms_{part}.parquet")
        assert len(pairs)
        assert held_out.isdisjoint(pairs["cui"])


def test_both_engines_were_built_and_compared(experiment):
    comparison = json.loads((experiment / "experiments" / "quantization.json").read_text(encoding="utf-8"))
    assert set(comparison["engines"]) == {"onnxruntime", "inc"}
    for engine in comparison["engines"].values():
        assert set(engine["metrics"]) == {"spearman", "accuracy", "recall_at_1"}


def test_the_report_shows_every_section_and_asks_for_nothing_outside(experiment):
    page = (experiment / "experiments" / "report.html").read_text(encoding="utf-8")
    for heading in ("Task 1", "Task 2", "Mapping", "fp32 against int8", "Leaderboard", "Hardest misses"):
        assert heading in page
    assert 'src="http' not in page
    assert 'href="http' not in page


def test_scoring_the_written_predictions_gives_the_same_scores(experiment):
    from deft.evaluation.experiment import score_predictions

    scores = json.loads((experiment / "experiments" / "t1.json").read_text(encoding="utf-8"))
    again = score_predictions(
        "t1", SAMPLE / "t1-test.xml", experiment / "experiments" / "t1.tsv", resamples=100
    )
    assert again["edrm"]["value"] == pytest.approx(scores["systems"]["deft"]["edrm"]["value"], abs=1e-4)
