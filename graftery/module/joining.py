"""Modules one behind the other, as one file: the way back from a cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from graftery.errors import Misfit, ShapesRefused
from graftery.module.file import ModuleFile
from graftery.module.graph import INPUT, Graph, Node, renumbered
from graftery.module.probes import PROBE_X, with_probe
from graftery.module.shapes import survey
from graftery.spec.fit import fits, say
from graftery.spec.limits import Limits
from graftery.spec.manifest import TensorSpec


def join(parts: Mapping[str, ModuleFile]) -> ModuleFile:
    """One net of several, each of which reads the one output of the one before.

    Args:
        parts: in order, by the names that begin those of their layers and weights: `category.blocks.1`. The first has a probe.

    Returns:
        A file of kind "teacher" that computes the same, to the bit, and shares the weights' memory.

    Raises:
        Misfit: `shape_mismatch`, `kind_mismatch`; parts that do not follow each other.
    """
    named = list(parts.items())
    graph, weights = prefixed(*named[0])
    for (_, before), (name, part) in pairwise(named):
        _check_follows(before, part, name)
        upper, more = prefixed(name, part)
        graph, weights = _after(graph, upper), weights | more
    first, last = named[0][1], named[-1][1]
    probe = first.extras[PROBE_X]
    graph = replace(graph, input=_input(renumbered(graph), weights, tuple(probe.shape)))
    manifest = last.manifest.model_copy(
        update={
            "kind": "teacher",
            "input": graph.input,
            "preprocessing": first.manifest.preprocessing,
            "cut": None,
            "parents": (),
        }
    )
    return with_probe(ModuleFile(manifest, renumbered(graph), weights), probe)


def _input(graph: Graph, weights: Mapping[str, Tensor], shape: tuple[int, ...]) -> TensorSpec:
    """Of images of any size, where all parts take any; else of the probe's size: the first may read more than the next one does."""
    if all(isinstance(size, int) for size in graph.input.shape[1:]):
        return graph.input
    try:
        survey(graph, weights, shape, Limits())
    except ShapesRefused:
        return graph.input.model_copy(update={"shape": ("N", *shape[1:])})
    return graph.input


def _check_follows(before: ModuleFile, part: ModuleFile, name: str) -> None:
    outputs = list(before.manifest.outputs.values())
    if len(outputs) != 1:
        raise Misfit(
            f"what is before {name} has the outputs {sorted(before.manifest.outputs)}: it must have one",
            code="kind_mismatch",
        )
    given = TensorSpec(dtype=outputs[0].dtype, shape=outputs[0].shape)
    if not fits(given, part.manifest.input):
        raise Misfit(f"what is before {name} gives {say(given)}, {name} reads {say(part.manifest.input)}")


def prefixed(name: str, file: ModuleFile) -> tuple[Graph, dict[str, Tensor]]:
    """A part's graph and weights with `name.` before its ids, layers and weights. Ids are to be numbered again."""

    def weight(argument: object) -> object:
        if isinstance(argument, dict):
            return {"w": f"{name}.{argument['w']}"} if "w" in argument else argument
        return [weight(each) for each in argument] if isinstance(argument, (list, tuple)) else argument

    def value(ref: str) -> dict[str, str]:
        return {"v": ref if ref == INPUT else f"{name}.{ref}"}

    nodes = tuple(
        replace(
            moved := node.mapped(value, f"{name}.{node.id}"),
            args=tuple(weight(argument) for argument in moved.args),
            kwargs={key: weight(argument) for key, argument in moved.kwargs.items()},
        )
        for node in file.graph.nodes
    )
    outputs = {output: value(ref)["v"] for output, ref in file.graph.outputs.items()}
    names = {f"{name}.{path}": value(ref)["v"] for path, ref in file.graph.names.items()}
    graph = Graph(file.graph.input, nodes, outputs, names)
    return graph, {f"{name}.{key}": tensor for key, tensor in file.weights.items()}


def _after(lower: Graph, upper: Graph) -> Graph:
    """`upper` reads what `lower` gives."""
    ((_, end),) = lower.outputs.items()

    def value(ref: str) -> dict[str, str]:
        return {"v": end if ref == INPUT else ref}

    nodes: tuple[Node, ...] = tuple(node.mapped(value) for node in upper.nodes)
    outputs = {name: value(ref)["v"] for name, ref in upper.outputs.items()}
    names = {path: value(ref)["v"] for path, ref in upper.names.items()}
    return Graph(lower.input, (*lower.nodes, *nodes), outputs, {**lower.names, **names})
