"""A graph on tensors without data: what it is run on to find shapes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel

from graftery.errors import ShapesRefused, first_line
from graftery.module.build import build
from graftery.module.derivatives import as_outputs
from graftery.module.graph import Graph
from graftery.module.ops import DTYPES


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
