"""Pretraining: losses by hand, batches, and runs that are killed."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")

import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import spearmanr
from tokenizers.models import WordPiece

from deft.errors import DeftError, InputError
from deft.recipe import pretrain as module
from deft.recipe.params import TrainingParams
from deft.recipe.pretrain import ConceptNeighbours, Corpus, TeacherVectors, Trainer
from deft.recipe.vocabulary import SPECIAL_TOKENS, train_tokenizer
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
    turned = FRENCH[2:] + FRENCH[:2]
    return {
        "sets": Corpus(FRENCH, ENGLISH, groups, distractor=turned),
        "translation": Corpus(ENGLISH, FRENCH, groups),
        "synonyms": Corpus(FRENCH, ENGLISH, groups),
        "lay": Corpus(FRENCH[::-1], ENGLISH[::-1], groups),
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


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("killed_at", [3, 5])
def test_neighbours_are_the_same_after_a_kill(trainer, tmp_path, monkeypatch, start, killed_at):
    """The step they are looked up at lies before, at or after a checkpoint (2, 4) or the kill."""
    options = {"neighbours_from": start, "neighbours": 1, "mixture": {"synonyms": 3, "translation": 1}}
    whole = trainer(**options)
    whole.train(tmp_path / "whole")

    killed = trainer(**options)
    step = Trainer._step
    monkeypatch.setattr(
        Trainer, "_step", lambda self, number: step(self, number) if number < killed_at else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        killed.train(tmp_path / "killed")
    monkeypatch.undo()
    if start < killed_at:  # they are kept: by now the student would place concepts otherwise
        monkeypatch.setattr(Trainer, "_nearest", lambda *_: pytest.fail("they were looked up again"))
    resumed = trainer(**options)
    resumed.train(tmp_path / "killed")
    monkeypatch.undo()
    assert_same_weights(resumed, whole)
    near = [np.load(tmp_path / folder / "neighbours-synonyms.npy") for folder in ("whole", "killed")]
    np.testing.assert_array_equal(*near)
    plain = trainer(**(options | {"neighbours_from": None}))
    plain.train(tmp_path / "plain")
    assert not (tmp_path / "plain" / "neighbours-synonyms.npy").exists()


def test_neighbours_are_looked_up_at_their_step_and_once(trainer, tmp_path, monkeypatch):
    seen = []
    nearest, step = Trainer._nearest, Trainer._step
    monkeypatch.setattr(
        Trainer, "_nearest", lambda self, corpus: seen.append("look") or nearest(self, corpus)
    )
    monkeypatch.setattr(Trainer, "_step", lambda self, number: seen.append(number) or step(self, number))
    learner = trainer(neighbours_from=3, mixture={"synonyms": 1})
    learner.train(tmp_path)
    assert seen == [0, 1, 2, "look", 3, 4, 5]
    assert learner.student.training  # dropout is on again
    alone = trainer(neighbours_from=0, mixture={"translation": 1})
    alone.train(tmp_path / "alone")  # without concepts there is nothing to look at
    assert seen.count("look") == 1


def test_neighbours_of_concepts_are_nearest_by_brute_force(trainer, corpora):
    learner = trainer(neighbours=2)
    corpus = Corpus(
        [*FRENCH, FRENCH[0]], [*ENGLISH, FRENCH[3]], np.array([0, 1, 2, 3, 4, 5, 0])
    )  # the first concept has two pairs
    near = learner._nearest(corpus)
    learner.student.eval()
    with torch.no_grad():
        left, right = learner.embed(corpus.left).double(), learner.embed(corpus.right).double()
    centres = torch.stack(
        [(left[corpus.group == number].sum(0) + right[corpus.group == number].sum(0)) for number in range(6)]
    )
    cosines = torch.nn.functional.normalize(centres, dim=1)
    cosines = (cosines @ cosines.T).fill_diagonal_(-2).numpy()
    assert near.shape == (6, 2)
    for row, own in zip(cosines, near, strict=True):
        assert np.sort(row[own])[::-1] == pytest.approx(np.sort(row)[::-1][:2], abs=5e-3)  # bfloat16
        assert len(set(own)) == 2


@given(st.integers(2, 40), st.integers(1, 8), st.integers(1, 12), st.integers(0, 9))
def test_nearest_rows_by_brute_force(count, neighbours, block, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    near = module._nearest_rows(torch.from_numpy(vectors), neighbours, block)
    assert near.shape == (count, min(neighbours, count - 1))
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    for row, (own, found) in enumerate(zip(cosines, near, strict=True)):
        assert row not in found
        np.testing.assert_allclose(own[found], np.sort(own)[::-1][: len(found)], atol=1e-6)


@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=30),
    st.integers(1, 6),
    st.integers(2, 40),
    st.integers(0, 99),
)
def test_a_batch_has_a_pair_a_concept_and_no_more_than_its_size(counts, neighbours, size, seed):
    generator = np.random.default_rng(seed)
    group = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    k = min(neighbours, len(counts) - 1)
    near = np.array(
        [
            generator.choice(np.delete(np.arange(len(counts)), own), k, replace=False)
            for own in range(len(counts))
        ]
    )
    draw = ConceptNeighbours(group, near)
    rows = draw.draw(np.random.default_rng(seed), size)
    concepts = group[rows].tolist()
    assert 0 < len(rows) <= size
    assert len(set(concepts)) == len(concepts)
    assert rows.tolist() == draw.draw(np.random.default_rng(seed), size).tolist()
    if size > k:  # each concept came with its neighbours or is a neighbour
        seeds = [own for own in concepts if set(near[own]) <= set(concepts)]
        assert seeds
        assert set(concepts) == {*seeds, *near[seeds].ravel()}


def test_every_pair_is_drawn_among_neighbours():
    group = np.repeat(np.arange(12), 3)
    near = (np.arange(12)[:, None] + [1, 2]) % 12
    draw, generator = ConceptNeighbours(group, near), np.random.default_rng(0)
    counts = np.bincount(np.concatenate([draw.draw(generator, 6) for _ in range(3000)]), minlength=36)
    assert counts / counts.mean() == pytest.approx(1, abs=0.15)


def test_batches_are_of_neighbours_once_they_are_known(trainer, tmp_path):
    mixture = {"synonyms": 1, "lay": 1}
    learner = trainer(neighbours_from=0, neighbours=1, mixture=mixture, batch_size=2)
    learner._look_around(0, tmp_path)
    near = {name: np.load(tmp_path / f"neighbours-{name}.npy") for name in mixture}
    assert set(near) == {learner._draw(step)[0] for step in range(20)}
    for step in range(20):
        name, rows = learner._draw(step)
        one, other = sorted(rows)  # each pair is a concept of its own here
        assert other in near[name][one] or one in near[name][other]


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


def test_distractors_are_negatives_by_hand():
    a, b = torch.eye(2), torch.eye(2)
    distractors = torch.tensor([[0.6, 0.8], [-1.0, 0.0]])
    # rows choose among [1, 0, 0.6, -1] and [0, 1, 0.8, 0]; columns among [1, 0]
    rows = (
        math.log(1 + math.exp(-1) + math.exp(-0.4) + math.exp(-2))
        + math.log(1 + math.exp(-1) + math.exp(-0.2) + math.exp(-1))
    ) / 2
    loss = module._contrast(a, b, torch.tensor([0, 1]), 1.0, distractors)
    assert loss.item() == pytest.approx((rows + math.log(1 + math.exp(-1))) / 2, abs=1e-6)
    # also those of another pair of the same set
    same = module._contrast(a, b, torch.tensor([3, 3]), 1.0, distractors)
    rows = (math.log(1 + math.exp(-0.4) + math.exp(-2)) + math.log(1 + math.exp(-0.2) + math.exp(-1))) / 2
    assert same.item() == pytest.approx(rows / 2, abs=1e-6)


def test_a_sentence_comes_nearer_to_its_parallel_sentence_than_to_distractors(trainer, corpora, tmp_path):
    learner = trainer(steps=40, batch_size=6, mixture={"sets": 1}, learning_rate=1e-3)
    corpus = corpora["sets"]
    learner.train(tmp_path)
    learner.student.eval()
    with torch.no_grad():
        left, right, other = (learner.embed(t) for t in (corpus.left, corpus.right, corpus.distractor))
    assert ((left * right).sum(1) > (left * other).sum(1)).all()


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


@pytest.mark.parametrize("seed", range(5))
def test_vectors_do_not_depend_on_the_order_of_texts(trainer, seed):
    random = Random(seed)
    words = " ".join([*FRENCH, *ENGLISH]).split()
    texts = [" ".join(random.choices(words, k=random.randint(1, 7))) for _ in range(40)]
    learner = trainer()
    learner.student.eval()
    order = random.sample(range(40), 40)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(module, "_CHUNK", 7)
        vectors, shuffled = learner.embed(texts), learner.embed([texts[place] for place in order])
        patch.setattr(module, "_CHUNK", 100)
        whole = learner.embed(texts)
    torch.testing.assert_close(shuffled, vectors[order], atol=3e-2, rtol=0)  # bfloat16
    torch.testing.assert_close(whole, vectors, atol=3e-2, rtol=0)
    assert not torch.allclose(vectors, vectors.roll(1, 0), atol=3e-2)  # the texts can be told apart


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
