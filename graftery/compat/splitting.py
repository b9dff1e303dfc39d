"""A network that is being trained, split at a layer into feature extractor and target task head.

`graftery.module.cut` splits files, whose nets are in evaluation mode. Here both parts go on learning: they are the net's
own layers, under the net's own names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import fx, nn

from graftery.data.streams import generator
from graftery.errors import CutRefused, TraceRefused, first_line


@dataclass(frozen=True)
class Split:
    """head(extractor(x)) is net(x); all three share their weights."""

    net: nn.Module
    extractor: nn.Module
    head: nn.Module

    def on(self, device: torch.device) -> Split:
        """The same, moved in place."""
        for part in (self.net, self.extractor, self.head):
            part.to(device)
        return self


@dataclass(frozen=True)
class Design:
    """How a network is built.

    Args:
        net: from the number of logits, a net [N, ...] -> [N, logits].
        cut: the layer whose output the features are.
    """

    net: Callable[[int], nn.Module]
    cut: str

    def build(self, logits: int, seed: int, stream: str) -> nn.Module:
        """A net whose first weights are a function of the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(seed, stream).initial_seed())
            return self.net(logits)

    def split(self, logits: int, seed: int, stream: str) -> Split:
        """`build`, split at the cut."""
        return split_at(self.build(logits, seed, stream), self.cut)


def split_at(net: nn.Module, layer: str) -> Split:
    """Split a net at the output of a layer.

    Args:
        net: one tensor in, one out; it decides nothing by values.
        layer: a path as in `net.named_modules()`.

    Raises:
        CutRefused: `cut_not_found`; `cut_not_separating`.
        TraceRefused: the net cannot be followed symbolically.
    """
    paths = [path for path, _ in net.named_modules() if path]
    if layer not in paths:
        near = get_close_matches(layer, paths, n=5, cutoff=0.4) or paths[-5:]
        raise CutRefused(f"the net has no layer {layer[:200]!r}", hint=f"near it: {', '.join(near)}", near=near)
    graph = _followed(net, layer)
    calls = [node for node in graph.nodes if node.op == "call_module" and node.target == layer]
    if len(calls) != 1:
        raise CutRefused(f"the net calls the layer {layer!r} {len(calls)} times, not once", code=_NOT_SEPARATING)
    return Split(net, fx.GraphModule(net, _lower(graph, calls[0])), fx.GraphModule(net, _upper(graph, calls[0])))


_NOT_SEPARATING = "cut_not_separating"


class _Tracer(fx.Tracer):
    """Looks only into the modules that the cut layer lies in: all others may do what they like."""

    def __init__(self, layer: str) -> None:
        super().__init__()
        self.layer = layer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.layer.startswith(f"{module_qualified_name}.")


def _followed(net: nn.Module, layer: str) -> fx.Graph:
    try:
        return _Tracer(layer).trace(net)
    except Exception as error:
        raise TraceRefused(
            f"the net cannot be split while it is trained: {first_line(error)}",
            hint="keep what depends on values in layers below or above the cut, out of the modules that the cut layer lies in",
        ) from error


def _lower(graph: fx.Graph, at: fx.Node) -> fx.Graph:
    made = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    _copied(graph, _needed([at]), made, copies)
    made.output(copies[at])
    return made


def _upper(graph: fx.Graph, at: fx.Node) -> fx.Graph:
    made = fx.Graph()
    copies = {at: made.placeholder("features")}
    above = _needed([node for node in graph.nodes if node.op == "output"], stop=at)
    beside = [node.name for node in above if node.op == "placeholder"]
    if at not in above or beside:
        what = "also uses the net's input" if beside else "does not use it"
        raise CutRefused(
            f"what is above the layer {at.target!r} {what}",
            code=_NOT_SEPARATING,
            hint="cut where everything passes through one layer",
        )
    _copied(graph, above, made, copies)
    return made


def _copied(graph: fx.Graph, wanted: set[fx.Node], made: fx.Graph, copies: dict[fx.Node, fx.Node]) -> None:
    """Copy these nodes in their order; those that have a copy already stay."""
    for node in graph.nodes:
        if node in wanted and node not in copies:
            copies[node] = made.node_copy(node, copies.__getitem__)


def _needed(ends: list[fx.Node], stop: fx.Node | None = None) -> set[fx.Node]:
    """What these nodes need, themselves included, down to `stop`."""
    waiting, found = list(ends), set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [] if node is stop else node.all_input_nodes
    return found
