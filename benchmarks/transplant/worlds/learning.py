"""How the worlds train their nets: one schedule for all nets of a world, fixed before anything is transplanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

PRECISION = "float32"
"""In which the nets of a world learn, whatever the processor has: cells of several machines are of nets that learned alike."""


@dataclass(frozen=True)
class Schedule:
    """AdamW with a linear warm-up over a tenth of the steps, then a cosine to zero."""

    steps: int
    batch: int
    learning_rate: float = 4e-3
    weight_decay: float = 5e-2
    checks: int = 8
    """How often the validation metric is noted along the way."""


@dataclass
class Clock:
    """Seconds of training, without those of validation."""

    seconds: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        self._since = time.perf_counter()

    def stop(self) -> None:
        self.seconds += time.perf_counter() - self._since


class Staged(nn.Module):
    """A net that can be cut after each of its stages; its heads are by output."""

    stages: nn.Sequential
    heads: nn.ModuleDict


def share_above(nets: Sequence[Staged], layer: str) -> int:
    """Let all nets have the first one's stages above the cut at `layer`, and its heads; returns how many stages stay their own."""
    own = int(layer.removeprefix("stages.")) + 1
    for net in nets[1:]:
        net.stages = nn.Sequential(*net.stages[:own], *nets[0].stages[own:])
        net.heads = nets[0].heads
    return own


def fit(
    nets: Iterable[nn.Module],
    loss: Callable[[int], Tensor],
    schedule: Schedule,
    validate: Callable[[], float] | None = None,
) -> tuple[float, tuple[float, ...]]:
    """Train nets in place.

    Args:
        nets: whose parameters are learned; left in evaluation mode.
        loss: of a step.
        validate: called in evaluation mode; its seconds are not counted.

    Returns:
        Seconds, and the validation metric along the way.
    """
    nets = list(nets)
    adam = torch.optim.AdamW(_groups(nets, schedule), lr=schedule.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(
        adam, schedule.learning_rate, total_steps=schedule.steps, pct_start=0.1, cycle_momentum=False
    )
    clock, curve = Clock(), []
    for net in nets:
        net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for step in range(schedule.steps):
        clock.start()
        adam.zero_grad()
        loss(step).backward()
        adam.step()
        rate.step()
        clock.stop()
        if validate is not None and (step + 1) % max(1, schedule.steps // schedule.checks) == 0:
            curve.append(_validated(nets, validate))
    for net in nets:
        net.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return clock.seconds, tuple(curve)


def _groups(nets: list[nn.Module], schedule: Schedule) -> list[dict[str, object]]:
    """Weight decay on weights only, as usual: not on biases or batch norms."""
    parameters = [p for net in nets for p in net.parameters()]
    weights, others = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": weights, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _validated(nets: list[nn.Module], validate: Callable[[], float]) -> float:
    for net in nets:
        net.eval()
    with torch.no_grad():
        value = validate()
    for net in nets:
        net.train()
    return value
