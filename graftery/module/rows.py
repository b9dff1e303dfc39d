"""Every number inside a net is of one row of the batch, or of none: no row can learn of another.

A net is run on marks that say whose a number is (`graftery.module.marks`, and a rule for each operator in `graftery.module.rowrules`), so it is shown for all inputs and weights. For all
batches it holds because marks have to lie as rows do, again and again in their order, in every value: what an operator does to
values that lie so at three rows, it does at any number, as far as nothing works along the batch (`graftery.module.growth`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from graftery.errors import ModuleFileError
from graftery.module.build import build
from graftery.module.graph import Graph
from graftery.module.marks import Call, Mixed
from graftery.module.opset import operators
from graftery.module.rowrules import rule_of

ROWS = 3


@dataclass(frozen=True)
class _Marked:
    """A value that depends on the input: whose each of its numbers is."""

    marks: Tensor


def check_rows(graph: Graph, weights: Mapping[str, Tensor], shape: Sequence[int]) -> None:
    """Refuse a net in which a number is made of two rows of the batch.

    Args:
        shape: of an input that it runs on; its batch does not matter.

    Raises:
        ModuleFileError: `batch_mixing`, with the node.
    """
    rows = torch.arange(1.0, ROWS + 1).view(-1, *[1] * (len(shape) - 1)).expand(ROWS, *shape[1:])
    with torch.no_grad():
        _Rows(graph, weights).run(_Marked(rows.contiguous()))


class _Rows(fx.Interpreter):
    """Runs a graph on marks; what does not depend on the input is computed as it is."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]) -> None:
        super().__init__(build(graph, weights))
        self._steps = {f"v{index}": node for index, node in enumerate(graph.nodes)}
        self._layers = {ref: path for path, ref in graph.names.items()}
        self._ends = set(graph.outputs.values())

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op != "call_function" or not any(map(_depends, [*args, *kwargs.values()])):
            return super().run_node(n)
        if n.target is getattr:
            return torch.device("cpu")
        if n.target is torch.ops.aten.sym_size.int:
            return args[0].marks.shape[args[1]]
        step = self._steps[n.name]
        operator = operators()[step.op]
        if operator.namespace == "sym":
            return args[0][args[1]]
        given = {each.name: value for each, value in zip(operator.arguments, args, strict=False)} | kwargs
        tracked = frozenset(id(each.marks) for each in _every(list(given.values())))
        try:
            found = rule_of(operator)(Call(operator, _bare(given), tracked))
            return self._wrapped(found, is_end=step.id in self._ends)
        except Mixed:
            layer = f" ({self._layers[step.id]})" if step.id in self._layers else ""
            raise ModuleFileError(
                f"node {step.id}{layer} {step.op}: a row would depend on another row of the batch", code="batch_mixing"
            ) from None

    def _wrapped(self, found: Any, *, is_end: bool) -> Any:
        if isinstance(found, (list, tuple)):
            return [self._wrapped(each, is_end=is_end) for each in found]
        marks = found.contiguous()
        if not (_is_by_row(marks) if is_end else _is_regular(marks)):
            raise Mixed
        return _Marked(marks)


def _is_by_row(marks: Tensor) -> bool:
    """Whether the rows lie one behind the other, in their order, along dimension 0."""
    return marks.ndim > 0 and marks.shape[0] == ROWS and _lies_so(marks, marks.numel() // ROWS)


def _is_regular(marks: Tensor) -> bool:
    """Whether the rows come in their order, again and again, each as long as the others."""
    return not bool(marks.any()) or any(_lies_so(marks, inner) for inner in _lengths(marks.shape))


def _lies_so(marks: Tensor, inner: int) -> bool:
    seen = marks.view(-1, ROWS, inner)
    rows = torch.arange(1.0, ROWS + 1)[:, None]
    return bool(((seen == rows) | (seen == 0)).all())


def _lengths(shape: Sequence[int]) -> Iterator[int]:
    """How many numbers of a row may lie beside each other, the dimension of the batch being one, or a part of one."""
    for dim, size in enumerate(shape):
        if size % ROWS == 0:
            each = size // ROWS
            yield from (part * math.prod(shape[dim + 1 :]) for part in range(1, each + 1) if each % part == 0)


def _depends(value: Any) -> bool:
    return isinstance(value, _Marked) or (isinstance(value, (list, tuple)) and any(map(_depends, value)))


def _every(value: Any) -> list[_Marked]:
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in _every(item)]
    return [value] if isinstance(value, _Marked) else []


def _bare(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _bare(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_bare(each) for each in value]
    return value.marks if isinstance(value, _Marked) else value
