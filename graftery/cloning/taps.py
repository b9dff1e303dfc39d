"""Values inside a net: what lies at its layers, and the net with some of them as outputs.

Shapes: N batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx

from graftery.cloning.reading import plain_linear
from graftery.errors import Misfit, ShapesRefused
from graftery.module import ModuleFile
from graftery.module.build import build
from graftery.module.graph import INPUT, Graph, needed
from graftery.module.probes import PROBE_X
from graftery.module.shapes import survey
from graftery.nn.pieces import named_in_pieces
from graftery.spec.limits import Limits
from graftery.spec.manifest import TensorSpec

CHUNK = 256
"""Images that go through a net at once."""


def last_features(file: ModuleFile) -> str:
    """The value that clones read beside their position: what the last linear layer reads, else the logits themselves."""
    node = plain_linear(file)
    return next(iter(file.graph.outputs.values())) if node is None else str(node.args[0]["v"])


def value_spec(file: ModuleFile, ref: str) -> TensorSpec:
    """What a value of the net is.

    Raises:
        Misfit: `position_invalid`; it does not have the batch in front, or is no floating tensor.
    """
    if ref == INPUT:
        return file.manifest.input
    part = Graph(file.graph.input, tuple(needed(file.graph, {"value": ref})), {"value": ref})
    try:
        return survey(part, file.weights, tuple(file.extras[PROBE_X].shape), Limits()).outputs["value"]
    except ShapesRefused as error:
        raise Misfit(f"nothing can be inserted there: {error.message}", code="position_invalid") from error


def tapped(file: ModuleFile, values: Mapping[str, str]) -> fx.GraphModule:
    """The net with these values as its outputs, by name; they are the same bits as in the net itself."""
    graph = replace(file.graph, outputs=dict(values))
    return build(replace(graph, nodes=tuple(needed(graph, values))), file.weights)


def shapes_of(file: ModuleFile, rows: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every value of a net at its probe, or so many rows like it; of what is no tensor, none."""
    watcher, x = _Watcher(file.graph, file.weights), file.extras[PROBE_X]
    with torch.no_grad():
        watcher.run(x if rows is None else x[:1].repeat(rows, *[1] * (x.ndim - 1)))
    return watcher.shapes


def batched_shapes_of(file: ModuleFile) -> dict[str, tuple[int, ...]]:
    """The shapes, without the batch, of those values of a net that have the batch in front: not of tokens [T, N, D], nor of all windows of all images."""
    few, more = (shapes_of(file, rows) for rows in _TWO_BATCHES)
    both = [(ref, shape, more.get(ref, ())) for ref, shape in few.items()]
    return {ref: shape[1:] for ref, shape, other in both if (shape[:1], other[:1]) == tuple((n,) for n in _TWO_BATCHES)}


_TWO_BATCHES = (2, 3)


class _Watcher(fx.Interpreter):
    """Runs a graph and keeps the shape of every value."""

    def __init__(self, graph: Graph, weights: Mapping[str, Tensor]) -> None:
        super().__init__(build(graph, weights))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._ids = {f"v{index}": node.id for index, node in enumerate(graph.nodes)} | {INPUT: INPUT}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self._ids and isinstance(result, Tensor):
            self.shapes[self._ids[n.name]] = tuple(result.shape)
        return result


def outputs(file: ModuleFile, x: Tensor, device: torch.device) -> Tensor:
    """The one output of a file, on the CPU's or the device's images, [n, ...] there."""
    return run_on(file.net(), x, device)["value"]


def values_of(file: ModuleFile, refs: Sequence[str], x: Tensor, device: torch.device) -> list[Tensor]:
    """Values inside a net, each [n, ...], all in one pass."""
    names = [f"v{index}" for index in range(len(refs))] if len(refs) > 1 else ["value"]
    found = run_on(tapped(file, dict(zip(names, refs, strict=True))), x, device)
    return [found[name] for name in names]


def run_on(net: torch.nn.Module, x: Tensor, device: torch.device) -> dict[str, Tensor]:
    """A net's outputs by name (`value`, if it has no names) on the device, without a graph."""
    net = net.to(device)

    def named(chunk: Tensor) -> dict[str, Tensor]:
        value = net(chunk.to(device))
        return value if isinstance(value, dict) else {"value": value}

    return named_in_pieces(named, x, CHUNK)
