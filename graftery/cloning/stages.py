"""The trainings that a cloning consists of, one after the other: what a stage has learned is kept, and a cloning that is resumed goes on behind it.

Everything between the stages is computed again, to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graftery.errors import RecipeRefused
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop, Phase, Progress, Terms, optimise
from graftery.learning.pace import Pace


@dataclass
class Stages:
    """What surrounds the stages.

    Args:
        progress: called at most ten times a second, and after the last step of each stage.
        checkpoint: called after each stage, with what all so far have learned.
        resume: a checkpoint of the same cloning.
        fingerprint: says which cloning a checkpoint belongs to.
        history: about fifty entries a stage that was not skipped.

    Raises:
        RecipeRefused: `checkpoint_refused`; the checkpoint belongs to another cloning.
    """

    progress: Callable[[Progress], None] | None = None
    checkpoint: Callable[[Checkpoint], None] | None = None
    resume: Checkpoint | None = None
    fingerprint: str = ""
    history: list[dict[str, float | int | str]] = field(default_factory=list)
    _kept: dict[str, Tensor] = field(default_factory=dict, init=False)
    _done: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.resume is None:
            return
        if self.resume.fingerprint != self.fingerprint:
            raise RecipeRefused(
                "the checkpoint belongs to another recipe, other nets or other images",
                code="checkpoint_refused",
                hint="go on with those that it was begun with, or without the checkpoint",
            )
        self._kept = dict(self.resume.tensors)

    def learn(
        self,
        phase: Phase,
        parameters: Mapping[str, Tensor],
        terms: Terms,
        pace: Pace,
        optimiser: torch.optim.Optimizer | None = None,
    ) -> None:
        """One stage: `optimise` in place, or, where it was done before, what came of it.

        Raises:
            TrainingFailed: `diverged`.
        """
        name, self._done = f"{self._done}", self._done + 1
        known = {key: self._kept.get(f"{name}/{key}") for key in parameters}
        if all(value is not None for value in known.values()):
            for key, value in known.items():
                parameters[key].detach().copy_(value)  # type: ignore[arg-type]
            return
        optimise(parameters, terms, pace, Loop(phase, self.progress, history=self.history), optimiser=optimiser)
        self._kept |= {
            f"{name}/{key}": value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in parameters.items()
        }
        if self.checkpoint is not None:
            self.checkpoint(Checkpoint(self._done, self._kept, phase, self.fingerprint))
