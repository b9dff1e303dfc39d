"""Nets as graphs of ATen operators, and the statistics at their batch norms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.nn import functional as F

BATCH_NORM = "aten.batch_norm"


def operator_name(node: fx.Node) -> str:
    """`aten.relu` for `torch.ops.aten.relu.default`; a name of its own kind for what is no ATen operator."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(packet) if packet is not None else str(getattr(node.target, "__name__", node.target))


def is_op_graph(net: nn.Module) -> bool:
    """Whether the net is a graph module that calls nothing but operators."""
    return isinstance(net, fx.GraphModule) and not any(
        node.op in ("call_module", "call_method") for node in net.graph.nodes
    )


def op_graph(net: nn.Module, x: Tensor) -> fx.GraphModule:
    """The net as a graph of ATen operators that shares its parameters and buffers.

    Args:
        net: in evaluation mode; a graph module of operators is given back as it is.
        x: an input with a batch of at least 2.
    """
    if isinstance(net, fx.GraphModule) and is_op_graph(net):
        return net
    exported = torch.export.export(net, (x,), dynamic_shapes=({0: Dim.DYNAMIC},))
    graph = exported.module(check_guards=False)
    assert isinstance(graph, fx.GraphModule)  # noqa: S101  for the type checker
    return graph


def batch_norms(net: nn.Module) -> list[fx.Node]:
    """The batch norms of a graph of operators."""
    return [node for node in nodes(net) if operator_name(node) == BATCH_NORM]


def nodes(net: nn.Module) -> Iterator[fx.Node]:
    if isinstance(net, fx.GraphModule):
        yield from net.graph.nodes


class Statistics(fx.Interpreter):
    """Runs a graph and keeps, for each batch norm, how far the batch is from the stored statistics."""

    def __init__(self, net: fx.GraphModule) -> None:
        super().__init__(net, garbage_collect_values=False)
        self.mismatches: list[Tensor] = []

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "call_function" and operator_name(n) == BATCH_NORM:
            args, _ = self.fetch_args_kwargs_from_env(n)
            self.mismatches.append(batch_norm_mismatch(args[0], args[3], args[4], float(args[7])))
        return super().run_node(n)


class OwnStatistics(fx.Interpreter):
    """Runs a graph with every batch norm standing on the mean and variance of the batch, not on the stored ones.

    A channel then comes out with the mean and variance that it had in training, whatever the inputs are. Nothing that is
    stored changes.

    Source: ours; batch norm adapted to a domain by its statistics is AdaBN (Li et al. 2016).
    """

    def run_node(self, n: fx.Node) -> Any:
        if n.op != "call_function" or operator_name(n) != BATCH_NORM:
            return super().run_node(n)
        args, _ = self.fetch_args_kwargs_from_env(n)
        return F.batch_norm(args[0], None, None, args[1], args[2], training=True, eps=float(args[7]))


def widened(x: Tensor) -> Tensor:
    """Float32 instead of bfloat16; what is wider stays as it is."""
    return x.float() if x.dtype == torch.bfloat16 else x


def batch_norm_mismatch(x: Tensor, mean_C: Tensor, var_C: Tensor, eps: float) -> Tensor:
    """How far the statistics of a batch are from the stored ones.

    Math: mean over channels of (m - m_0)^2 / v_0 + (log v - log v_0)^2.

    Args:
        x: [N, C, ...]; statistics are over all dimensions but C.
        mean_C, var_C: m_0 and v_0, as batch norm stores them.
        eps: batch norm's own.
    """
    over = [dim for dim in range(x.ndim) if dim != 1]
    # Two plain means are some times faster than torch.var_mean; around m_0 their difference keeps its digits.
    moved = widened(x) - mean_C.reshape(1, -1, *[1] * (x.ndim - 2))
    shift_C = moved.mean(over)
    batch_var_C = (moved.square().mean(over) - shift_C.square()).clamp_min(0)
    offset_C = shift_C.square() / (var_C + eps)
    return (offset_C + ((batch_var_C + eps) / (var_C + eps)).log().square()).mean()
