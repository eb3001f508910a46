"""The quality of variants, the gate on what they may cost, and the stage that compares them."""

import numpy as np
import pandas as pd
import pytest
from demo import PAIRS, SETS, FakeEncoder, write_bundle

pytest.importorskip("sentence_transformers")

from deft.compress import gate as module
from deft.compress.gate import QualityItems, compare, falls, gate, quality, quantize_and_compare
from deft.config import Params, QuantizeParams
from deft.errors import GateError
from deft.evaluation.metrics import difference


@pytest.fixture
def items():
    names = [
        ("A", "rhume"),
        ("A", "rhume banal"),
        ("B", "genou"),
        ("B", "xyz"),
        ("C", "rhume banale"),
        ("D", "coude"),
    ]
    queries = pd.DataFrame([("A", "rhume"), ("B", "genou")], columns=["cui", "left"])
    return QualityItems(PAIRS, SETS, queries, pd.DataFrame(names, columns=["cui", "string"]))


def test_quality_by_hand(items):
    encoder = FakeEncoder()
    found = quality(items, encoder)
    assert list(found) == ["spearman", "accuracy", "recall_at_1"]
    (ranks,) = found["recall_at_1"].columns
    strings = items.names["string"].to_list()
    vectors = dict(zip(strings, encoder.encode(strings), strict=True))
    for row, (query, others) in enumerate((("rhume", {"rhume banal"}), ("genou", {"xyz"}))):
        cosines = {text: round(float(vectors[text] @ vectors[query]), 6) for text in strings if text != query}
        best = max(cosines[text] for text in others)
        assert ranks[row] == 1 + sum(cosine > best for cosine in cosines.values())


def test_parts_without_items_are_left_out(items):
    nothing = QualityItems([], [], items.queries[:0], items.names)
    assert quality(nothing, FakeEncoder()) == {}


def test_an_encoder_is_no_better_than_itself(items):
    compared = compare(quality(items, FakeEncoder()), quality(items, FakeEncoder()), resamples=100)
    for values in compared.values():
        assert values["fp32"] == values["int8"]
        assert (
            values["difference"]["value"] == values["difference"]["low"] == values["difference"]["high"] == 0
        )


def test_quality_items_of_the_prepared_folder(tmp_path, t1, t2):
    pd.DataFrame({"cui": ["A", "A"], "left": ["a", "a"], "right": ["b", "c"]}).to_parquet(
        tmp_path / "synonyms_dev.parquet"
    )
    atoms = pd.DataFrame({"string": ["a", "b", "c", *map(str, range(20))], "cui": ["A"] * 3 + ["B"] * 20})
    atoms.to_parquet(tmp_path / "atoms.parquet")
    items = QualityItems.read(QuantizeParams(t1=t1, t2=t2), tmp_path, most=5)
    assert items.queries.to_dict("list") == {"cui": ["A"], "left": ["a"]}
    assert len(items.names) == 3 + 5
    assert (len(items.pairs), len(items.sets)) == (6, 2)
    again = QualityItems.read(QuantizeParams(), tmp_path, most=5)
    assert again.names.equals(items.names)
    assert again.pairs == again.sets == []


def test_names_of_one_concept_are_resampled_together():
    """Twelve names of three concepts, right or wrong together: the interval is that of three items."""
    names = [(cui, f"{cui}{row}") for cui in "ABC" for row in range(4)]
    queries = pd.DataFrame(names, columns=["cui", "left"])
    items = QualityItems([], [], queries, queries.rename(columns={"left": "string"}))

    class Stub:
        def __init__(self, lost):
            self.lost = lost

        def encode(self, texts, **_):
            """Names of a concept are alike, but those of a lost one are nearer to those of another."""
            unit = np.eye(3 + len(texts), dtype=np.float32)
            return np.stack(
                [
                    0.8 * unit[1] + 0.6 * unit[3 + row]
                    if text[0] == self.lost
                    else unit["ABC".index(text[0])]
                    for row, text in enumerate(texts)
                ]
            )

    before, after = quality(items, Stub("")), quality(items, Stub("A"))
    found = compare(before, after, resamples=500)["recall_at_1"]
    measured = before["recall_at_1"]
    rows = difference(measured.statistic, measured.columns, after["recall_at_1"].columns, resamples=500)
    assert found["difference"]["value"] == rows.value < 0
    assert found["difference"]["low"] == -1  # all of the three concepts that are drawn may be the lost one
    assert found["difference"]["high"] == 0
    assert rows.high < 0


class TestStage:
    @pytest.fixture
    def stage(self, monkeypatch, tmp_path, bundle, t1, t2, root):
        """The stage with a quantizer that writes whatever encoder it is told to."""
        seeds = {}
        monkeypatch.setattr(
            module,
            "make_variant",
            lambda fp32, out, name, *, model: write_bundle(out, seed=seeds.get(name, 0)),
        )
        pd.DataFrame({"cui": ["A"], "left": ["rhume"], "right": ["coryza"]}).to_parquet(
            tmp_path / "synonyms_dev.parquet"
        )
        pd.DataFrame({"string": ["rhume", "coryza"], "cui": ["A", "A"]}).to_parquet(
            tmp_path / "atoms.parquet"
        )
        params = Params.read(root / "params.yaml")
        block = params.quantize.model_copy(update={"t1": t1, "t2": t2})
        score = params.score.model_copy(update={"bootstrap": 100})
        params = params.model_copy(update={"quantize": block, "score": score})

        def run(**chosen):
            seeds.update(chosen)
            return quantize_and_compare(
                params, bundle, bundle, tmp_path, tmp_path / "int8", tmp_path / "comparison.json"
            )

        return run

    def test_a_variant_that_loses_nothing_passes(self, stage, tmp_path):
        comparison = stage(inc=5)
        assert comparison["engine"] == "onnxruntime"
        assert comparison["engines"]["onnxruntime"]["passed"]
        assert not comparison["engines"]["inc"]["passed"]  # another variant than the chosen one may fail
        assert (tmp_path / "comparison.json").is_file()
        assert (tmp_path / "int8" / "onnxruntime" / "grades.json").is_file()

    def test_the_chosen_variant_must_pass(self, stage, tmp_path):
        with pytest.raises(GateError, match="spearman") as caught:
            stage(onnxruntime=5)
        assert caught.value.exit_code == 1
        assert (tmp_path / "comparison.json").is_file()


def pairs_of(**values):
    return {name: {"fp32": before, "int8": after} for name, (before, after) in values.items()}


def test_gate_opens_within_the_tolerance():
    gate(pairs_of(spearman=(0.80, 0.79)), {"spearman": 0.0101, "accuracy": 0.0})
    gate(pairs_of(spearman=(0.80, 0.95)), {"spearman": 0.0})


def test_gate_lists_every_metric_that_fell_too_far():
    metrics = pairs_of(
        spearman=(0.80, 0.70), accuracy=(0.95, 0.95), recall_at_1=(0.50, 0.45), f=(0.5, float("nan"))
    )
    tolerance = dict.fromkeys(metrics, 0.01)
    with pytest.raises(GateError) as raised:
        gate(metrics, tolerance)
    message = str(raised.value)
    assert "spearman fell from 0.8000 to 0.7000" in message
    assert "f fell from 0.5000 to nan" in message
    assert [line.split()[0] for line in falls(metrics, tolerance)] == ["spearman", "recall_at_1", "f"]
    assert raised.value.exit_code == 1
