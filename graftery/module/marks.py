"""Marks: whose each number of a value is. row + 1, or 0 for what no row of the batch has a part in.

Shapes: as of the values themselves; marks are float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from graftery.module.ops import torch_operator
from graftery.module.opset import Operator

Marks = Tensor
Given = Mapping[str, Any]
"""Arguments by name: marks of what depends on the input, any other value as it is."""


class Mixed(Exception):
    """Two rows have a part in one number."""


@dataclass(frozen=True)
class Call:
    """One step: its operator, and its arguments by name."""

    operator: Operator
    given: Given
    tracked: frozenset[int]
    """`id` of each tensor that is marks."""

    def marks(self, name: str) -> Marks:
        """Of an argument; zeros for what does not depend on the input. [...] as the argument."""
        return self.of(self.given[name])

    def of(self, value: Any) -> Marks:
        if not isinstance(value, Tensor):
            return torch.zeros(())
        return value if id(value) in self.tracked else torch.zeros(value.shape)

    def every(self) -> list[Marks]:
        """Of all tensors, in the order of the arguments."""
        return [self.of(value) for value in _tensors(list(self.given.values()))]

    def run(self, changed: Given | None = None) -> Any:
        """The operator itself, on marks as if they were numbers."""
        # By name: what is left out in front of a named argument must not move it.
        return torch_operator(self.operator.text)(**{**self.given, **(changed or {})})

    def shapes(self) -> Any:
        """What the operator gives, without data."""
        given = {name: _without_data(value) for name, value in self.given.items() if name != "dtype"}
        return torch_operator(self.operator.text)(**given)


def together(*marks: Marks) -> Marks:
    """Of numbers that one of each is made into, broadcast.

    Raises:
        Mixed: they are of two rows.
    """
    whose = reduce(torch.maximum, marks)
    if len(marks) > 1 and any(bool(((each != whose) & (each != 0)).any()) for each in marks):
        raise Mixed
    return whose


def gathered(marks: Marks, dims: Sequence[int]) -> Marks:
    """Of numbers that all along these dimensions are made into; the dimensions stay, of size 1.

    Raises:
        Mixed: they are of two rows.
    """
    if not dims or not marks.ndim:
        return marks
    whose = marks.amax(tuple(dims), keepdim=True)
    if bool(((marks != whose) & (marks != 0)).any()):
        raise Mixed
    return whose


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in _tensors(each)]
    return [value] if isinstance(value, Tensor) else []


def _without_data(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_without_data(each) for each in value]
    if not isinstance(value, Tensor):
        return value
    return torch.empty(value.shape, dtype=torch.float32 if value.is_floating_point() else value.dtype, device="meta")
