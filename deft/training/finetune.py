"""Fine-tuning of an encoder on synonym pairs and graded pairs, in one run."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
from torch.utils.data import BatchSampler
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from deft.config import FinetuneParams
from deft.errors import InputError
from deft.files import atomic_folder, cannot_write, read_json, sha256, write_json
from deft.progress import Progress
from deft.training.base import load_base, quiet
from deft.training.checkpoints import Checkpoints
from deft.training.dev_metrics import PRIMARY, DevEvaluator, synonym_retrieval
from deft.training.origin import Origin
from deft.training.sampler import ConceptBatchSampler
from deft.training.training_data import TrainingConcepts, TrainingData, mine_negatives

HISTORY = "history.csv"

# Bounds on time: index strings that hard negatives are chosen from, queries and distractors of an evaluation.
_MINED_FROM, _DEV_QUERIES, _DEV_DISTRACTORS = 200_000, 1000, 5000


@dataclass(frozen=True)
class FinetuneResult:
    """What a fine-tuning run came to.

    Attributes
    ----------
    metrics, base_metrics
        Dev metrics of the model that was kept and of the base.
    best_step
        Optimizer step of the model that was kept; 0 means that no evaluation beat the base, whose weights
        were kept.
    steps
        Optimizer steps made, those before an interruption included.
    seconds
        Wall time of this call.
    stopped_early
        Whether training ended for want of progress.
    """

    metrics: Mapping[str, float]
    base_metrics: Mapping[str, float]
    best_step: int
    steps: int
    seconds: float
    stopped_early: bool


def finetune(
    prepared: Path, out: Path, params: FinetuneParams, *, progress: bool = False, resume: bool = True
) -> FinetuneResult:
    """Fine-tune an encoder on prepared pairs and write the best one as a sentence-transformers folder.

    Synonym pairs are learned by contrast with the other pairs of the batch and with hard negatives, graded
    pairs by ranking their cosines (CoSENT). The dev score decides which checkpoint is kept; the base itself
    competes. Checkpoints lie in ``.{name of out}.checkpoints`` beside `out` until the run ends.

    Parameters
    ----------
    prepared
        A folder written by the stage `prepare`.
    out
        The folder to write: the model and ``history.csv`` (step, epoch, mean training loss since the row
        before, dev metrics).
    params
        How to train.
    progress
        Show progress bars on stderr.
    resume
        Go on from the last checkpoint of an interrupted run with the same parameters and inputs. A run with
        others starts afresh.

    Raises
    ------
    InputError
        The prepared folder or the base is not usable, or the output cannot be written.
    """
    started = time.perf_counter()
    out = Path(out)
    data = TrainingData.read(prepared)
    origin = Origin.read(params.base)
    checkpoints = Checkpoints.open(out, _fingerprint(Path(prepared), params), resume=resume)
    base = load_base(params.base, data.strings, seed=params.seed)
    full_length = base.max_seq_length
    base.max_seq_length = min(params.max_length, full_length or params.max_length)
    with quiet():
        examples = _synonym_examples(base, data, params, checkpoints, progress=progress)
        trainer = _trainer(base, data, examples, params, checkpoints, progress=progress)
        try:
            trainer.train(resume_from_checkpoint=checkpoints.last)
        except OSError as error:
            raise cannot_write(checkpoints.folder, error) from error
    history = _history(trainer.state.log_history)
    best = history.iloc[int(history[PRIMARY].to_numpy().argmax())]
    model = load_base(_source(int(best["step"]), params, checkpoints), data.strings, seed=params.seed)
    model.max_seq_length = full_length
    if best["step"]:  # else the weights are those of the base
        origin = origin.trained_on(data.sources)
    with atomic_folder(out, marker="modules.json") as folder, quiet():
        model.save_pretrained(str(folder), create_model_card=False)
        history.to_csv(folder / HISTORY, index=False)
        origin.save(folder)
    checkpoints.remove()
    return FinetuneResult(
        metrics=_metrics(best),
        base_metrics=_metrics(history.iloc[0]),
        best_step=int(best["step"]),
        steps=trainer.state.global_step,
        seconds=time.perf_counter() - started,
        stopped_early=trainer.state.global_step < trainer.state.max_steps,
    )


@dataclass(frozen=True)
class _Examples:
    """Synonym pairs with their hard negatives, and the concepts that each row's texts name."""

    texts: Dataset  # columns anchor, positive, negative_1 ... in the order that the loss expects
    own: list[frozenset[str]]
    negative: list[frozenset[str]]


def _synonym_examples(
    base: SentenceTransformer,
    data: TrainingData,
    params: FinetuneParams,
    checkpoints: Checkpoints,
    *,
    progress: bool,
) -> _Examples:
    pairs = data.synonyms
    columns = {"anchor": pairs["left"].tolist(), "positive": pairs["right"].tolist()}
    negatives: list[tuple[str, ...]] = [()] * len(pairs)
    if params.hard_negatives and len(pairs):
        negatives = _negatives(base, data, params, checkpoints, progress=progress)
        columns |= {f"negative_{i + 1}": [row[i] for row in negatives] for i in range(params.hard_negatives)}
    concepts = data.concepts
    return _Examples(
        texts=Dataset.from_dict(columns),
        own=[
            concepts.of(left) | concepts.of(right) | {cui}
            for cui, left, right in pairs[["cui", "left", "right"]].itertuples(index=False)
        ],
        negative=[_union(concepts, row) for row in negatives],
    )


def _negatives(
    base: SentenceTransformer,
    data: TrainingData,
    params: FinetuneParams,
    checkpoints: Checkpoints,
    *,
    progress: bool,
) -> list[tuple[str, ...]]:
    """Mine hard negatives with the base encoder, or read those of the interrupted run."""
    kept = checkpoints.folder / "negatives.json"
    if kept.exists():
        return [tuple(row) for row in read_json(kept)]

    def embed(texts: Sequence[str]) -> np.ndarray:
        # Long and short texts are kept apart, as encode does by itself for one call.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        vectors = np.empty((len(texts), base.get_embedding_dimension()), dtype=np.float32)
        with Progress(total=len(texts), desc="mine", unit="text", disable=not progress) as bar:
            for start in range(0, len(texts), 64 * params.batch_size):
                rows = order[start : start + 64 * params.batch_size]
                vectors[rows] = base.encode(
                    [texts[row] for row in rows],
                    batch_size=params.batch_size,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
                bar.update(len(rows))
        return vectors

    pool = _sample(data.strings, _MINED_FROM, params.seed)
    negatives = mine_negatives(data.synonyms, pool, data.concepts, embed, params.hard_negatives)
    write_json(kept, negatives)
    return negatives


def _graded_examples(graded: pd.DataFrame) -> Dataset:
    return Dataset.from_dict(
        {
            "left": graded["left"].tolist(),
            "right": graded["right"].tolist(),
            "score": (graded["grade"] / 5).tolist(),
        }
    )


def _union(concepts: TrainingConcepts, texts: Sequence[str]) -> frozenset[str]:
    return frozenset().union(*(concepts.of(text) for text in texts))


def _sample(texts: Sequence[str], size: int, seed: int) -> list[str]:
    """Draw at most `size` texts and keep their order."""
    if len(texts) <= size:
        return list(texts)
    rows = np.random.default_rng(seed).choice(len(texts), size, replace=False)
    return [texts[row] for row in np.sort(rows)]


class _WeightedCoSENTLoss(CoSENTLoss):  # type: ignore[misc]
    """CoSENT times a weight, to balance it with the loss of another dataset."""

    def __init__(self, model: SentenceTransformer, weight: float) -> None:
        super().__init__(model)
        self.weight = weight

    @override
    def forward(
        self, sentence_features: Iterable[dict[str, torch.Tensor]], labels: torch.Tensor
    ) -> torch.Tensor:
        loss: torch.Tensor = super().forward(sentence_features, labels)
        return self.weight * loss


class _Trainer(SentenceTransformerTrainer):  # type: ignore[misc]
    """A trainer that draws the batches of synonyms from a given sampler, and makes no model card."""

    def __init__(self, *, synonyms: ConceptBatchSampler, **arguments: object) -> None:
        self._synonyms = synonyms
        super().__init__(**arguments)

    @override
    def get_batch_sampler(self, dataset: Dataset, batch_size: int, **arguments: object) -> BatchSampler:
        if "anchor" in dataset.column_names:
            return self._synonyms
        sampler: BatchSampler = super().get_batch_sampler(dataset, batch_size=batch_size, **arguments)
        return sampler

    @override
    def add_model_card_callback(self, default_args_dict: dict[str, object]) -> None:
        """Leave out the callback that gathers what a model card says."""


def _trainer(
    model: SentenceTransformer,
    data: TrainingData,
    examples: _Examples,
    params: FinetuneParams,
    checkpoints: Checkpoints,
    *,
    progress: bool,
) -> _Trainer:
    sampler = ConceptBatchSampler(examples.own, examples.negative, params.batch_size, seed=params.seed)
    datasets, losses, steps = DatasetDict(), {}, 0
    if len(sampler):
        datasets["synonyms"] = examples.texts
        losses["synonyms"] = MultipleNegativesRankingLoss(model, scale=1 / params.temperature)
        steps += len(sampler)
    if len(data.graded) and params.graded_weight:
        datasets["graded"] = _graded_examples(data.graded)
        losses["graded"] = _WeightedCoSENTLoss(model, params.graded_weight)
        steps += math.ceil(len(data.graded) / params.batch_size)
    if not datasets:
        raise InputError(
            "there is no synonym pair, and graded pairs have no weight.", field="finetune.graded_weight"
        )
    trainer = _Trainer(
        synonyms=sampler,
        model=model,
        args=_arguments(params, checkpoints, math.ceil(steps / params.evaluations_per_epoch)),
        train_dataset=datasets,
        loss=losses,
        evaluator=_evaluator(data, params),
        callbacks=[_Watch(params.patience), *([_Progress()] if progress else [])],
    )
    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    return trainer


def _arguments(
    params: FinetuneParams, checkpoints: Checkpoints, interval: int
) -> SentenceTransformerTrainingArguments:
    cuda = torch.cuda.is_available()
    return SentenceTransformerTrainingArguments(
        output_dir=str(checkpoints.folder),
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size,
        learning_rate=params.learning_rate,
        warmup_steps=params.warmup_ratio,
        seed=params.seed,
        bf16=cuda and torch.cuda.is_bf16_supported(),
        dataloader_pin_memory=cuda,
        eval_on_start=checkpoints.last is None,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        eval_steps=interval,
        save_steps=interval,
        logging_steps=interval,
        metric_for_best_model=PRIMARY,
        greater_is_better=True,
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,  # its bar writes the metrics to stdout
    )


def _evaluator(data: TrainingData, params: FinetuneParams) -> DevEvaluator:
    lefts = _sample(data.synonyms_dev["left"].unique().tolist(), _DEV_QUERIES, params.seed)
    pairs = data.synonyms_dev[data.synonyms_dev["left"].isin(lefts)]
    retrieval = synonym_retrieval(pairs, _sample(data.strings, _DEV_DISTRACTORS, params.seed), data.concepts)
    return DevEvaluator(
        retrieval, data.graded_dev, graded_weight=params.graded_weight, batch_size=params.batch_size
    )


class _Watch(TrainerCallback):  # type: ignore[misc]
    """Stop for want of progress over the base or a later best, and let no run end without an evaluation.

    All it knows is in the trainer's log, which a checkpoint carries, so that a resumed run decides as an
    uninterrupted one.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    @override
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = control.should_evaluate = control.should_save = True

    @override
    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        scores = [entry[f"eval_{PRIMARY}"] for entry in state.log_history if f"eval_{PRIMARY}" in entry]
        if len(scores) - 1 - int(np.argmax(scores)) >= self._patience:
            control.should_training_stop = True


class _Progress(TrainerCallback):  # type: ignore[misc]
    """A progress bar on stderr."""

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        self._bar = Progress(total=state.max_steps, initial=state.global_step, desc="finetune", unit="step")

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, *_: object, **__: object) -> None:
        self._bar.update()

    @override
    def on_train_end(self, *_: object, **__: object) -> None:
        self._bar.close()


def _fingerprint(prepared: Path, params: FinetuneParams) -> dict[str, Any]:
    """Describe a run by its parameters and the content of its inputs."""
    files = [*prepared.glob("*.parquet"), *(path for path in Path(params.base).rglob("*") if path.is_file())]
    return {
        "params": params.model_dump(mode="json"),
        "files": {str(path): sha256(path) for path in sorted(files)},
    }


def _source(step: int, params: FinetuneParams, checkpoints: Checkpoints) -> str:
    return checkpoints.at(step) if step else params.base


def _history(log: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each evaluation: step, epoch, mean loss since the row before, dev metrics."""
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    names = ("recall_at_1", "mrr", "spearman", PRIMARY)
    rows = [
        {"step": entry["step"], "epoch": entry["epoch"], "loss": losses.get(entry["step"])}
        | {name: entry[f"eval_{name}"] for name in names if f"eval_{name}" in entry}
        for entry in log
        if f"eval_{PRIMARY}" in entry
    ]
    return pd.DataFrame(rows)


def _metrics(row: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in row.items() if name not in ("step", "epoch", "loss")}
