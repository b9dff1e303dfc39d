"""A graph on tensors without data: what it is run on to find shapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from graftery.errors import ShapesRefused, first_line
from graftery.module.build import build
from graftery.module.derivatives import as_outputs
from graftery.module.graph import Graph
from graftery.module.ops import DTYPES
from graftery.spec.limits import Limits


def output_shapes(graph: Graph, weights: Mapping[str, Tensor], shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The shapes of a graph's outputs for an input [N, ...] of this shape; nothing is computed.

    Raises:
        ShapesRefused: it does not run on that.
    """
    net, mode = shown(graph, weights)
    try:
        with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), quiet(), mode:
            ys = as_outputs(net(torch.empty(tuple(shape), dtype=DTYPES[graph.input.dtype])))
    except Exception as error:
        raise ShapesRefused(f"an input of {list(shape)}: {first_line(error)}") from None
    return {name: tuple(y.shape) for name, y in zip(graph.outputs, ys, strict=True)}


Inside = Mapping[str, list[tuple[int, ...]]]
"""Of each step of a net that `build` makes, by its name, the shapes of the tensors that it gives; of a whole number, none."""


def shapes_inside(graph: Graph, weights: Mapping[str, Tensor], shape: Sequence[int]) -> Inside:
    """The shapes of all that a graph makes of an input [N, ...]; nothing is computed."""
    net, mode = shown(graph, weights)
    watcher = _Watcher(net)
    with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), quiet(), mode:
        watcher.run(torch.empty(tuple(shape), dtype=DTYPES[graph.input.dtype]))
    return watcher.found


class _Watcher(fx.Interpreter):
    def __init__(self, net: fx.GraphModule) -> None:
        super().__init__(net)
        self.found: dict[str, list[tuple[int, ...]]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        made = result if isinstance(result, (list, tuple)) else [result]
        self.found[n.name] = [tuple(each.shape) for each in made if isinstance(each, Tensor)]
        return result


class Work:
    """What a graph makes of inputs of one size after the other; nothing is computed. One thread at a time.

    Args:
        limits: `elements_per_sample` of each value, also of those that operators make on their way; `flops_per_sample` in all.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor], limits: Limits) -> None:
        self._net, self._mode = shown(graph, weights)
        self._mode.cache_enabled = False  # it would keep something of every size, in a cache that all share
        self._graph, self._limits = graph, limits

    def __call__(self, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """The sizes of the outputs of one sample, without the batch.

        Args:
            sizes: of an input, without the batch.

        Raises:
            ShapesRefused: `work_too_large`; `shapes_invalid`: it does not run on that.
        """
        made, counter = _Made(self._limits.elements_per_sample), FlopCounterMode(display=False)
        try:
            with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), quiet(), self._mode, made, counter:
                ys = as_outputs(self._net(torch.empty((1, *sizes), dtype=DTYPES[self._graph.input.dtype])))
        except _TooLarge as error:
            raise ShapesRefused(
                f"a sample of {list(sizes)} makes {error} elements at once", code="work_too_large"
            ) from None
        except Exception as error:
            raise ShapesRefused(f"a sample of {list(sizes)}: {first_line(error)}") from None
        work = made.elements + counter.get_total_flops()
        if work > self._limits.flops_per_sample:
            raise ShapesRefused(f"a sample of {list(sizes)} takes {work} operations", code="work_too_large")
        return {name: tuple(y.shape[1:]) for name, y in zip(self._graph.outputs, ys, strict=True)}


class _TooLarge(Exception):
    pass


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the elements of all that is made, and ends where one value has more than `most`."""

    def __init__(self, most: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most, self.elements = most, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for each in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(each, Tensor):
                if each.numel() > self.most:
                    raise _TooLarge(each.numel())
                self.elements += each.numel()
        return result


def shown(graph: Graph, weights: Mapping[str, Tensor]) -> tuple[fx.GraphModule, FakeTensorMode]:
    """The graph as a net whose weights have no data, and the mode in which it runs."""
    mode = FakeTensorMode()
    with mode:
        fake = {name: torch.empty(weights[name].shape, dtype=weights[name].dtype) for name in graph.weights()}
    return build(graph, fake), mode


@contextmanager
def quiet() -> Iterator[None]:
    """Fake tensors log a refusal with its whole traceback; our own error says it in a line."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
