"""Shapes, dtypes and work, found by running the graph on tensors without data.

FakeTensorMode knows dtypes and devices too; the bare `meta` device misses dtypes that do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graftery.errors import ShapesRefused, first_line
from graftery.module.arguments import INDEXED
from graftery.module.derivatives import as_outputs
from graftery.module.fakes import quiet, shown
from graftery.module.graph import Graph
from graftery.module.growth import Measure, measure, mixes, trouble
from graftery.module.ops import DTYPE_NAMES, DTYPES
from graftery.module.opset import Operator, operators
from graftery.spec.limits import Limits
from graftery.spec.manifest import Size, TensorSpec

BATCHES = (1, 2, 3, 17)
_FREE = {"H", "W"}
# Fake tensors let a product of two dtypes pass; the operators themselves do not.
_PRODUCTS = frozenset({"linear", "matmul", "mm", "mv", "bmm", "dot", "addmm", "baddbmm", "bilinear"})


@dataclass(frozen=True)
class Survey:
    """What the runs found.

    Args:
        flops_per_sample: multiplications and additions of convolutions and products.
        elements_per_sample: of the input and of what every step makes of it; `largest_per_sample`: of the largest of these.
    """

    outputs: Mapping[str, TensorSpec]
    flops_per_sample: int
    elements_per_sample: int
    largest_per_sample: int


@dataclass(frozen=True)
class _Run:
    x_shape: tuple[int, ...]
    outputs: Mapping[str, tuple[tuple[int, ...], torch.dtype]]
    elements: int
    largest: int
    flops: int


def survey(graph: Graph, weights: Mapping[str, Tensor], shape: Sequence[int], limits: Limits) -> Survey:
    """Run the graph on shapes alone, at N = 1, 2, 3, 17 and, where height or width are free, at another size.

    Args:
        shape: a shape that fits the input; its batch does not matter.

    Raises:
        ShapesRefused: `shapes_invalid` with the node and what disagrees; `work_too_large`.
    """
    _check_input(graph.input, shape)
    runner = _Runner(graph, weights, limits)
    runs = [runner.run((n, *shape[1:])) for n in BATCHES]
    _check_work(runs, limits)
    runner.check_growth()
    if not _FREE.isdisjoint(graph.input.shape):
        runs.append(runner.run(larger(graph.input.shape, shape)))
    outputs = {name: _spec(name, [(run.x_shape[0], *run.outputs[name]) for run in runs]) for name in graph.outputs}
    return Survey(outputs, runs[0].flops, runs[0].elements, runs[0].largest)


def larger(symbols: Sequence[Size], shape: Sequence[int]) -> tuple[int, ...]:
    """Another shape for an input, of two rows: free heights and widths more than twice as large, odd, and not the same.

    More than twice, so that a size behind pooling changes too.
    """
    steps = {"H": 3, "W": 7}
    rest = zip(symbols[1:], shape[1:], strict=True)
    return (2, *(2 * size + steps[name] if isinstance(name, str) else size for name, size in rest))


def _check_input(spec: TensorSpec, shape: Sequence[int]) -> None:
    fits = len(shape) == len(spec.shape) and all(
        isinstance(stated, str) or stated == size for stated, size in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise ShapesRefused(f"the input is [{', '.join(map(str, spec.shape))}], the probe has {list(shape)}")


def _check_work(runs: Sequence[_Run], limits: Limits) -> None:
    first, last = runs[0], runs[-1]
    if first.flops + first.elements > limits.flops_per_sample:
        raise _too_large(
            f"a sample takes {first.flops + first.elements} operations, {limits.flops_per_sample} are allowed"
        )
    if first.elements > limits.elements_per_sample:
        raise _too_large(f"a sample's values have {first.elements} elements, {limits.elements_per_sample} are allowed")
    # What grows faster than the batch is small here and ends the server's memory at a larger batch.
    if last.elements > last.x_shape[0] * first.elements:
        raise _too_large(
            f"values grow faster than the batch: {first.elements} elements at N = 1, {last.elements} at N = {last.x_shape[0]}"
        )


class _Runner(fx.Interpreter):
    """Runs the graph on fake tensors and counts what each step makes."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor], limits: Limits) -> None:
        net, self._mode = shown(graph, weights)
        super().__init__(net)
        self._steps = {f"v{index}": node for index, node in enumerate(graph.nodes)}
        self._graph, self._limits, self._elements, self._largest = graph, limits, 0, 0
        self._looked_up: dict[str, list[int]] = {}
        self._measures: dict[str, list[Measure]] = {}
        self._floating: set[str] = set()
        """Tensors that floating numbers have a part in."""

    def run(self, *shapes: Any, **_: Any) -> _Run:
        (shape,) = shapes
        self._elements = self._largest = math.prod(shape)
        counter = FlopCounterMode(display=False)
        # Work is counted once: it is the same for every sample, and counting costs time.
        counting = counter if shape[0] == 1 else nullcontext()
        with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), quiet(), self._mode, counting:
            ys = as_outputs(super().run(torch.empty(shape, dtype=DTYPES[self._graph.input.dtype])))
        outputs = {name: (tuple(y.shape), y.dtype) for name, y in zip(self._graph.outputs, ys, strict=True)}
        return _Run(shape, outputs, self._elements, self._largest, counter.get_total_flops())

    def run_node(self, n: fx.Node) -> Any:
        if n.name not in self._steps:
            return self._noted(n, super().run_node(n))
        try:
            operator, bound = self._bound(n)
            self._check_before(n, operator, bound)
            result = self._noted(n, super().run_node(n))
            self._count(result)
            self._measures.setdefault(n.name, []).append(measure(operator, bound, result))
        except ShapesRefused as error:
            raise ShapesRefused(f"{self._place(n.name)}: {error.message}", code=error.code) from None
        except Exception as error:
            raise ShapesRefused(f"{self._place(n.name)}: {first_line(error)}") from None
        return result

    def _noted(self, n: fx.Node, result: Any) -> Any:
        """The result; whether floating numbers have a part in it is kept."""
        tensors = [
            each for each in (result if isinstance(result, (list, tuple)) else [result]) if isinstance(each, Tensor)
        ]
        above = any(each.name in self._floating for each in n.all_input_nodes)
        if tensors and (above or any(each.is_floating_point() for each in tensors)):
            self._floating.add(n.name)
        return result

    def _place(self, name: str) -> str:
        return self._graph.place_of(self._steps[name])

    def check_growth(self) -> None:
        """Compare the runs at `BATCHES`, which were the first.

        Raises:
            ShapesRefused: `work_too_large`; `batch_mixing`.
        """
        for name, found in self._measures.items():
            if what := trouble(BATCHES, found[: len(BATCHES)]):
                raise _too_large(f"{self._place(name)}: {what}")
            if mixes(found[: len(BATCHES)]):
                raise ShapesRefused(f"{self._place(name)}: works along the batch", code="batch_mixing")

    def _bound(self, n: fx.Node) -> tuple[Operator, dict[str, Any]]:
        operator = operators()[self._steps[n.name].op]
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return operator, {each.name: value for each, value in zip(operator.arguments, args, strict=False)} | kwargs

    def _check_before(self, n: fx.Node, operator: Operator, bound: Mapping[str, Any]) -> None:
        """Count the tensors that a step would make before it makes them, and compare the dtypes of products."""
        if operator.returns == "tensors" and operator.views:
            pieces = _pieces(operator.name, bound)
            if pieces > self._limits.pieces:
                raise _too_large(f"makes {pieces} tensors, {self._limits.pieces} are allowed")
        if operator.text in INDEXED:
            self._check_looked_up(n, bound, INDEXED[operator.text])
            self._check_exact(n, operator, INDEXED[operator.text])
        if operator.name in _PRODUCTS:
            dtypes = {name: value.dtype for name, value in bound.items() if isinstance(value, Tensor)}
            if len(set(dtypes.values())) > 1:
                said = ", ".join(f"{name} is {DTYPE_NAMES.get(dtype, dtype)}" for name, dtype in dtypes.items())
                raise ShapesRefused(f"multiplies two dtypes: {said}")
        if bound.get("rounding_mode") == "trunc" and all(map(_is_whole, (bound["self"], bound["other"]))):
            # The smallest whole number by -1 is a trap of the processor: one request to such a net ends the server.
            raise ShapesRefused("divides whole numbers and cuts off: floor_divide does it without a crash")

    def _check_looked_up(self, n: fx.Node, bound: Mapping[str, Any], positions: str) -> None:
        """The run on real values meets positions at one size; at every other they have to be within as well."""
        table, found = bound["weight" if "weight" in bound else "self"], bound[positions]
        dims = (
            [bound.get("dim", 0)]
            if not isinstance(found, list)
            else [d for d, at in enumerate(found) if at is not None]
        )
        sizes = [table.shape[dim] for dim in dims]
        if self._looked_up.setdefault(n.name, sizes) != sizes:
            raise ShapesRefused("looks up constant positions in a dimension that changes with the input's size")

    def _check_exact(self, n: fx.Node, operator: Operator, positions: str) -> None:
        """What becomes of a large number, or of a sum's last bit, differs between devices: a position has to be the same everywhere."""
        given: dict[str, Any] = dict(zip((each.name for each in operator.arguments), n.args, strict=False))
        found = (given | n.kwargs)[positions]
        nodes = found if isinstance(found, (list, tuple)) else [found]
        if any(isinstance(each, fx.Node) and each.name in self._floating for each in nodes):
            raise ShapesRefused("looks up positions that were made of floating numbers: make them of whole ones")

    def _count(self, result: Any) -> None:
        for tensor in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(tensor, Tensor):
                if not tensor.numel():
                    raise ShapesRefused(f"makes {list(tensor.shape)}, which has no elements")
                if tensor.numel() > self._limits.elements_per_value:
                    shape = list(tensor.shape)
                    raise _too_large(f"makes {shape}, over {self._limits.elements_per_value} elements")
                self._elements += tensor.numel()
                self._largest = max(self._largest, tensor.numel())


def _is_whole(value: Any) -> bool:
    return not value.dtype.is_floating_point if isinstance(value, Tensor) else isinstance(value, int)


def _pieces(name: str, bound: Mapping[str, Any]) -> int:
    size = int(bound["self"].shape[bound.get("dim", 0)])
    if name == "unbind":
        return size
    if name == "chunk":
        return min(int(bound["chunks"]), size)
    how = bound.get("split_size", bound.get("split_sizes"))
    return len(how) if isinstance(how, (list, tuple)) else math.ceil(size / max(int(how or 1), 1))


def _spec(name: str, found: Sequence[tuple[int, tuple[int, ...], torch.dtype]]) -> TensorSpec:
    """One output's spec from its shapes in several runs."""
    for n, shape, _ in found:
        if shape[:1] != (n,):
            raise ShapesRefused(
                f"output {name} has shape {list(shape)} at batch size {n}: dimension 0 is not the batch"
            )
    columns = list(zip(*(shape[1:] for _, shape, _ in found), strict=True))
    free = iter(sorted(_FREE))
    batches = list(zip(*(shape[1:] for _, shape, _ in found[: len(BATCHES)]), strict=True))
    if any(len(set(column)) > 1 for column in batches):
        raise ShapesRefused(f"output {name} has a dimension besides the first that changes with the batch: {batches}")
    sizes: list[Size] = ["N"]
    for column in columns:
        size: Size | None = column[0] if len(set(column)) == 1 else next(free, None)
        if size is None:
            raise ShapesRefused(f"output {name} has more than two dimensions that change with height and width")
        sizes.append(size)
    dtype = found[0][2]
    if dtype not in DTYPE_NAMES or not dtype.is_floating_point:
        raise ShapesRefused(f"output {name} is {dtype}, it has to be floating")
    return TensorSpec(dtype=DTYPE_NAMES[dtype], shape=tuple(sizes))


def _too_large(what: str) -> ShapesRefused:
    return ShapesRefused(what, code="work_too_large")
