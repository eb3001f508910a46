from __future__ import annotations

from pathlib import Path

import pytest

from deft.errors import InputError
from deft.training.checkpoints import Checkpoints


def save(checkpoints: Checkpoints, step: int, state: str | None = "{}") -> None:
    folder = Path(checkpoints.at(step))
    folder.mkdir()
    if state is not None:
        (folder / "trainer_state.json").write_text(state)


def test_the_last_complete_checkpoint_is_found(tmp_path: Path) -> None:
    first = Checkpoints.open(tmp_path / "model", {"seed": 1}, resume=True)
    assert first.last is None
    save(first, 5)
    save(first, 10)
    save(first, 15, state='{"global_st')  # killed while writing
    save(first, 20, state=None)
    again = Checkpoints.open(tmp_path / "model", {"seed": 1}, resume=True)
    assert again.last == again.at(10)


@pytest.mark.parametrize(("seed", "resume"), [(2, True), (1, False)])
def test_another_run_starts_afresh(tmp_path: Path, seed: int, resume: bool) -> None:
    save(Checkpoints.open(tmp_path / "model", {"seed": 1}, resume=True), 5)
    other = Checkpoints.open(tmp_path / "model", {"seed": seed}, resume=resume)
    assert other.last is None
    assert not Path(other.at(5)).exists()


def test_removed_at_the_end(tmp_path: Path) -> None:
    Checkpoints.open(tmp_path / "model", {}, resume=True).remove()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        Checkpoints.open(tmp_path / "file" / "model", {}, resume=True)
