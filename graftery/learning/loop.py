"""The optimiser's loop that all trainings share: steps, divergence, progress, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from graftery.errors import RecipeRefused, TrainingFailed, first_line
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.pace import Pace

Phase = Literal["inversion", "localize", "heal", "search", "joint", "train", "evaluate"]
Terms = Callable[[int], Mapping[str, Tensor]]

GROWTH_LIMIT = 1e6
"""A loss this many times the first one (or 1, if that is less) has diverged."""
PROGRESS_S = 0.1


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `step` of `steps` are done in this phase; `losses` are the weighted terms of `loss`."""

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
        fingerprint: says which training a checkpoint belongs to.
        history: gets about 50 entries a phase.
        scores: gets what was watched in the latest training, look by look.
    """

    phase: Phase
    progress: Callable[[Progress], None] | None = None
    checkpoint: Callable[[Checkpoint], None] | None = None
    checkpoint_s: float = 3.0
    resume: Checkpoint | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    fingerprint: str = ""
    history: list[dict[str, float | int | str]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    _told_s: float = field(default=-math.inf, init=False)
    _saved_s: float = field(default_factory=time.monotonic, init=False)

    def phase_of(self, phase: Phase, kept: Mapping[str, Tensor]) -> Loop:
        """The same surroundings for a phase; a checkpoint of another phase, or with other images made, is none of it.

        Raises:
            RecipeRefused: `checkpoint_refused`; the checkpoint belongs to another training.
        """
        resume = self.resume
        if resume is not None and resume.fingerprint != self.fingerprint:
            raise RecipeRefused(
                "the checkpoint belongs to another recipe, other modules or other samples",
                code="checkpoint_refused",
                hint="go on with those that it was begun with, or without the checkpoint",
            )
        here = resume is not None and resume.phase == phase and _images(resume.tensors) == _images(kept)
        return replace(self, phase=phase, kept=kept, resume=resume if here else None)

    def note(self, now: Progress) -> None:
        """Keep the step in the history, if it is its turn."""
        if now.step == now.steps or now.step % max(1, now.steps // 50) == 0:
            self.history.append({"phase": now.phase, "step": now.step, "loss": now.loss})

    def tell(self, now: Progress) -> None:
        """Report the step unless the last report was just now."""
        due = time.monotonic() - self._told_s >= PROGRESS_S or now.step == now.steps
        if self.progress is not None and due:
            self._told_s = time.monotonic()
            self.progress(now)

    @property
    def due_to_save(self) -> bool:
        """Whether it is time for a checkpoint."""
        return self.checkpoint is not None and time.monotonic() - self._saved_s >= self.checkpoint_s

    def save(self, step: int, tensors: Callable[[], Mapping[str, Tensor]]) -> None:
        """Write a checkpoint of the state after `step` steps, if one is due."""
        if self.checkpoint is None or not self.due_to_save:
            return
        self._saved_s = time.monotonic()
        self.checkpoint(Checkpoint(step, {**self.kept, **tensors()}, self.phase, self.fingerprint))


def _images(tensors: Mapping[str, Tensor]) -> int:
    return len(tensors.get("images", ()))


def optimise(
    parameters: Mapping[str, Tensor],
    terms: Terms,
    pace: Pace,
    loop: Loop,
    *,
    after: Callable[[], None] = lambda: None,
    optimiser: torch.optim.Optimizer | None = None,
    buffers: Mapping[str, Tensor] | None = None,
) -> None:
    """Adam or another optimiser, in place, on the sum of `terms(step)`.

    Args:
        parameters: what is learned, by name; each requires grad.
        terms: the weighted loss terms of a step, a function of nothing but the step and the parameters.
        pace: the rate of each step, and how many there are.
        after: what is done after each step.
        optimiser: over these parameters; Adam by default. Its rate is set at every step.
        buffers: what the steps change beside the parameters (batch norms' statistics), by name: checkpoints have it too.

    Raises:
        TrainingFailed: `diverged`, with the last finite loss and its step.
    """
    optimiser = optimiser or torch.optim.Adam(parameters.values(), lr=pace.rate)
    state = _State(parameters, optimiser, pace, buffers or {})
    step = 0 if loop.resume is None else _restored(state, loop.resume)
    losses = _Losses(state, loop)
    while step < pace.end:
        for group in optimiser.param_groups:
            group["lr"] = pace.at(step)
        named = terms(step)
        loss = torch.stack(list(named.values())).sum()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss, inputs=list(parameters.values()))
        optimiser.step()
        after()
        losses.note(step, named)
        step += 1
        pace.note(step)
        losses.look(step, last=step >= pace.end)
        if loop.due_to_save:
            losses.look(step, last=True)
            loop.save(step, state.tensors)
    loop.scores[:] = pace.scores
    if not all(torch.isfinite(value).all() for value in parameters.values()):
        raise _diverged(loop.phase, step, math.nan, state.last)


def _restored(state: _State, checkpoint: Checkpoint) -> int:
    """The step that the state then stands at."""
    try:
        return state.restore(checkpoint)
    except (KeyError, RuntimeError) as error:
        raise RecipeRefused(
            f"the checkpoint does not hold what this training learns: {first_line(error)}", code="checkpoint_refused"
        ) from error


@dataclass
class _Losses:
    """The losses of the steps since the last look. They stay on the device until then: no step waits for the one before."""

    state: _State
    loop: Loop
    steps: list[int] = field(default_factory=list)
    terms: list[Mapping[str, Tensor]] = field(default_factory=list)
    looked_s: float = -math.inf

    def note(self, step: int, terms: Mapping[str, Tensor]) -> None:
        self.steps.append(step)
        self.terms.append({name: term.detach() for name, term in terms.items()})

    def look(self, done: int, *, last: bool) -> None:
        """Judge and tell them, if it is time or nothing comes after.

        Raises:
            TrainingFailed: `diverged`.
        """
        if not self.steps or not (last or time.monotonic() - self.looked_s >= PROGRESS_S):
            return
        rows = torch.stack([torch.stack(list(terms.values())) for terms in self.terms]).tolist()
        for step, terms, values in zip(self.steps, self.terms, rows, strict=True):
            self.state.judge(sum(values), step, self.loop.phase)
            named = dict(zip(terms, values, strict=True))
            self.loop.note(Progress(self.loop.phase, step + 1, self.state.pace.end, self.state.last, named))
        self.loop.tell(Progress(self.loop.phase, done, self.state.pace.end, self.state.last, named))
        self.steps, self.terms, self.looked_s = [], [], time.monotonic()


def _diverged(phase: Phase, step: int, loss: float, last: float) -> TrainingFailed:
    told = "no loss was finite" if math.isnan(last) else f"the last finite loss was {last:.6g} at step {step - 1}"
    return TrainingFailed(
        f"the {phase} diverged at step {step} with loss {loss:.6g}: {told}",
        code="diverged",
        hint="lower the learning rate",
    )


@dataclass
class _State:
    """All that a training is between two steps."""

    parameters: Mapping[str, Tensor]
    optimiser: torch.optim.Optimizer
    pace: Pace
    buffers: Mapping[str, Tensor]
    first: float = math.nan
    last: float = math.nan

    def judge(self, loss: float, step: int, phase: Phase) -> None:
        """Note the loss of a step; one that is not finite, or far above the first, ends the training."""
        self.first = loss if math.isnan(self.first) else self.first
        if not math.isfinite(loss) or loss > GROWTH_LIMIT * max(self.first, 1.0):
            raise _diverged(phase, step, loss, self.last)
        self.last = loss

    @property
    def _slots(self) -> str:
        """What the names of an optimiser's own tensors begin with."""
        return type(self.optimiser).__name__.lower()

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and the optimiser's moments by name, copied: the loop goes on while they are written."""
        kept: dict[str, Tensor] = {
            "losses": torch.tensor([self.first, self.last], dtype=torch.float64),
            "scores": torch.tensor(self.pace.scores, dtype=torch.float64),
            **{f"buffer.{name}": value for name, value in self.buffers.items()},
        }
        for name, value in self.parameters.items():
            kept[f"value.{name}"] = value
            slots = self.optimiser.state[value].items()
            kept |= {f"{self._slots}.{slot}.{name}": moment for slot, moment in slots if isinstance(moment, Tensor)}
        return {name: value.detach().cpu().clone() for name, value in kept.items()}

    def restore(self, checkpoint: Checkpoint) -> int:
        """Become what the checkpoint holds; returns its step."""
        for name, value in self.buffers.items():
            value.copy_(checkpoint.tensors[f"buffer.{name}"])
        for name, value in self.parameters.items():
            value.detach().copy_(checkpoint.tensors[f"value.{name}"])
        for key, moment in checkpoint.tensors.items():
            if key.startswith(f"{self._slots}."):
                _, slot, name = key.split(".", 2)
                value = self.parameters[name]
                # An optimiser keeps its step counter on the CPU, its moments where the parameter is.
                self.optimiser.state[value][slot] = (
                    moment.clone() if slot == "step" else moment.to(value.device).clone()
                )
        self.first, self.last = checkpoint.tensors["losses"].tolist()
        self.pace.scores[:] = checkpoint.tensors["scores"].tolist()
        return checkpoint.step
