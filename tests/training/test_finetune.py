"""Fine-tuning on a few invented concepts with the scratch base."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sentence_transformers")

import faiss
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from deft.config import FinetuneParams
from deft.errors import InputError
from deft.training import finetune as module
from deft.training.base import load_base, quiet
from deft.training.finetune import FinetuneResult, finetune
from deft.training.origin import Origin

FINDINGS = {"douleur": "pain", "lésion": "injury", "fracture": "fracture", "tumeur": "tumor", "kyste": "cyst"}
PLACES = {
    "du rein": "kidney",
    "du foie": "liver",
    "de la peau": "skin",
    "du genou": "knee",
    "du cœur": "heart",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Several threads gain nothing on a model this small, and lose much on busy cores."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    faiss.omp_set_num_threads(before[1])


def concepts() -> list[tuple[str, tuple[str, str, str]]]:
    return [
        (
            f"C{row:07d}",
            (
                f"{finding} {place}",
                f"{PLACES[place]} {FINDINGS[finding]}",
                f"{finding} siégeant au niveau {place}",
            ),
        )
        for row, (finding, place) in enumerate(product(FINDINGS, PLACES))
    ]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    atoms = [(name, cui) for cui, names in concepts() for name in names]
    pairs = [(cui, names[0], other) for cui, names in concepts() for other in names[1:]]
    rng = np.random.default_rng(0)
    drawn = [(a, b, 2.5 * ((a // 5 == b // 5) + (a % 5 == b % 5))) for a, b in rng.integers(0, 25, (50, 2))]
    graded = [(concepts()[a][1][0], concepts()[b][1][2], grade) for a, b, grade in drawn]
    tables = {
        "atoms": pd.DataFrame(atoms, columns=["string", "cui"]),
        "strings": pd.DataFrame({"string": [name for name, _ in atoms]}),
        "synonyms_train": pd.DataFrame(pairs[10:], columns=["cui", "left", "right"]),
        "synonyms_dev": pd.DataFrame(pairs[:10], columns=["cui", "left", "right"]),
        "graded_train": pd.DataFrame(graded[:32], columns=["left", "right", "grade"]),
        "graded_dev": pd.DataFrame(graded[32:], columns=["left", "right", "grade"]),
    }
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    (folder / "sources.json").write_text('["invented names"]', encoding="utf-8")
    return folder


def params(**changes: object) -> FinetuneParams:
    values = {
        "base": "scratch",
        "batch_size": 8,
        "learning_rate": 1e-3,
        "max_length": 32,
        "patience": 99,
        "epochs": 2,
    }
    return FinetuneParams.model_validate(values | changes)


@pytest.fixture(scope="module")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FinetuneResult]:
    out = tmp_path_factory.mktemp("models") / "finetuned"
    return out, finetune(prepared, out, params())


def same_weights(one: Path, other: Path) -> bool:
    left, right = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return left.keys() == right.keys() and all((left[name] == right[name]).all() for name in left)


def test_learns_and_writes_a_sentence_transformers_folder(trained: tuple[Path, FinetuneResult]) -> None:
    out, result = trained
    assert result.best_step > 0
    assert not result.stopped_early
    assert result.metrics["score"] > result.base_metrics["score"]
    assert result.metrics.keys() == {"recall_at_1", "mrr", "spearman", "score"}
    model = SentenceTransformer(str(out), local_files_only=True)
    assert [type(layer).__name__ for layer in model] == ["Transformer", "Pooling", "Normalize"]
    assert model.max_seq_length == 512  # the cut at 32 tokens is for training only
    assert np.linalg.norm(model.encode(["mal au genou"]), axis=1) == pytest.approx(1)
    assert Origin.read(out) == Origin("scratch", ("invented names",))


def test_the_written_weights_are_those_of_the_best_evaluation(
    prepared: Path, trained: tuple[Path, FinetuneResult]
) -> None:
    out, result = trained
    evaluator = module._evaluator(module.TrainingData.read(prepared), params())
    assert evaluator(SentenceTransformer(str(out))) == pytest.approx(dict(result.metrics), abs=1e-6)


@pytest.mark.parametrize(("scores", "best"), [((0.2, 0.9, 0.5, 0.4, 0.9), 1), ((0.9, 0.1, 0.9, 0.2, 0.3), 0)])
def test_the_first_best_evaluation_wins(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...], best: int
) -> None:
    seen: list[dict[str, object]] = []

    def script(self: object, model: SentenceTransformer, **_: object) -> dict[str, float]:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"score": scores[len(seen) - 1]}

    monkeypatch.setattr(module.DevEvaluator, "__call__", script)
    result = finetune(prepared, tmp_path / "model", params())
    assert (result.metrics["score"], result.base_metrics["score"]) == (scores[best], scores[0])
    kept = SentenceTransformer(str(tmp_path / "model")).state_dict()
    assert all((value == kept[name]).all() for name, value in seen[best].items())
    assert (result.best_step == 0) == (best == 0)


def test_stops_when_patience_is_at_an_end(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.4, 0.6, 0.5, 0.6, 0.7, 0.8])
    monkeypatch.setattr(module.DevEvaluator, "__call__", lambda *_, **__: {"score": next(scores)})
    result = finetune(prepared, tmp_path / "model", params(patience=2, evaluations_per_epoch=4))
    assert result.stopped_early
    assert result.metrics == {"score": 0.6}
    assert next(scores) == 0.7  # the second evaluation without progress was the last


def test_history_has_a_row_for_each_evaluation(trained: tuple[Path, FinetuneResult]) -> None:
    out, result = trained
    history = pd.read_csv(out / "history.csv")
    assert list(history.columns) == ["step", "epoch", "loss", "recall_at_1", "mrr", "spearman", "score"]
    assert history["step"].iloc[0] == 0
    assert history["step"].iloc[-1] == result.steps
    assert len(history) == 1 + 2 * 2
    assert history["loss"].iloc[1:].notna().all()
    assert history["score"].max() == pytest.approx(result.metrics["score"])
    assert history["loss"].iloc[-1] < history["loss"].iloc[1]


def test_leaves_nothing_beside_the_output(trained: tuple[Path, FinetuneResult]) -> None:
    out, _ = trained
    assert [path.name for path in out.parent.iterdir()] == ["finetuned"]
    assert not (out / "README.md").exists()


def test_same_seed_same_weights(prepared: Path, trained: tuple[Path, FinetuneResult], tmp_path: Path) -> None:
    again = finetune(prepared, tmp_path / "again", params())
    assert same_weights(tmp_path / "again", trained[0])
    assert again.metrics == trained[1].metrics
    finetune(prepared, tmp_path / "other", params(seed=14))
    assert not same_weights(tmp_path / "other", trained[0])


class InterruptionError(Exception):
    pass


def interrupted(prepared: Path, out: Path, after: int) -> None:
    """Train until a checkpoint at or past step `after` was saved, and fail there."""

    def on_save(self: object, args: object, state: object, control: object, **others: object) -> None:
        if state.global_step >= after:
            raise InterruptionError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module._Watch, "on_save", on_save, raising=False)
        with pytest.raises(InterruptionError):
            finetune(prepared, out, params())


@pytest.mark.parametrize("after", [1, 12])  # the first checkpoint; one in the middle of the second epoch
def test_an_interrupted_run_goes_on_to_the_same_weights(
    prepared: Path,
    trained: tuple[Path, FinetuneResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    out = tmp_path / "model"
    interrupted(prepared, out, after)
    assert not out.exists()
    assert list(tmp_path.glob(".model.checkpoints/checkpoint-*"))
    started: list[int] = []
    monkeypatch.setattr(
        module._Watch,
        "on_train_begin",
        lambda self, args, state, control, **_: started.append(state.global_step),
    )
    result = finetune(prepared, out, params())
    assert started[0] >= after
    assert same_weights(out, trained[0])
    assert result.metrics == trained[1].metrics
    assert result.steps == trained[1].steps
    pd.testing.assert_frame_equal(pd.read_csv(out / "history.csv"), pd.read_csv(trained[0] / "history.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("changes", "resume"), [({"learning_rate": 2e-3}, True), ({}, False)])
def test_does_not_go_on_from_another_run(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], resume: bool
) -> None:
    interrupted(prepared, tmp_path / "model", 1)
    started: list[int] = []
    monkeypatch.setattr(
        module._Watch,
        "on_train_begin",
        lambda self, args, state, control, **_: started.append(state.global_step),
    )
    finetune(
        prepared, tmp_path / "model", params(epochs=1, **changes) if changes else params(), resume=resume
    )
    assert started == [0]


def test_the_base_is_kept_when_training_only_harms(prepared: Path, tmp_path: Path) -> None:
    result = finetune(
        prepared, tmp_path / "model", params(learning_rate=10.0, patience=2, evaluations_per_epoch=4)
    )
    assert result.best_step == 0
    assert result.stopped_early
    assert result.metrics == result.base_metrics
    assert Origin.read(tmp_path / "model").training == ()  # the weights have seen nothing
    base = load_base("scratch", pd.read_parquet(prepared / "strings.parquet")["string"].tolist(), seed=13)
    kept = SentenceTransformer(str(tmp_path / "model"))
    assert all((value == kept.state_dict()[name]).all() for name, value in base.state_dict().items())
    assert len(pd.read_csv(tmp_path / "model" / "history.csv")) == 1 + 2


def test_trains_from_a_folder_that_also_holds_onnx_files(
    prepared: Path, trained: tuple[Path, FinetuneResult], tmp_path: Path
) -> None:
    base = tmp_path / "encoder"
    shutil.copytree(trained[0], base)
    (base / "model.onnx").write_bytes(b"not a graph")
    (base / "encoder.json").write_text("{}")
    result = finetune(prepared, tmp_path / "model", params(base=str(base), epochs=1))
    assert result.base_metrics == trained[1].metrics
    assert not (tmp_path / "model" / "model.onnx").exists()


@pytest.mark.parametrize("removed", [True, False])
def test_without_graded_pairs(prepared: Path, tmp_path: Path, removed: bool) -> None:
    folder = tmp_path / "prepared"
    shutil.copytree(prepared, folder)
    for name in ("graded_train", "graded_dev"):
        path = folder / f"{name}.parquet"
        if removed:
            path.unlink()
        else:
            pd.read_parquet(path).iloc[:0].to_parquet(path)
    result = finetune(folder, tmp_path / "model", params(epochs=1))
    assert "spearman" not in result.metrics
    assert result.metrics["score"] == result.metrics["mrr"]


def test_graded_weight_zero_turns_the_objective_off(
    prepared: Path, trained: tuple[Path, FinetuneResult], tmp_path: Path
) -> None:
    result = finetune(prepared, tmp_path / "model", params(graded_weight=0, hard_negatives=0))
    assert result.steps < trained[1].steps
    assert result.metrics["score"] == result.metrics["mrr"]
    assert "spearman" in result.metrics


def test_a_weight_scales_the_graded_loss(prepared: Path) -> None:
    model = load_base("scratch", ["douleur du rein"])
    model.eval()
    features = [model.preprocess(["douleur", "rein", "du"]), model.preprocess(["rein", "rein", "du rein"])]
    labels = torch.tensor([0.2, 1.0, 0.6])
    once = module._WeightedCoSENTLoss(model, 1.0)(features, labels)
    assert once > 0
    assert module._WeightedCoSENTLoss(model, 3.0)(features, labels).item() == pytest.approx(
        3 * once.item(), rel=1e-5
    )


def test_silent_unless_asked(prepared: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    finetune(prepared, tmp_path / "quiet", params(epochs=1))
    assert capfd.readouterr() == ("", "")
    finetune(prepared, tmp_path / "shown", params(epochs=1), progress=True)
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert "finetune" in stderr


def test_quiet_restores_the_settings_of_transformers() -> None:
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet():
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_an_output_that_cannot_be_written(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        finetune(prepared, tmp_path / "file" / "model", params())


def test_a_disk_that_fills_up_while_training(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SentenceTransformer, "save_pretrained", full)
    with pytest.raises(InputError, match="No space left"):
        finetune(prepared, tmp_path / "model", params())
    assert not (tmp_path / "model").exists()
