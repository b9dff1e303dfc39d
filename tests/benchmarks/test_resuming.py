"""Checkpoints of a benchmark's trainings: gone on from where they fit, forgotten where they do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.resuming import resumed
from graftery.errors import RecipeRefused
from graftery.learning.checkpoint import Checkpoint


def _kept(path: Path) -> Path:
    Checkpoint(3, {"value.w": torch.ones(2)}, "train", "mark").save(path)
    return path


def test_without_a_checkpoint_it_begins(tmp_path: Path) -> None:
    assert resumed(tmp_path / "none", lambda checkpoint: checkpoint) is None


def test_it_goes_on(tmp_path: Path) -> None:
    path = _kept(tmp_path / "kept")
    found = resumed(path, lambda checkpoint: checkpoint)
    assert found is not None and found.step == 3
    assert path.exists(), "it is the training's to remove"


def test_one_that_is_not_whole_is_forgotten(tmp_path: Path) -> None:
    path = _kept(tmp_path / "kept")
    path.write_bytes(path.read_bytes()[:-3])
    assert resumed(path, lambda checkpoint: checkpoint) is None
    assert not path.exists()


def test_one_of_other_code_is_forgotten(tmp_path: Path) -> None:
    def make(checkpoint: Checkpoint | None) -> str:
        if checkpoint is not None:
            raise RecipeRefused("it belongs to another training", code="checkpoint_refused")
        return "anew"

    assert resumed(_kept(tmp_path / "kept"), make) == "anew"


def test_other_refusals_stay_what_they_are(tmp_path: Path) -> None:
    def refuse(_: Checkpoint | None) -> None:
        raise RecipeRefused("no steps")

    path = _kept(tmp_path / "kept")
    with pytest.raises(RecipeRefused, match="no steps"):
        resumed(path, refuse)
    assert path.exists()
