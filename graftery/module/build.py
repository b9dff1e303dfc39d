"""graph -> torch.fx.GraphModule. Every name in the generated code is made here: `x0`, `w7`, `v12`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftery.module.graph import BATCH, INPUT, Graph, Node
from graftery.module.ops import DTYPES, torch_operator


def build(graph: Graph, weights: Mapping[str, Tensor]) -> torch.fx.GraphModule:
    """Make the net: eval mode, weights as buffers without grad.

    The graph has passed the static check.

    Args:
        weights: one tensor for each weight that the graph names; they are not copied.

    Returns:
        A net of one argument. With one output it returns the tensor, with several a dict of tensors by name.
    """
    root = nn.Module()
    buffers = buffer_names(graph)
    for name, buffer in buffers.items():
        root.register_buffer(buffer, weights[name].detach())
    net = torch.fx.GraphModule(root, _Builder(buffers).fill(graph), class_name="Module")
    if len(graph.outputs) > 1:
        # A hook gives the outputs their names, so that a name from the file never stands in generated code.
        net.register_forward_hook(_Named(tuple(graph.outputs)))
    return net.eval()


def buffer_names(graph: Graph) -> dict[str, str]:
    """What each weight of a graph is called in the net that `build` makes."""
    return {name: f"w{index}" for index, name in enumerate(sorted(graph.weights()))}


class _Named:
    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def __call__(self, net: nn.Module, args: Any, values: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return dict(zip(self.names, values, strict=True))


class _Builder:
    """Turns steps into fx nodes, one after the other."""

    def __init__(self, buffers: Mapping[str, str]) -> None:
        self.graph = torch.fx.Graph()
        self.buffers = buffers
        self.values: dict[str, torch.fx.Node] = {}
        self.weights: dict[str, torch.fx.Node] = {}
        self.shared: dict[str, torch.fx.Node] = {}

    def fill(self, graph: Graph) -> torch.fx.Graph:
        self.values[INPUT] = self.graph.placeholder(INPUT)
        for index, node in enumerate(graph.nodes):
            self.values[node.id] = self._step(node, f"v{index}")
        results = tuple(self.values[ref] for ref in graph.outputs.values())
        self.graph.output(results[0] if len(results) == 1 else results)
        return self.graph

    def _step(self, node: Node, name: str) -> torch.fx.Node:
        args = tuple(self._argument(value) for value in node.args)
        kwargs = {key: self._argument(value) for key, value in node.kwargs.items()}
        return self.graph.create_node("call_function", torch_operator(node.op), args, kwargs, name=name)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._argument(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((key, content),) = value.items()
        if key == "v":
            return self.values[content]
        if key == "w":
            return self._weight(content)
        if key == "dtype":
            return DTYPES[content]
        if key == "f":
            return float(content)
        return self._batch() if value == BATCH else self._device()

    def _weight(self, name: str) -> torch.fx.Node:
        if name not in self.weights:
            self.weights[name] = self.graph.create_node("get_attr", self.buffers[name])
        return self.weights[name]

    def _batch(self) -> torch.fx.Node:
        if "n" not in self.shared:
            size = torch_operator("aten.sym_size.int")
            self.shared["n"] = self.graph.create_node("call_function", size, (self.values[INPUT], 0), name="n")
        return self.shared["n"]

    def _device(self) -> torch.fx.Node:
        if "device" not in self.shared:
            args = (self.values[INPUT], "device")
            self.shared["device"] = self.graph.create_node("call_function", getattr, args, name="device")
        return self.shared["device"]
