"""How channels pass layers that have weights: which of their dimensions lie along which channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graftery.cloning.reading import arguments, first, flow_of, pinned, shape_of, weight_of
from graftery.module.graph import Node
from graftery.module.opset import operators

if TYPE_CHECKING:
    from graftery.cloning.channels import Channels, Flow


def with_weight(channels: Channels, node: Node, value: Any, weight: Any) -> Flow | None:
    flow, name = flow_of(channels, value), weight_of(weight)
    shape = channels.weight_shapes[name or ""]
    if flow is None:
        return None
    at = flow.dim - (len(shape_of(channels, value)) - len(shape))
    if len(shape) > len(shape_of(channels, value)):
        return pinned(channels, node)
    if at >= 0 and shape[at] != 1:
        if shape[at] != len(flow.atoms):
            return pinned(channels, node)
        channels.use(name or "", at, flow.atoms, "writes")
    return flow


def convolution(channels: Channels, node: Node) -> Flow | None:
    given = arguments(node)
    flow, weight, bias = flow_of(channels, given["input"]), weight_of(given["weight"]), weight_of(given.get("bias"))
    if weight is None or (given.get("bias") is not None and bias is None) or (flow is not None and flow.dim != 1):
        return pinned(channels, node)
    outs, groups = channels.weight_shapes[weight][0], given.get("groups", 1)
    if groups == 1:
        if flow is not None:
            channels.use(weight, 1, flow.atoms, "reads")
        made = channels.fresh(1, outs)
    elif flow is not None and groups == outs == len(flow.atoms):  # each channel by itself
        at = [argument.name for argument in operators()[node.op].positional].index("groups")
        if at >= len(node.args):
            return pinned(channels, node)
        channels.count(node.id, (at,), flow.atoms)
        made = flow
    else:
        return pinned(channels, node)
    channels.use(weight, 0, made.atoms, "writes")
    if bias is not None:
        channels.use(bias, 0, made.atoms, "writes")
    return made


def linear(channels: Channels, node: Node) -> Flow | None:
    given = arguments(node)
    weight, bias = weight_of(given["weight"]), weight_of(given.get("bias"))
    if (
        weight is None
        or len(channels.weight_shapes[weight]) != 2
        or (given.get("bias") is not None and bias is None)
        or weight_of(given["input"]) is not None
    ):
        return pinned(channels, node)
    flow, last = flow_of(channels, given["input"]), len(shape_of(channels, given["input"])) - 1
    if flow is not None and flow.dim != last:
        channels.pin(flow)
    elif flow is not None:
        channels.use(weight, 1, flow.atoms, "reads")
    made = channels.fresh(last, channels.weight_shapes[weight][0])
    channels.use(weight, 0, made.atoms, "writes")
    if bias is not None:
        channels.use(bias, 0, made.atoms, "writes")
    return made


def batch_norm(channels: Channels, node: Node) -> Flow | None:
    flow = flow_of(channels, first(node))
    weights = [weight_of(argument) for argument in node.args[1:5]]
    if (
        flow is None
        or flow.dim != 1
        or any(a is not None and w is None for a, w in zip(node.args[1:5], weights, strict=True))
    ):
        return pinned(channels, node)
    for weight in weights:
        if weight is not None:
            channels.use(weight, 0, flow.atoms, "writes")
    return flow


def prelu(channels: Channels, node: Node) -> Flow | None:
    flow, weight = flow_of(channels, first(node)), weight_of(node.args[1])
    if flow is None or weight is None or (flow.dim != 1 and channels.weight_shapes[weight] != (1,)):
        return pinned(channels, node)
    if channels.weight_shapes[weight] == (len(flow.atoms),) and len(flow.atoms) > 1:
        channels.use(weight, 0, flow.atoms, "writes")
    return flow
