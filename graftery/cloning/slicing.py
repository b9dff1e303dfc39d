"""A network without some of its channels: really smaller, not multiplied by zero.

Source: Ye et al. 2023 mask channels; that masked channels are sliced away is ours (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from graftery.cloning.channels import Channels
from graftery.cloning.reading import LINEAR, plain_linear
from graftery.module import ModuleFile
from graftery.module.graph import Node, renumbered
from graftery.module.probes import PROBE_X, with_probe
from graftery.spec.cloning import only_output

SELECTION = "selection"


def with_linear_end(file: ModuleFile) -> ModuleFile:
    """The file, whose one output is the logits of a linear layer with a bias: what lacks one gets one that changes nothing.

    Raises:
        Misfit: `semantics_mismatch`; it has not one output of logits [N, K], K at least 2.
    """
    name, spec = only_output(file.manifest, "source")
    classes, end = int(spec.shape[1]), plain_linear(file)
    if end is not None and len(end.args) > 2 and end.args[2] is not None:
        return file
    more = {f"{SELECTION}.bias": torch.zeros(classes)}
    if end is None:
        more[f"{SELECTION}.weight"] = torch.eye(classes)
        reads = ({"v": file.graph.outputs[name]}, {"w": f"{SELECTION}.weight"})
        nodes = file.graph.nodes
    else:
        reads, nodes = end.args[:2], tuple(node for node in file.graph.nodes if node is not end)
    last = Node(LINEAR, "selection", (*reads, {"w": f"{SELECTION}.bias"}))
    graph = replace(file.graph, nodes=(*nodes, last), outputs={name: last.id}, names=_names(file, end, last))
    return replace(file, graph=renumbered(graph), weights={**file.weights, **more})


def _names(file: ModuleFile, before: Node | None, now: Node) -> dict[str, str]:
    return {path: now.id if before is not None and ref == before.id else ref for path, ref in file.graph.names.items()}


def end_weights(file: ModuleFile) -> tuple[str, str]:
    """The names of the last linear layer's weight [K, D] and bias [K], of a file with a linear end."""
    end = plain_linear(file)
    assert end is not None  # noqa: S101 - `with_linear_end` has seen to it
    return end.args[1]["w"], end.args[2]["w"]


def masked(channels: Channels, weights: Mapping[str, Tensor], roots: Sequence[int], gates: Tensor) -> dict[str, Tensor]:
    """The weights of the network with each unit's channels multiplied by its gate, where they are read.

    Math: W[:, c] -> g[unit of c] W[:, c].

    Args:
        roots: of the units.
        gates: [units]; 0 is as if the unit were sliced away.

    Returns:
        The weights that are not as they were; differentiable in the gates.
    """
    made: dict[str, Tensor] = {}
    open_gates = torch.cat([gates, gates.new_ones(1)])  # -1: none of these units
    for use in channels.uses.values():
        at = channels.positions(use, roots) if use.place == "reads" else None
        if at is not None and (at >= 0).any():
            weight = made.get(use.weight, weights[use.weight])
            along = [1] * weight.ndim
            along[use.dim] = -1
            made[use.weight] = weight * open_gates[at.to(gates.device)].view(along)
    return made


def sliced(
    file: ModuleFile, channels: Channels, gone: Collection[int], classes: Sequence[int] | None = None
) -> ModuleFile:
    """The file without these units and, if classes are named, with the logits of these alone, in their order.

    Math: what it computes is the masked network's function, to rounding.

    Args:
        file: with a linear end and a probe.
        channels: of this file.
        gone: roots of units, none of them pinned.
        classes: indices of the output.
    """
    without = frozenset(gone)
    weights = dict(file.weights)
    for use in channels.uses.values():
        weights[use.weight] = weights[use.weight].index_select(use.dim, channels.index(use.atoms, without))
    counted = {(count.node, count.path): len(channels.index(count.atoms, without)) for count in channels.counts}
    nodes = tuple(_with_counts(node, counted) for node in file.graph.nodes)
    made = replace(file, graph=replace(file.graph, nodes=nodes), weights=weights)
    if classes is not None:
        made = _with_classes(made, torch.tensor(list(classes)))
    return with_probe(made, file.extras[PROBE_X])


def _with_classes(file: ModuleFile, classes: Tensor) -> ModuleFile:
    weight, bias = end_weights(file)
    weights = {**file.weights, weight: file.weights[weight][classes], bias: file.weights[bias][classes]}
    name, spec = only_output(file.manifest)
    names = None if spec.class_names is None else tuple(spec.class_names[at] for at in classes.tolist())
    output = spec.model_copy(update={"shape": ("N", len(classes)), "class_names": names})
    return replace(file, weights=weights, manifest=file.manifest.model_copy(update={"outputs": {name: output}}))


def _with_counts(node: Node, counted: Mapping[tuple[str, tuple[int, ...]], int]) -> Node:
    args: list[Any] = list(node.args)
    for (where, path), count in counted.items():
        if where == node.id:
            at, *rest = path
            args[at] = _put(args[at], rest, count)
    return replace(node, args=tuple(args))


def _put(argument: Any, path: Sequence[int], value: int) -> Any:
    if not path:
        return value
    made = list(argument)
    made[path[0]] = _put(made[path[0]], path[1:], value)
    return made
