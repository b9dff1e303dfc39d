"""The op-graph document: allow-listed operators in the order in which they run, each value defined once.

Torch-free. `graftery.module.check` holds the rules, `graftery.module.build` makes the net.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from graftery.module.container import canonical_json
from graftery.spec.manifest import TensorSpec

FORMAT = "graftery"
VERSION = 1
INPUT = "x0"
BATCH: dict[str, int] = {"N": 1}
DEVICE: dict[str, int] = {"device": 1}


@dataclass(frozen=True)
class Node:
    """One step: `op` applied to JSON arguments, which gives the value `id`."""

    op: str
    id: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> list[Any]:
        head = [self.op, self.id, list(self.args)]
        return [*head, dict(self.kwargs)] if self.kwargs else head

    def values(self) -> Iterator[str]:
        """The ids of the values that it reads."""
        return _references((self.args, tuple(self.kwargs.values())), "v")

    def weights(self) -> Iterator[str]:
        """The names of the weights that it reads."""
        return _references((self.args, tuple(self.kwargs.values())), "w")

    def mapped(self, value: Callable[[str], Any], id: str | None = None) -> Node:
        """The same step with each `{"v": old}` put through `value`, which gives the whole new reference."""
        args, kwargs = _mapped(self.args, value), {name: _mapped(arg, value) for name, arg in self.kwargs.items()}
        return Node(self.op, id or self.id, tuple(args), kwargs)


@dataclass(frozen=True)
class Graph:
    """A whole net: one input `x0`, the steps, the named outputs, and the layer paths that a cut may name."""

    input: TensorSpec
    nodes: tuple[Node, ...]
    outputs: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "inputs": [{"id": INPUT, "dtype": self.input.dtype, "shape": list(self.input.shape)}],
            "nodes": [node.document() for node in self.nodes],
            "outputs": dict(self.outputs),
            "names": dict(self.names),
        }

    def weights(self) -> frozenset[str]:
        return frozenset(name for node in self.nodes for name in node.weights())

    def operators(self) -> tuple[str, ...]:
        return tuple(sorted({node.op for node in self.nodes}))

    def place_of(self, node: Node) -> str:
        """A step as an error names it: its id, the layer that it ends, if it does, and its operator."""
        layers = {ref: path for path, ref in self.names.items()}
        layer = f" ({layers[node.id]})" if node.id in layers else ""
        return f"node {node.id}{layer} {node.op}"

    def digest(self) -> str:
        """sha256 of what the graph computes: neither ids nor layer paths count."""
        document = renumbered(self).document()
        del document["names"]
        return hashlib.sha256(canonical_json(document).encode()).hexdigest()


def renumbered(graph: Graph) -> Graph:
    """The graph with the ids v0, v1, ... in the order of its steps."""
    new = {INPUT: INPUT} | {node.id: f"v{index}" for index, node in enumerate(graph.nodes)}
    return Graph(
        graph.input,
        tuple(node.mapped(lambda ref: {"v": new[ref]}, new[node.id]) for node in graph.nodes),
        {name: new[ref] for name, ref in graph.outputs.items()},
        {path: new[ref] for path, ref in graph.names.items()},
    )


def needed(graph: Graph, outputs: Mapping[str, str], *, stop: frozenset[str] = frozenset()) -> list[Node]:
    """The steps that `outputs` depend on, in order, not looking behind the values in `stop`."""
    wanted = set(outputs.values()) - stop
    found: list[Node] = []
    for node in reversed(graph.nodes):
        if node.id in wanted:
            found.append(node)
            wanted.update(set(node.values()) - stop)
    return found[::-1]


def _references(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        if key in value:
            yield value[key]
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item, key)


def _mapped(argument: Any, value: Callable[[str], Any]) -> Any:
    if isinstance(argument, dict):
        return value(argument["v"]) if "v" in argument else argument
    if isinstance(argument, (list, tuple)):
        return [_mapped(item, value) for item in argument]
    return argument
