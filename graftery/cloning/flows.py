"""How channels pass an operator: a rule for each that is known. What is not known pins what reaches it.

Shapes: a flow's dimension is that of the value's rank; -1 is never used.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from graftery.cloning import layers
from graftery.cloning.reading import arguments, first, flow_of, moved, pinned, shape_of, weight_of
from graftery.module.graph import Node

if TYPE_CHECKING:
    from graftery.cloning.channels import Channels, Flow

Rule = Callable[["Channels", Node], "Flow | None"]

POINTWISE = [
    "relu",
    "relu6",
    "gelu",
    "silu",
    "sigmoid",
    "tanh",
    "hardtanh",
    "hardswish",
    "mish",
    "elu",
    "celu",
    "selu",
    "leaky_relu",
    "softplus",
    "softshrink",
    "hardshrink",
    "threshold",
    "clamp",
    "clamp_min",
    "clamp_max",
    "abs",
    "neg",
    "exp",
    "expm1",
    "sqrt",
    "rsqrt",
    "square",
    "log",
    "log1p",
    "sin",
    "cos",
    "erf",
    "reciprocal",
    "clone",
    "contiguous",
    "detach",
    "alias",
    "add.Scalar",
    "sub.Scalar",
    "mul.Scalar",
    "div.Scalar",
    "pow.Tensor_Scalar",
    "rsub.Scalar",
    "to.dtype",
    "to.device",
    "_to_copy",
]
JOINING = ["add.Tensor", "sub.Tensor", "mul.Tensor", "div.Tensor", "maximum", "minimum"]
SPATIAL = {
    "max_pool1d": 1,
    "max_pool2d": 2,
    "max_pool3d": 3,
    "avg_pool1d": 1,
    "avg_pool2d": 2,
    "avg_pool3d": 3,
    "adaptive_avg_pool1d": 1,
    "adaptive_avg_pool2d": 2,
    "adaptive_avg_pool3d": 3,
    "upsample_nearest1d.vec": 1,
    "upsample_nearest2d.vec": 2,
    "_upsample_nearest_exact2d.vec": 2,
    "upsample_bilinear2d.vec": 2,
    "upsample_bicubic2d.vec": 2,
    "reflection_pad2d": 2,
    "replication_pad2d": 2,
}
"""Operators that work on the last dimensions, this many, of each channel by itself."""


def _pass(channels: Channels, node: Node) -> Flow | None:
    """Each number by itself: channels stay what they are."""
    if not (isinstance(first(node), dict) and "v" in first(node)):
        return pinned(channels, node)
    return flow_of(channels, first(node))


def _spatial(dims: int) -> Rule:
    def rule(channels: Channels, node: Node) -> Flow | None:
        flow = flow_of(channels, first(node))
        if flow is None or flow.dim >= len(shape_of(channels, first(node))) - dims:
            return pinned(channels, node)
        return flow

    return rule


def _joined(channels: Channels, node: Node) -> Flow | None:
    """Two values, or a value and a weight or a number, element by element."""
    left, right = node.args[0], node.args[1]
    if weight_of(right) is not None or weight_of(left) is not None:
        value, weight = (left, right) if weight_of(right) is not None else (right, left)
        return layers.with_weight(channels, node, value, weight)
    flows = [flow_of(channels, left), flow_of(channels, right)]
    if not all(isinstance(side, dict) and "v" in side for side in (left, right)):
        return _pass(channels, node)  # a number
    shapes = [shape_of(channels, left), shape_of(channels, right)]
    rank = max(map(len, shapes))
    aligned = [
        None if flow is None else moved(flow, flow.dim + rank - len(shape))
        for flow, shape in zip(flows, shapes, strict=True)
    ]
    return _broadcast(channels, node, aligned, [(1,) * (rank - len(shape)) + shape for shape in shapes])


def _broadcast(channels: Channels, node: Node, flows: list[Flow | None], shapes: list[tuple[int, ...]]) -> Flow | None:
    """Values of one rank: channels that meet are joined; those that meet a single number are not."""
    known = [flow for flow in flows if flow is not None and len(flow.atoms) > 1]
    if not known:
        return (
            next((flow for flow in flows if flow is not None), None)
            if _single(flows, shapes)
            else pinned(channels, node)
        )
    first = known[0]
    if any(flow.dim != first.dim for flow in known):
        return pinned(channels, node)  # an outer product: a flow has one dimension of channels
    for flow, shape in zip(flows, shapes, strict=True):
        if flow is first or shape[first.dim] == 1:
            continue
        if flow is None or flow.dim != first.dim:
            return pinned(channels, node)
        channels.join(first.atoms, flow.atoms)
    return first


def _single(flows: list[Flow | None], shapes: list[tuple[int, ...]]) -> bool:
    """Whether a flow of one channel stays the only one of its dimension."""
    return all(flow is None or all(shape[flow.dim] == 1 for shape in shapes) for flow in flows)


def _reduced(channels: Channels, node: Node) -> Flow | None:
    """A mean, sum or extreme over dimensions that are not the channels'."""
    given, flow = arguments(node), flow_of(channels, first(node))
    named = given.get("dim")
    if flow is None or named is None or named == []:
        return pinned(channels, node)
    rank = len(shape_of(channels, first(node)))
    over = {dim % rank for dim in (named if isinstance(named, list) else [named])}
    if flow.dim in over:
        return pinned(channels, node)
    return flow if given.get("keepdim", False) else moved(flow, flow.dim - sum(dim < flow.dim for dim in over))


def _transposed(channels: Channels, node: Node) -> Flow | None:
    flow = flow_of(channels, first(node))
    if flow is None:
        return None
    rank = len(shape_of(channels, first(node)))
    a, b = (dim % rank for dim in node.args[1:3])
    return moved(flow, {a: b, b: a}.get(flow.dim, flow.dim))


def _permuted(channels: Channels, node: Node) -> Flow | None:
    flow = flow_of(channels, first(node))
    if flow is None:
        return None
    rank = len(shape_of(channels, first(node)))
    return moved(flow, [dim % rank for dim in node.args[1]].index(flow.dim))


def _flattened(channels: Channels, node: Node) -> Flow | None:
    given, flow = arguments(node), flow_of(channels, first(node))
    if flow is None:
        return None
    shape = shape_of(channels, first(node))
    start, end = given.get("start_dim", 0) % len(shape), given.get("end_dim", -1) % len(shape)
    return _merged(flow, shape, start, end)


def _merged(flow: Flow, shape: tuple[int, ...], start: int, end: int) -> Flow:
    """Dimensions `start` to `end` as one, row by row."""
    if flow.dim < start:
        return flow
    if flow.dim > end:
        return moved(flow, flow.dim - (end - start))
    before, after = math.prod(shape[start : flow.dim]), math.prod(shape[flow.dim + 1 : end + 1])
    atoms = tuple(atom for atom in flow.atoms for _ in range(after)) * before
    return type(flow)(start, atoms)


def _reshaped(channels: Channels, node: Node) -> Flow | None:
    """A view that only flattens all from some dimension on; others are not looked into."""
    flow = flow_of(channels, first(node))
    if flow is None:
        return pinned(channels, node)
    shape, made, sizes = shape_of(channels, first(node)), channels.shapes[node.id], node.args[1]
    start = len(made) - 1
    if flow.dim < start or len(made) > len(shape) or made[:start] != shape[:start]:
        return pinned(channels, node)
    merged = _merged(flow, shape, start, len(shape) - 1)
    if sizes[start] != -1:
        if not isinstance(sizes[start], int):
            return pinned(channels, node)
        channels.count(node.id, (1, start), merged.atoms)
    return merged


def _concatenated(channels: Channels, node: Node) -> Flow | None:
    given = arguments(node)
    pieces, dim = given["tensors"], given.get("dim", 0)
    if not all(isinstance(piece, dict) and "v" in piece for piece in pieces):
        return pinned(channels, node)
    flows = [flow_of(channels, piece) for piece in pieces]
    dim %= len(shape_of(channels, pieces[0]))
    if all(flow is None for flow in flows):
        return None
    if any(flow is not None and flow.dim != dim for flow in flows):
        return pinned(channels, node)
    atoms: list[int] = []
    for piece, flow in zip(pieces, flows, strict=True):
        if flow is None:
            flow = channels.fresh(dim, shape_of(channels, piece)[dim])  # noqa: PLW2901
            channels.pin(flow)
        atoms.extend(flow.atoms)
    return type(next(flow for flow in flows if flow is not None))(dim, tuple(atoms))


def _cut_elsewhere(channels: Channels, node: Node) -> Flow | None:
    """A slice along another dimension than the channels'."""
    given, flow = arguments(node), flow_of(channels, first(node))
    if flow is None:
        return None
    rank = len(shape_of(channels, first(node)))
    return flow if given.get("dim", 0) % rank != flow.dim else pinned(channels, node)


def _selected(channels: Channels, node: Node) -> Flow | None:
    given, flow = arguments(node), flow_of(channels, first(node))
    if flow is None:
        return None
    dim = given.get("dim", 0) % len(shape_of(channels, first(node)))
    return pinned(channels, node) if dim == flow.dim else moved(flow, flow.dim - (dim < flow.dim))


def _unsqueezed(channels: Channels, node: Node) -> Flow | None:
    flow = flow_of(channels, first(node))
    dim = arguments(node)["dim"] % len(channels.shapes[node.id])
    return None if flow is None else moved(flow, flow.dim + (dim <= flow.dim))


def _size(channels: Channels, node: Node) -> Flow | None:
    """A size is a number; one of the channels' own dimension would be another after slicing."""
    flow = flow_of(channels, first(node))
    return pinned(channels, node) if flow is not None and node.args[1] == flow.dim else None


def _named(names: list[str], rule: Rule) -> dict[str, Rule]:
    return {f"aten.{name}" if "." in name else f"aten.{name}.default": rule for name in names}


RULES: dict[str, Rule] = {
    **_named(POINTWISE, _pass),
    **_named(JOINING, _joined),
    **{name: rule for key, dims in SPATIAL.items() for name, rule in _named([key], _spatial(dims)).items()},
    **_named(["conv1d", "conv2d", "conv3d", "conv1d.padding", "conv2d.padding", "conv3d.padding"], layers.convolution),
    **_named(["linear"], layers.linear),
    **_named(["batch_norm"], layers.batch_norm),
    **_named(["prelu"], layers.prelu),
    **_named(["mean.dim", "sum.dim_IntList", "amax", "amin"], _reduced),
    **_named(["transpose.int", "swapaxes"], _transposed),
    **_named(["permute"], _permuted),
    **_named(["flatten.using_ints"], _flattened),
    **_named(["view", "reshape"], _reshaped),
    **_named(["cat"], _concatenated),
    **_named(["slice.Tensor", "narrow"], _cut_elsewhere),
    **_named(["select.int"], _selected),
    **_named(["unsqueeze"], _unsqueezed),
    **_named(["sym_size.int"], _size),
}
