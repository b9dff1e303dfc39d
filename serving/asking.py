"""What is asked of a model and what it answers, whatever the transport. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.branches import Model
from serving.tensors import Array


@dataclass(frozen=True)
class Question:
    """A request that was read and checked against the model.

    Args:
        x: the input [N, ...] in the model's datatype.
        wanted: names of the outputs that are to be computed, in the order of the answer.
        timeout_s: how long it may wait before it is run; None: as long as it takes.
    """

    x: Array
    wanted: tuple[str, ...]
    timeout_s: float | None = None


@dataclass(frozen=True)
class Answer:
    """Outputs by name, [N, ...]; and the seconds of each of `stats.STEPS` that fell between question and answer."""

    model: Model
    outputs: Mapping[str, Array]
    steps_s: Mapping[str, float] = field(default_factory=dict)
