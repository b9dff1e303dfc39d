"""Trainings of a benchmark that go on where they were stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from graftery.learning import checkpoint
from graftery.learning.checkpoint import Checkpoint

_Made = TypeVar("_Made")


def resumed(path: Path, make: Callable[[Checkpoint | None], _Made]) -> _Made:
    """What `make` gives from the checkpoint at this path, if there is one.

    One that it cannot be gone on from, as other code or another number of threads may have written it, is forgotten.
    """
    return checkpoint.resumed(path, make, lambda _: path.unlink()) if path.exists() else make(None)
