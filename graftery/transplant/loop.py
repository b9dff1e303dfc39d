"""The optimiser's loop that inversion and training share: Adam, divergence, progress, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from graftery.errors import RecipeRefused, TrainingFailed
from graftery.transplant.checkpoint import Checkpoint

Phase = Literal["inversion", "train", "evaluate"]
Terms = Callable[[int], Mapping[str, Tensor]]

GROWTH_LIMIT = 1e6
"""A loss this many times the first one (or 1, if that is less) has diverged."""
PROGRESS_S = 0.1


@dataclass(frozen=True)
class Progress:
    """Where a transplant stands: `step` of `steps` are done in this phase; `losses` are the weighted terms of `loss`."""

    phase: Phase
    step: int
    steps: int
    loss: float
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Loop:
    """What surrounds the steps of one phase.

    Args:
        phase: its name.
        progress: called at most ten times a second, and after the last step.
        checkpoint: called every `checkpoint_s` seconds.
        resume: a checkpoint of this phase to go on from.
        kept: tensors of earlier phases that every checkpoint must carry.
        fingerprint: says which transplant a checkpoint belongs to.
        history: gets about 50 entries a phase.
    """

    phase: Phase
    progress: Callable[[Progress], None] | None = None
    checkpoint: Callable[[Checkpoint], None] | None = None
    checkpoint_s: float = 3.0
    resume: Checkpoint | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    fingerprint: str = ""
    history: list[dict[str, float | int | str]] = field(default_factory=list)
    _told_s: float = field(default=-math.inf, init=False)
    _saved_s: float = field(default_factory=time.monotonic, init=False)

    def phase_of(self, phase: Phase, kept: Mapping[str, Tensor]) -> Loop:
        """The same surroundings for a phase; a checkpoint of another phase is none of it.

        Raises:
            RecipeRefused: the checkpoint belongs to another transplant.
        """
        resume = self.resume
        if resume is not None and resume.fingerprint != self.fingerprint:
            raise RecipeRefused("the checkpoint belongs to another recipe, other modules or other samples")
        return replace(self, phase=phase, kept=kept, resume=resume if resume and resume.phase == phase else None)

    def tell(self, now: Progress) -> None:
        """Note the step, and report it unless the last report was just now."""
        if now.step == now.steps or now.step % max(1, now.steps // 50) == 0:
            self.history.append({"phase": now.phase, "step": now.step, "loss": now.loss})
        due = time.monotonic() - self._told_s >= PROGRESS_S or now.step == now.steps
        if self.progress is not None and due:
            self._told_s = time.monotonic()
            self.progress(now)

    def save(self, step: int, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write a checkpoint of the state after `step` steps, if one is due."""
        if self.checkpoint is None or time.monotonic() - self._saved_s < self.checkpoint_s:
            return
        self._saved_s = time.monotonic()
        self.checkpoint(Checkpoint(step, {**self.kept, **tensors()}, self.phase, self.fingerprint))


def optimise(
    parameters: Mapping[str, Tensor],
    terms: Terms,
    steps: int,
    learning_rate: float,
    loop: Loop,
    *,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Adam with a cosine to zero, in place, on the sum of `terms(step)`.

    Args:
        parameters: what is learned, by name; each requires grad.
        terms: the weighted loss terms of a step, a function of nothing but the step and the parameters.
        after: what is done after each step.

    Raises:
        TrainingFailed: `diverged`, with the last finite loss and its step.
    """
    adam = torch.optim.Adam(parameters.values(), lr=learning_rate)
    done, first, last = (0, math.nan, math.nan) if loop.resume is None else _restore(loop.resume, parameters, adam)
    for step in range(done, steps):
        adam.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        losses = terms(step)
        loss = torch.stack(list(losses.values())).sum()
        value = float(loss.detach())
        first = value if math.isnan(first) else first
        if not math.isfinite(value) or value > GROWTH_LIMIT * max(first, 1.0):
            raise _diverged(loop.phase, step, value, last)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=list(parameters.values()))
        adam.step()
        after()
        last = value
        loop.tell(
            Progress(loop.phase, step + 1, steps, value, {name: float(term.detach()) for name, term in losses.items()})
        )
        loop.save(step + 1, _saver(parameters, adam, first, last))
    if not all(torch.isfinite(value).all() for value in parameters.values()):
        raise _diverged(loop.phase, steps, math.nan, last)


def _diverged(phase: Phase, step: int, loss: float, last: float) -> TrainingFailed:
    told = "no loss was finite" if math.isnan(last) else f"the last finite loss was {last:.6g} at step {step - 1}"
    return TrainingFailed(
        f"the {phase} diverged at step {step} with loss {loss:.6g}: {told}",
        code="diverged",
        hint="lower the learning rate",
    )


def _saver(
    parameters: Mapping[str, Tensor], adam: torch.optim.Adam, first: float, last: float
) -> Callable[[], dict[str, Tensor]]:
    """Parameters and Adam's moments by name, copied when asked for: the loop goes on while they are written."""

    def state() -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {"losses": torch.tensor([first, last], dtype=torch.float64)}
        for name, value in parameters.items():
            kept[f"value.{name}"] = value
            kept |= {f"adam.{slot}.{name}": moment for slot, moment in adam.state[value].items()}
        return {name: value.detach().cpu().clone() for name, value in kept.items()}

    return state


def _restore(
    checkpoint: Checkpoint, parameters: Mapping[str, Tensor], adam: torch.optim.Adam
) -> tuple[int, float, float]:
    for name, value in parameters.items():
        value.detach().copy_(checkpoint.tensors[f"value.{name}"])
        # Adam keeps its step counter on the CPU, its moments where the parameter is.
        for slot in ("step", "exp_avg", "exp_avg_sq"):
            kept = checkpoint.tensors[f"adam.{slot}.{name}"].clone()
            adam.state[value][slot] = kept if slot == "step" else kept.to(value.device)
    first, last = checkpoint.tensors["losses"].tolist()
    return checkpoint.step, first, last
