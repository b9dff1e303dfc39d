"""Where a clone may go in: layers of the target, each with the layer of the source that the clone then begins behind.

Source: Ye et al. 2023 search the position from deep to shallow, between nets of one architecture; pairs of layers of different nets
are ours (docs/methods/cloning.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from graftery.cloning.taps import batched_shapes_of
from graftery.errors import Misfit, RecipeRefused
from graftery.module import ModuleFile, cut
from graftery.module.cutting import separates
from graftery.module.graph import Node, needed
from graftery.nn.adapters import Shape, joinable

MOST_POSITIONS = 6
"""Layers that are tried where none is named."""
_INNER = ("conv", "linear", "batch_norm", "dropout", "flatten", "view", "transpose", "permute")
"""What a layer's own last step is if its output is not yet a feature: something is still done to it."""


@dataclass(frozen=True)
class Position:
    """A place to insert: the target's layer, and the source's that its features stand for."""

    target: str
    source: str


def positions(target: ModuleFile, source: ModuleFile, named: Sequence[str] = ()) -> list[Position]:
    """The positions to try, deep to shallow.

    Args:
        named: layers of the target; none: up to six of those that there are, evenly over its depth.

    Raises:
        RecipeRefused: `position_invalid`; a layer is none, or cannot be one.
        Misfit: `position_invalid`; there is no pair of layers.
    """
    ours, theirs = (
        places(target),
        {place.layer: place for place in places(source) if separates(source.graph, place.layer)},
    )
    if named:
        ours = [_named(target, layer) for layer in dict.fromkeys(named)]
    found = []
    for place in sorted(ours, key=lambda place: -place.depth):
        pair = _nearest(place, list(theirs.values()))
        if pair is not None:
            found.append(Position(place.layer, pair.layer))
        elif named:
            raise RecipeRefused(
                f"no layer of the source fits the target's layer {place.layer!r}", code="position_invalid"
            )
    if not found:
        raise Misfit("no layer of the source fits any layer of the target", code="position_invalid")
    return found if named else _spread(found)


@dataclass(frozen=True)
class Place:
    """A layer whose output can be read: its shape without the batch, and how deep it lies, from 0 to 1."""

    layer: str
    shape: Shape
    depth: float


def places(file: ModuleFile) -> list[Place]:
    """The layers of a net that give features, shallow to deep; of several names of one value, the shortest."""
    net = _Net.of(file)
    nodes = {node.id: node for node in file.graph.nodes}
    values: dict[str, str] = {}
    for path, ref in file.graph.names.items():
        inner = ref in nodes and _is_inner(nodes[ref])
        if not inner and (ref not in values or len(path) < len(values[ref])):
            values[ref] = path
    found = [net.place(path) for path in values.values()]
    return sorted((place for place in found if place is not None), key=lambda place: place.depth)


@dataclass(frozen=True)
class _Net:
    """What is asked of every layer: where its value stands among the steps, whether an output needs it, and its shape."""

    file: ModuleFile
    order: Mapping[str, int]
    living: frozenset[str]
    shapes: Mapping[str, tuple[int, ...]]
    """Without the batch, of values that have it in front."""

    @classmethod
    def of(cls, file: ModuleFile) -> _Net:
        order = {node.id: index for index, node in enumerate(file.graph.nodes)}
        living = {node.id for node in needed(file.graph, file.graph.outputs)} - set(file.graph.outputs.values())
        return cls(file, order, frozenset(living), batched_shapes_of(file))

    def place(self, layer: str) -> Place | None:
        """A layer as a place; None: it gives no features that an output needs."""
        ref = self.file.graph.names[layer]
        shape: Shape = self.shapes.get(ref, ())
        if ref not in self.living or not joinable(shape, shape):
            return None
        return Place(layer, shape, self.order[ref] / len(self.order))


def _named(target: ModuleFile, layer: str) -> Place:
    if layer not in target.graph.names:
        near = get_close_matches(layer, target.graph.names, n=5, cutoff=0.4) or list(target.graph.names)[-5:]
        raise RecipeRefused(
            f"the target has no layer {layer[:200]!r}", code="position_invalid", hint=f"near it: {', '.join(near)}"
        )
    place = _Net.of(target).place(layer)
    if place is None:
        raise RecipeRefused(
            f"nothing can be inserted at the target's layer {layer!r}",
            code="position_invalid",
            hint="name one that gives features",
        )
    return place


def _is_inner(node: Node) -> bool:
    return node.op.removeprefix("aten.").startswith(_INNER)


def _nearest(place: Place, theirs: Sequence[Place]) -> Place | None:
    """The source's layer of the same name and kind, else the one that is nearest in resolution, then in depth."""
    fitting = [each for each in theirs if joinable(place.shape, each.shape)]
    same = [each for each in fitting if each.layer == place.layer and len(each.shape) == len(place.shape)]
    return same[0] if same else min(fitting, key=lambda each: _distance(place, each), default=None)


def _distance(ours: Place, theirs: Place) -> tuple[bool, float]:
    a, b = _cells(ours.shape), _cells(theirs.shape)
    return len(ours.shape) != len(theirs.shape), abs(math.log2(a / b)) + 2 * abs(ours.depth - theirs.depth)


def _cells(shape: Shape) -> int:
    """Positions of a map, or tokens; a free size is as good as any."""
    sizes = shape[1:] if len(shape) == 3 else shape[:-1]
    return math.prod(size or 8 for size in sizes)


def _spread(found: list[Position]) -> list[Position]:
    if len(found) <= MOST_POSITIONS:
        return found
    step = (len(found) - 1) / (MOST_POSITIONS - 1)
    return [found[round(index * step)] for index in range(MOST_POSITIONS)]


def above(source: ModuleFile, layer: str) -> tuple[ModuleFile, ModuleFile]:
    """The source up to a layer, and behind it."""
    lower, uppers = cut(source, layer)
    return lower, next(iter(uppers.values()))
