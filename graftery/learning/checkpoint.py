"""Checkpoints of a training, as safetensors: no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graftery.errors import RecipeRefused

_Made = TypeVar("_Made")

FORMAT = 2
"""One more where a training takes other steps than before from the same recipe, or keeps other tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `step` steps of `phase`: enough to go on to the same bits.

    Args:
        step: steps done in the phase.
        tensors: `value.*` what is learned, `adam.*` the optimiser's moments, `images` the inversion's, once made.
        phase: "inversion" or "train".
        fingerprint: sha256 of recipe, modules and samples; a resumption with others is refused.
    """

    step: int
    tensors: Mapping[str, Tensor]
    phase: str
    fingerprint: str = ""

    def save(self, path: str | Path) -> None:
        """Write it, or leave what is there as it is."""
        part = Path(path).with_name(f"{Path(path).name}.{os.getpid()}.part")
        named = {"step": self.step, "phase": self.phase, "fingerprint": self.fingerprint, "format": FORMAT}
        state = json.dumps(named, sort_keys=True)
        try:
            save_file({name: value.contiguous() for name, value in self.tensors.items()}, part, {"checkpoint": state})
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            RecipeRefused: `checkpoint_refused`; it is not one, or not whole.
        """
        try:
            with safe_open(path, framework="pt") as file:
                state = json.loads((file.metadata() or {})["checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if state.get("format") != FORMAT:
                raise ValueError("another version has written it")
            return cls(int(state["step"]), tensors, str(state["phase"]), str(state["fingerprint"]))
        except (SafetensorError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise RecipeRefused(f"the checkpoint cannot be read: {error}", code="checkpoint_refused") from error


def resumed(path: Path, make: Callable[[Checkpoint | None], _Made], lost: Callable[[RecipeRefused], None]) -> _Made:
    """What `make` gives from the checkpoint at a path; from the beginning, where it cannot be gone on from.

    Args:
        lost: called with why not: other code may have written it. Other refusals stay what they are.
    """
    try:
        return make(Checkpoint.load(path))
    except RecipeRefused as error:
        if error.code != "checkpoint_refused":
            raise
        lost(error)
    return make(None)
