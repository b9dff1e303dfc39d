"""Every number inside a net is of one row of the batch, or of none: no row can learn of another.

A net is run on marks that say whose a number is (`graftery.module.marks`, and a rule for each operator in
`graftery.module.rowrules`), so it is shown for all inputs and weights. For all batches it holds because marks have to lie as rows do, again and again in their order, in every value: what an operator does to
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
from graftery.module.fakes import Inside, shapes_inside
from graftery.module.graph import Graph
from graftery.module.marks import Call, Mixed
from graftery.module.opset import operators
from graftery.module.rowrules import rule_of

ROWS, OTHER_ROWS = 3, 5
"""Marks are of three rows; beside them, shapes at five tell which sizes change with the batch."""


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
    shapes, others = (shapes_inside(graph, weights, (n, *shape[1:])) for n in (ROWS, OTHER_ROWS))
    with torch.no_grad():
        _Rows(graph, weights, shapes, others).run(_Marked(rows.contiguous()))


class _Rows(fx.Interpreter):
    """Runs a graph on marks; what does not depend on the input is computed as it is."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor], shapes: Inside, others: Inside) -> None:
        super().__init__(build(graph, weights))
        self._shapes, self._others = shapes, others
        self._steps = {f"v{index}": node for index, node in enumerate(graph.nodes)}
        self._graph, self._ends = graph, set(graph.outputs.values())

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n.op != "call_function":
            return super().run_node(n)
        depends = any(map(_depends, [*args, *kwargs.values()]))
        if depends and n.target is getattr:
            return torch.device("cpu")
        if depends and n.target is torch.ops.aten.sym_size.int:
            return args[0].marks.shape[args[1]]
        try:
            if not depends:
                return self._same_for_all(n, super().run_node(n))
            return self._marked(n, list(args), dict(kwargs))
        except Mixed:
            place = self._graph.place_of(self._steps[n.name])
            raise ModuleFileError(
                f"{place}: a row would depend on another row of the batch, or on its place in it",
                code="batch_mixing",
            ) from None

    def _marked(self, n: fx.Node, args: list[Any], kwargs: dict[str, Any]) -> Any:
        step = self._steps[n.name]
        operator, is_end = operators()[step.op], step.id in self._ends
        if operator.namespace == "sym":
            return self._checked([args[0][args[1]].marks], n.name, is_end=is_end)[0]
        given = {each.name: value for each, value in zip(operator.arguments, args, strict=False)} | kwargs
        tracked = frozenset(id(each.marks) for each in _every(list(given.values())))
        found = rule_of(operator)(Call(operator, _bare(given), tracked))
        several = isinstance(found, (list, tuple))
        checked = self._checked(list(found) if several else [found], n.name, is_end=is_end)
        return checked if several else checked[0]

    def _checked(self, found: list[Tensor], name: str, *, is_end: bool) -> list[_Marked]:
        """The marks, which have the values' own shapes, and lie as rows do."""
        made = []
        for each, shape, other in zip(found, self._shapes[name], self._others[name], strict=True):
            marks = each.contiguous()
            if tuple(marks.shape) != shape:
                raise Mixed
            grows = [a != b for a, b in zip(shape, other, strict=True)]
            if not (_is_by_row(marks) if is_end else _is_regular(marks, grows)):
                raise Mixed
            made.append(_Marked(marks))
        return made

    def _same_for_all(self, n: fx.Node, value: Any) -> Any:
        """A value without the input that grows with the batch: all rows have the same of it."""
        tensors = value if isinstance(value, (list, tuple)) else [value]
        if n.name in self._steps and all(isinstance(each, Tensor) for each in tensors):
            for each, shape, other in zip(tensors, self._shapes[n.name], self._others[n.name], strict=True):
                grows = [a != b for a, b in zip(shape, other, strict=True)]
                if any(grows) and not any(_is_alike(each, inner) for inner in _lengths(shape, grows)):
                    raise Mixed
        return value


def _is_by_row(marks: Tensor) -> bool:
    """Whether the rows lie one behind the other, in their order, along dimension 0."""
    return marks.ndim > 0 and marks.shape[0] == ROWS and _lies_so(marks, marks.numel() // ROWS)


def _is_regular(marks: Tensor, grows: Sequence[bool]) -> bool:
    """Whether the rows come in their order, again and again, each as long as the others, along a dimension that grows."""
    return not bool(marks.any()) or any(_lies_so(marks, inner) for inner in _lengths(marks.shape, grows))


def _lies_so(marks: Tensor, inner: int) -> bool:
    seen = marks.view(-1, ROWS, inner)
    rows = torch.arange(1.0, ROWS + 1)[:, None]
    return bool(((seen == rows) | (seen == 0)).all())


def _is_alike(value: Tensor, inner: int) -> bool:
    seen = value.reshape(-1, ROWS, inner)
    return bool((seen == seen[:, :1]).all())


def _lengths(shape: Sequence[int], grows: Sequence[bool]) -> Iterator[int]:
    """How many numbers of a row may lie beside each other, the batch being a dimension that grows, or a part of one."""
    for dim, size in enumerate(shape):
        if grows[dim] and size % ROWS == 0:
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
