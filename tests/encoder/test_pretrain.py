"""Pretraining: losses by hand, batches, and runs that are killed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import torch
import transformers
from pydantic import ValidationError
from scipy.stats import spearmanr
from tokenizers.models import WordPiece

from deft.encoder import pretrain as module
from deft.encoder.pretrain import Corpus, TeacherVectors, Trainer, TrainingParams
from deft.encoder.vocabulary import SPECIAL_TOKENS, train_tokenizer
from deft.errors import DeftError, InputError
from deft.text import fold

FRENCH = ["fièvre", "douleur du dos", "crise cardiaque", "mal de tête", "toux sèche", "nez bouché"]
ENGLISH = ["fever", "back pain", "heart attack", "headache", "dry cough", "blocked nose"]


def schedule(**changes) -> TrainingParams:
    values = {
        "steps": 6,
        "batch_size": 4,
        "max_length": 8,
        "warmup_steps": 2,
        "checkpoint_every": 2,
        "mixture": {"translation": 1, "synonyms": 1, "grades": 1},
    }
    return TrainingParams(**(values | changes))


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer of whole words: trained ones differ from process to process."""
    trained = train_tokenizer([], 100)
    words = sorted({word for text in [*FRENCH, *ENGLISH] for word in fold(text).split()})
    vocabulary = {token: row for row, token in enumerate([*SPECIAL_TOKENS, *words])}
    trained.model = WordPiece(vocabulary, unk_token="[UNK]")
    return trained


@pytest.fixture(scope="module")
def corpora() -> dict[str, Corpus]:
    groups = np.arange(len(FRENCH))
    grades = np.array([0, 1, 0.2, 0.8, 0.5, 0.4], dtype=np.float32)
    return {
        "translation": Corpus(ENGLISH, FRENCH, groups),
        "synonyms": Corpus(FRENCH, ENGLISH, groups),
        "grades": Corpus(FRENCH, FRENCH[1:] + FRENCH[:1], groups, grades),
    }


@pytest.fixture(scope="module")
def teacher() -> TeacherVectors:
    vectors = np.random.default_rng(0).normal(size=(len(ENGLISH), 32)).astype(np.float32)
    return TeacherVectors(ENGLISH, vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.fixture
def trainer(tokenizer, corpora, teacher):
    """A function that makes a trainer of a new student, always the same."""

    def make(**changes) -> Trainer:
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=16,
        )
        student = transformers.BertModel(config, add_pooling_layer=False)
        return Trainer(student, tokenizer, corpora, teacher, schedule(**changes))

    return make


def assert_same_weights(one: Trainer, other: Trainer) -> None:
    for left, right in ((one.student.state_dict(), other.student.state_dict()), (one.average, other.average)):
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[name]) for name, value in left.items())


def test_a_run_that_was_killed_ends_with_the_same_weights(trainer, tmp_path, monkeypatch):
    whole = trainer()
    whole.train(tmp_path / "whole")

    killed = trainer()
    step = Trainer._step
    monkeypatch.setattr(Trainer, "_step", lambda self, number: step(self, number) if number < 3 else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        killed.train(tmp_path / "killed")
    monkeypatch.undo()
    steps: list[int] = []
    monkeypatch.setattr(Trainer, "_step", lambda self, number: steps.append(number) or step(self, number))
    resumed = trainer()
    resumed.train(tmp_path / "killed")

    assert steps == [2, 3, 4, 5]  # from the checkpoint, not from the step that was not saved
    assert_same_weights(resumed, whole)
    assert not torch.equal(trainer().average["embeddings.word_embeddings.weight"], _words(whole))


def test_a_run_that_is_finished_is_not_run_again(trainer, tmp_path, monkeypatch):
    first = trainer()
    first.train(tmp_path)
    monkeypatch.setattr(Trainer, "_step", lambda self, number: 1 / 0)
    again = trainer()
    again.train(tmp_path)
    assert_same_weights(again, first)


def test_draws_depend_on_seed_and_step_only(trainer):
    one, other = trainer(), trainer(learning_rate=1e-3, steps=60)
    list(map(one._draw, range(5)))  # what was drawn before makes no difference
    for step in range(20):
        (name, rows), (other_name, other_rows) = one._draw(step), other._draw(step)
        assert name == other_name
        assert rows.tolist() == other_rows.tolist()
    draws = {(name, *rows) for name, rows in map(one._draw, range(20))}
    assert len(draws) > 10
    assert draws != {(name, *rows) for name, rows in map(trainer(seed=14)._draw, range(20))}


def test_every_pair_is_drawn_as_often_as_others_and_with_others_of_like_length(trainer, corpora):
    texts = ["a" * length for length in range(1, 301)]
    corpora = {"synonyms": Corpus(texts[::-1], texts[::-1], np.arange(300))}
    batches = Trainer(
        trainer().student,
        trainer()._tokenizer,
        corpora,
        TeacherVectors([], np.zeros((0, 32))),
        schedule(mixture={"synonyms": 1}),
    )
    counts = np.zeros(300)
    for step in range(3000):
        _, rows = batches._draw(step)
        assert len(rows) == 4
        assert np.ptp(rows) < 32
        counts += np.bincount(rows, minlength=300)
    tenths = counts.reshape(-1, 10).sum(axis=1) / counts.sum() * 30
    assert tenths == pytest.approx(1, abs=0.2)


def test_contrast_by_hand():
    a, b = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # scores [[1, 0.6], [0, 0.8]]: rows choose among columns, then columns among rows
    rows = (math.log(1 + math.exp(0.6 - 1)) + math.log(1 + math.exp(0 - 0.8))) / 2
    columns = (math.log(1 + math.exp(0 - 1)) + math.log(1 + math.exp(0.6 - 0.8))) / 2
    loss = module._contrast(a, b, torch.tensor([0, 1]), temperature=1.0)
    assert loss.item() == pytest.approx((rows + columns) / 2, abs=1e-6)


def test_members_of_one_group_are_no_negatives_of_each_other():
    vectors = torch.eye(3)
    loss = module._contrast(vectors, vectors, torch.tensor([7, 7, 9]), temperature=1.0)
    # pairs 0 and 1 have pair 2 as their only negative, pair 2 has both
    expected = (2 * math.log(1 + math.exp(-1)) + math.log(1 + 2 * math.exp(-1))) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    alone = module._contrast(vectors, vectors, torch.tensor([7, 7, 7]), temperature=1.0)
    assert alone.item() == pytest.approx(0, abs=1e-6)


def test_cosent_by_hand():
    cosine, grade = torch.tensor([0.9, 0.5, 0.7]), torch.tensor([1.0, 0.0, 0.0])
    # 0 is above 1 and above 2; 1 and 2 are equal and say nothing
    expected = math.log(1 + math.exp(20 * (0.5 - 0.9)) + math.exp(20 * (0.7 - 0.9)))
    assert module._cosent(cosine, grade).item() == pytest.approx(expected, abs=1e-6)
    assert module._cosent(cosine, torch.ones(3)).item() == 0


def test_graded_pairs_bring_the_ranks_of_cosines_near_those_of_grades(trainer, corpora, tmp_path):
    learner = trainer(steps=40, batch_size=6, mixture={"grades": 1}, learning_rate=1e-3)
    corpus = corpora["grades"]

    def rank_correlation() -> float:
        learner.student.eval()
        with torch.no_grad():
            cosines = (learner.embed(corpus.left) * learner.embed(corpus.right)).sum(1)
        return float(spearmanr(cosines, corpus.grade).statistic)

    before = rank_correlation()
    learner.train(tmp_path)
    assert rank_correlation() > max(before + 0.2, 0.9)


def test_translations_come_to_lie_where_the_teacher_places_the_english(trainer, teacher, tmp_path):
    learner = trainer(steps=20, batch_size=6, mixture={"translation": 1}, learning_rate=3e-3)
    learner.train(tmp_path)
    learner.student.eval()
    with torch.no_grad():
        cosines = learner.embed(FRENCH).numpy() @ teacher[ENGLISH].T
    assert cosines.argmax(axis=1).tolist() == list(range(len(FRENCH)))


def test_vectors_do_not_depend_on_padding(trainer):
    learner = trainer()
    learner.student.eval()
    with torch.no_grad():
        alone, beside = learner.embed(["fièvre"]), learner.embed(["fièvre", "douleur du dos mal de tête"])
    torch.testing.assert_close(alone[0], beside[0], atol=2e-2, rtol=0)  # bfloat16
    assert alone.norm().item() == pytest.approx(1)


def test_the_tokenizer_of_the_caller_is_left_alone(trainer, tokenizer):
    trainer()
    assert tokenizer.truncation is None


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(trainer, tmp_path):
    learner = trainer()
    with torch.no_grad():
        learner.student.embeddings.word_embeddings.weight.fill_(math.nan)
    with pytest.raises(DeftError, match="not a number"):
        learner.train(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mixture", [{}, {"synonyms": 0}, {"glosses": 1}])
def test_nothing_to_learn_from(trainer, mixture):
    with pytest.raises(InputError, match="nothing to learn from"):
        trainer(mixture=mixture)


@pytest.mark.parametrize("change", [{"steps": 0}, {"warmup_steps": 0}, {"mixture": {"others": 1}}])
def test_a_schedule_that_makes_no_sense(change):
    with pytest.raises(ValidationError):
        schedule(**change)


def test_teacher_vectors_are_found_by_text_after_a_round_trip(teacher, tmp_path: Path):
    teacher.save(tmp_path / "teacher.npz")
    loaded = TeacherVectors.load(tmp_path / "teacher.npz")
    np.testing.assert_allclose(loaded[ENGLISH[::-1]], teacher[ENGLISH][::-1], atol=1e-3)
    assert loaded[ENGLISH[:1]].dtype == np.float32
    assert "fever" in loaded
    assert "fièvre" not in loaded
    with pytest.raises(ValueError, match="distinct texts"):
        TeacherVectors(["fever", "fever"], np.zeros((2, 3)))


def _words(trainer: Trainer):
    return trainer.average["embeddings.word_embeddings.weight"]
