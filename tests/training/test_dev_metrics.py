from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sentence_transformers")

from deft.errors import InputError
from deft.training.dev_metrics import DevEvaluator, synonym_retrieval
from deft.training.training_data import TrainingConcepts

NAMES = [
    ("fièvre", "C1"),
    ("fever", "C1"),
    ("pyrexie", "C1"),
    ("toux", "C2"),
    ("cough", "C2"),
    ("asthme", "C3"),
]
PAIRS = pd.DataFrame([("C1", "fièvre", "fever"), ("C2", "toux", "cough")], columns=["cui", "left", "right"])
ANGLES = {
    "fièvre": 0.0,
    "fever": 0.3,
    "Fièvre": 0.01,
    "asthme": 0.2,
    "toux": 1.0,
    "cough": 1.1,
    "pyrexie": 0.5,
}


class Model:
    """Places each text at its angle on a circle."""

    def encode(self, texts: list[str], **_: Any) -> np.ndarray:
        angles = np.array([ANGLES[text] for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def graded(*rows: tuple[str, str, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["left", "right", "grade"])


GRADED = graded(("toux", "cough", 5), ("fièvre", "asthme", 4), ("toux", "fever", 0))


def evaluate(
    distractors: list[str], pairs: pd.DataFrame | None = None, weight: float = 1.0
) -> dict[str, float]:
    retrieval = synonym_retrieval(PAIRS, distractors, TrainingConcepts(NAMES))
    return DevEvaluator(retrieval, graded() if pairs is None else pairs, graded_weight=weight, batch_size=2)(
        Model()
    )


def test_retrieval_by_hand() -> None:
    # fièvre: asthme (0.2 away) comes before fever (0.3): rank 2; toux: cough first
    assert evaluate(["asthme", "fièvre", "toux"]) == pytest.approx(
        {"recall_at_1": 0.5, "mrr": 0.75, "score": 0.75}
    )


def test_any_name_of_the_concept_counts_and_the_query_itself_does_not() -> None:
    # "Fièvre" is the nearest but the same term; "pyrexie" is farther than "asthme" and than "fever"
    assert evaluate(["asthme", "Fièvre", "pyrexie"])["mrr"] == pytest.approx(0.75)
    assert evaluate(["Fièvre"])["mrr"] == 1


def test_a_query_with_nothing_to_find_is_dropped() -> None:
    pairs = pd.DataFrame(
        [("C1", "fièvre", "Fièvre"), ("C2", "toux", "cough")], columns=["cui", "left", "right"]
    )
    assert synonym_retrieval(pairs, [], TrainingConcepts([])).queries == ["toux"]


def test_score_weighs_the_two_tasks() -> None:
    # cosines fall with the angles 0.1, 0.2, 0.7, as the grades do
    assert evaluate(["asthme"], GRADED)["spearman"] == pytest.approx(1)
    assert evaluate(["asthme"], GRADED, weight=3.0)["score"] == pytest.approx((0.75 + 3 * 1) / 4)
    assert evaluate(["asthme"], GRADED, weight=0.0)["score"] == pytest.approx(0.75)


def test_equal_grades_have_no_correlation() -> None:
    assert evaluate(["asthme"], graded(("toux", "cough", 2), ("toux", "fever", 2)))["spearman"] == 0


def test_graded_pairs_alone() -> None:
    retrieval = synonym_retrieval(PAIRS.iloc[:0], [], TrainingConcepts(NAMES))
    scores = DevEvaluator(retrieval, GRADED, graded_weight=0.0, batch_size=2)(Model())
    assert scores == pytest.approx({"spearman": 1.0, "score": 1.0})
    with pytest.raises(InputError, match="dev_fraction"):
        DevEvaluator(retrieval, graded(), graded_weight=1.0, batch_size=2)
