"""Pretrain a compact French biomedical sentence encoder from an English one, on a laptop or a GPU.

The student keeps the teacher's layers and gets a French biomedical vocabulary (`vocabulary.py`). It then
learns, batch by batch:

- translation: a French text and its English translation both lie where the teacher places the English
  (Reimers and Gurevych 2020, "Making monolingual sentence embeddings multilingual using knowledge
  distillation");
- synonyms: two names of one concept are neighbours, among the other names of the batch (Liu et al. 2021,
  SapBERT);
- glosses: a phrase and its explanation in parentheses, mined from patient leaflets, are neighbours;
- lay: what laypeople say for a concept and its names are neighbours;
- grades: the cosine of graded sentence pairs follows the grades (CoSENT, Su 2022);
- sets: a sentence is nearer to its parallel sentence than to distractors.

Late in training, a batch of synonyms, or of what laypeople say, is made of small groups of neighbouring
concepts, as the student places them: each concept then has its hard negatives beside it at no cost (Xiong et
al. 2021, ANCE, mines them as well, but encodes them in addition).

A step depends only on the seed and its number, so a run that was killed goes on from its last checkpoint to
the same weights.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer
from torch.nn import functional

from deft.errors import DeftError, InputError
from deft.files import atomic_write
from deft.progress import Progress
from deft.recipe.params import Objective, TrainingParams
from deft.training.base import load_base, quiet

if TYPE_CHECKING:
    from transformers import BertModel

logger = logging.getLogger(__name__)

# Batches are padded to multiples of it: few distinct shapes, and each shape's kernels are prepared once.
_LENGTH_STEP = 4
_WINDOW = 8  # batches that a batch of like length is drawn from
_CHUNK = 128  # texts that are padded to one length
_TEACHER_TOKENS = 64  # longer texts are truncated for the teacher
_OF_CONCEPTS: tuple[Objective, ...] = ("synonyms", "lay")  # whose groups are concepts that have neighbours


@dataclass(frozen=True)
class Corpus:
    """Texts of one objective, in pairs.

    Attributes
    ----------
    left, right
        The two texts of each pair.
    group
        Concept of each pair (pairs of one group are no negatives of each other), int64 of shape (n,),
        numbered from 0 without gaps.
    grade
        Similarity of each pair from 0 to 1 for the objective `grades`, else None.
    distractor
        A text for each pair that `left` must be farther from than from `right`, for the objective `sets`.
    """

    left: Sequence[str]
    right: Sequence[str]
    group: np.ndarray
    grade: np.ndarray | None = None
    distractor: Sequence[str] | None = None

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.left)


class TeacherVectors:
    """The teacher's vectors of distinct texts, found by text.

    Parameters
    ----------
    texts
        Distinct texts without line breaks.
    vectors
        One row a text.
    """

    def __init__(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._row = {text: row for row, text in enumerate(texts)}
        self._vectors = vectors
        if len(self._row) != len(vectors):
            raise ValueError(f"{len(self._row)} distinct texts and {len(vectors)} vectors")

    def __contains__(self, text: str) -> bool:
        """Tell whether the vector of a text is known."""
        return text in self._row

    def __getitem__(self, texts: Sequence[str]) -> np.ndarray:
        """Return the vectors of texts, float32 of shape (n, dimension)."""
        return np.asarray(self._vectors[[self._row[text] for text in texts]], dtype=np.float32)

    def save(self, path: Path) -> None:
        """Write texts and vectors (half precision) to a `.npz` file."""
        with atomic_write(path, binary=True) as stream:
            texts = np.frombuffer("\n".join(self._row).encode(), dtype=np.uint8)  # texts hold no line break
            np.savez(stream, texts=texts, vectors=self._vectors.astype(np.float16))

    @classmethod
    def load(cls, path: Path) -> TeacherVectors:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(arrays["texts"].tobytes().decode().split("\n"), arrays["vectors"])

    @classmethod
    def compute(
        cls, texts: Sequence[str], teacher: Path, *, batch_size: int = 128, progress: bool = False
    ) -> TeacherVectors:
        """Encode distinct `texts` with a sentence-transformers folder.

        Raises
        ------
        InputError
            The folder holds no such model.
        """
        model = load_base(str(teacher))
        model.max_seq_length = min(_TEACHER_TOKENS, model.max_seq_length or _TEACHER_TOKENS)
        with quiet(), torch.inference_mode(), torch.autocast(model.device.type, torch.bfloat16):
            vectors = model.encode(
                list(texts), batch_size=batch_size, show_progress_bar=progress, normalize_embeddings=True
            )
        return cls(texts, np.asarray(vectors, dtype=np.float16))


class Trainer:
    """Train a student on several corpora, one objective a step.

    Parameters
    ----------
    student
        The model; it is trained in place. `average` holds the running average of its weights.
    tokenizer
        Its tokenizer.
    corpora
        Pairs of each objective.
    teacher
        Vectors of every English text of the objective `translation`.
    params
        The schedule.

    Raises
    ------
    InputError
        No objective of the mixture has a weight and pairs to learn from.
    """

    def __init__(
        self,
        student: BertModel,
        tokenizer: Tokenizer,
        corpora: Mapping[Objective, Corpus],
        teacher: TeacherVectors,
        params: TrainingParams,
    ) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.student = student.to(self.device)
        self.average = {name: weight.detach().clone() for name, weight in student.state_dict().items()}
        self.params = params
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.enable_truncation(params.max_length)
        self._tokenizer.no_padding()
        self._corpora = corpora
        self._by_length: dict[Objective, np.ndarray] = {
            name: _sort_by_length(corpora[name])
            for name, weight in params.mixture.items()
            if weight > 0 and len(corpora.get(name, ())) > 1
        }
        if not self._by_length:
            raise InputError("there is nothing to learn from.", field="training.mixture")
        self._teacher = teacher
        self._near: dict[Objective, ConceptNeighbours] = {}
        embeddings = [weight for name, weight in student.named_parameters() if "word_embeddings" in name]
        others = [weight for name, weight in student.named_parameters() if "word_embeddings" not in name]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": others, "lr": params.learning_rate},
                {"params": embeddings, "lr": params.embedding_learning_rate},
            ],
            weight_decay=0.01,
            betas=(0.9, 0.98),
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate)

    def train(self, checkpoints: Path, *, progress: bool = False) -> None:
        """Run to the last step, from the newest checkpoint if there is one.

        Parameters
        ----------
        checkpoints
            Folder of the checkpoint.
        progress
            Show progress on standard error.

        Raises
        ------
        DeftError
            A loss is not a number; the last checkpoint is from before.
        """
        steps = self.params.steps
        first = self._resume(checkpoints / "last.pt")
        self.student.train()
        losses: dict[str, float] = {}
        start = time.perf_counter()
        for step in Progress(
            range(first, steps), initial=first, total=steps, disable=not progress, desc="pretrain"
        ):
            self._look_around(step, checkpoints)
            objective, loss = self._step(step)
            losses[objective] = 0.95 * losses.get(objective, loss) + 0.05 * loss
            if (step + 1) % 50 == 0:
                means = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
                logger.info("step %d, %.0f s, %s", step + 1, time.perf_counter() - start, means)
            if (step + 1) % self.params.checkpoint_every == 0 or step + 1 == steps:
                self._save(checkpoints / "last.pt", step + 1)

    def _step(self, step: int) -> tuple[Objective, float]:
        """Draw a batch, learn from it, and return its objective and loss."""
        objective, rows = self._draw(step)
        torch.manual_seed(self.params.seed * 1_000_003 + step)  # of the dropout
        loss = self._loss(objective, rows)
        value = loss.item()
        if not math.isfinite(value):
            raise DeftError(
                f"The loss of step {step + 1} ({objective}) is not a number. Lower the learning rates."
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self._update_average(step)
        return objective, value

    def embed(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the student's unit vectors, of shape (n, dimension), with gradients."""
        codes = [code.ids for code in self._tokenizer.encode_batch(list(texts))]
        order = np.argsort([len(code) for code in codes], kind="stable")
        chunks = [order[start : start + _CHUNK] for start in range(0, len(order), _CHUNK)]
        vectors = torch.cat([self._forward([codes[row] for row in chunk]) for chunk in chunks])
        return vectors[torch.from_numpy(np.argsort(order)).to(self.device)]

    def _forward(self, codes: Sequence[Sequence[int]]) -> torch.Tensor:
        width = math.ceil(max(map(len, codes)) / _LENGTH_STEP) * _LENGTH_STEP
        ids = torch.tensor([[*code, *[0] * (width - len(code))] for code in codes], device=self.device)
        lengths = torch.tensor([len(code) for code in codes], device=self.device)
        mask = (torch.arange(width, device=self.device) < lengths[:, None]).long()
        with torch.autocast(self.device, torch.bfloat16):
            hidden = self.student(ids, attention_mask=mask).last_hidden_state
        weights = mask[:, :, None].float()
        return functional.normalize((hidden.float() * weights).sum(1) / weights.sum(1), dim=1)

    def _loss(self, objective: Objective, rows: np.ndarray) -> torch.Tensor:
        corpus = self._corpora[objective]
        left, right = [corpus.left[row] for row in rows], [corpus.right[row] for row in rows]
        vectors = self.embed(left + right)
        a, b = vectors[: len(rows)], vectors[len(rows) :]
        if corpus.grade is not None:
            return _cosent((a * b).sum(1), torch.tensor(corpus.grade[rows], device=self.device))
        group = torch.tensor(corpus.group[rows], device=self.device)
        if objective == "translation":  # left is English: the teacher's own language
            target = torch.tensor(self._teacher[left], device=self.device)
            distance = (1 - (a * target).sum(1)).mean() + (1 - (b * target).sum(1)).mean()
            return distance + 0.5 * _contrast(b, target, group, self.params.temperature)
        if corpus.distractor is not None:
            distractors = self.embed([corpus.distractor[row] for row in rows])
            return _contrast(a, b, group, self.params.temperature, distractors)
        loss = _contrast(a, b, group, self.params.temperature)
        known = [place for place, text in enumerate(right) if text in self._teacher]
        if len(known) > 1:  # English names stay where the teacher has them, and its space stays of use
            target = torch.tensor(self._teacher[[right[place] for place in known]], device=self.device)
            loss = loss + 0.5 * (1 - (b[known] * target).sum(1)).mean()
        return loss

    def _draw(self, step: int) -> tuple[Objective, np.ndarray]:
        """Choose the objective of a step, and pairs of like length for it.

        They are a sample of a window of the corpus sorted by length. The window may turn back at an end, so
        that the shortest and the longest pairs are drawn as often as others.
        """
        generator = np.random.default_rng([self.params.seed, step])
        names = list(self._by_length)
        weights = np.array([self.params.mixture[name] for name in names])
        objective = names[generator.choice(len(names), p=weights / weights.sum())]
        if objective in self._near:
            return objective, self._near[objective].draw(generator, self.params.batch_size)
        order = self._by_length[objective]
        size = min(self.params.batch_size, len(order))
        window = min(_WINDOW * size, len(order))
        there_and_back = np.concatenate([order, order[::-1]])
        start = int(generator.integers(len(there_and_back))) if window < len(order) else 0
        places = start + generator.choice(window, size=size, replace=False)
        return objective, there_and_back[places % len(there_and_back)]

    def _look_around(self, step: int, folder: Path) -> None:
        """From the step on that the schedule names, know which concepts are neighbours, also when resumed."""
        start = self.params.neighbours_from
        if start is None or step < start or self._near:
            return
        for name in (name for name in _OF_CONCEPTS if name in self._by_length):
            path, corpus = folder / f"neighbours-{name}.npy", self._corpora[name]
            if not path.exists():
                with atomic_write(path, binary=True) as stream:
                    np.save(stream, self._nearest(corpus))
            self._near[name] = ConceptNeighbours(corpus.group, np.load(path))

    def _nearest(self, corpus: Corpus) -> np.ndarray:
        """Return the nearest other concepts of each concept as the student places them, of shape (n, k)."""
        codes, texts = pd.factorize(pd.Series([*corpus.left, *corpus.right], dtype="str"))
        self.student.eval()
        with torch.inference_mode():
            parts = [
                self.embed(list(texts[start : start + 4096])).cpu() for start in range(0, len(texts), 4096)
            ]
        self.student.train()
        both = torch.from_numpy(np.concatenate([corpus.group, corpus.group]))
        centres = torch.zeros(int(both.max()) + 1, parts[0].shape[1])
        centres.index_add_(0, both, torch.cat(parts)[torch.from_numpy(codes)])
        return _nearest_rows(functional.normalize(centres, dim=1), self.params.neighbours)

    def _learning_rate(self, step: int) -> float:
        warmup = min(1.0, (step + 1) / self.params.warmup_steps)
        return warmup * max(0.02, 1 - step / self.params.steps)

    def _update_average(self, step: int) -> None:
        decay = min(self.params.average_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, weight in self.student.state_dict().items():
                if weight.dtype.is_floating_point:
                    self.average[name].lerp_(weight, 1 - decay)

    def _save(self, path: Path, step: int) -> None:
        state = {
            "step": step,
            "student": self.student.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }
        with atomic_write(path, binary=True) as stream:
            torch.save(state, stream)

    def _resume(self, path: Path) -> int:
        if not path.exists():
            return 0
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        logger.info("resumed at step %d", state["step"])
        return int(state["step"])


class ConceptNeighbours:
    """Draw pairs of concepts that are neighbours.

    Parameters
    ----------
    group
        Concept of each pair, numbered from 0 without gaps, of shape (pairs,).
    near
        Neighbours of each concept, of shape (concepts, k).
    """

    def __init__(self, group: np.ndarray, near: np.ndarray) -> None:
        self._near = near
        self._pairs = np.argsort(group, kind="stable")
        self._first = np.searchsorted(group[self._pairs], np.arange(len(near) + 1))

    def draw(self, generator: np.random.Generator, size: int) -> np.ndarray:
        """Return at most `size` pairs, one a concept: concepts drawn at random, each with its neighbours."""
        seeds = generator.permutation(len(self._near))[: max(1, size // (1 + self._near.shape[1]))]
        concepts = np.unique(np.concatenate([seeds, self._near[seeds].ravel()]))[:size]
        first, last = self._first[concepts], self._first[concepts + 1]
        return np.asarray(self._pairs[generator.integers(first, last)])


def _nearest_rows(vectors: torch.Tensor, count: int, block: int = 1024) -> np.ndarray:
    """Return the `count` nearest other rows of each unit vector."""
    count = min(count, len(vectors) - 1)
    nearest = []
    for start in range(0, len(vectors), block):
        scores = vectors[start : start + block] @ vectors.T
        own = torch.arange(len(scores))
        scores[own, own + start] = -2.0
        nearest.append(scores.topk(count, dim=1).indices.numpy())
    return np.concatenate(nearest)


def _sort_by_length(corpus: Corpus) -> np.ndarray:
    lengths = [max(len(left), len(right)) for left, right in zip(corpus.left, corpus.right, strict=True)]
    return np.argsort(lengths, kind="stable")


def _contrast(
    a: torch.Tensor,
    b: torch.Tensor,
    group: torch.Tensor,
    temperature: float,
    distractors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric InfoNCE in which members of one group are not each other's negatives.

    Distractors, if given, are negatives of every row of `a`.
    """
    scores = a @ b.T / temperature
    same = group[:, None] == group[None, :]
    same.fill_diagonal_(fill_value=False)
    scores = scores.masked_fill(same, -1e4)
    target = torch.arange(len(a), device=a.device)
    back = functional.cross_entropy(scores.T, target)
    if distractors is not None:
        scores = torch.cat([scores, a @ distractors.T / temperature], dim=1)
    return (functional.cross_entropy(scores, target) + back) / 2


def _cosent(cosine: torch.Tensor, grade: torch.Tensor, scale: float = 20.0) -> torch.Tensor:
    """CoSENT: of two pairs, the one with the higher grade has the higher cosine."""
    difference = scale * (cosine[None, :] - cosine[:, None])
    wrong = difference[grade[:, None] > grade[None, :]]
    return torch.logsumexp(torch.cat([torch.zeros(1, device=cosine.device), wrong]), dim=0)
