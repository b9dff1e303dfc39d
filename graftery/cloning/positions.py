"""Where a clone may go in: layers of the target, each with the layer of the source that the clone then begins behind.

Source: Ye et al. 2023 search the position from deep to shallow, between nets of one architecture; pairs of layers of different nets
are ours (docs/methods/cloning.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from graftery.cloning.taps import value_spec
from graftery.errors import CutRefused, GrafteryError, Misfit, RecipeRefused
from graftery.module import ModuleFile, cut
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
    ours, theirs = places(target), {place.layer: place for place in places(source) if separates(source, place.layer)}
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
    """The layers of a net that give features: one a value, the last of those of one shape that follow each other by name."""
    order = {node.id: index for index, node in enumerate(file.graph.nodes)}
    nodes = {node.id: node for node in file.graph.nodes}
    ((_, end),) = file.graph.outputs.items()
    living = {node.id for node in needed(file.graph, file.graph.outputs)} - {end}
    values: dict[str, str] = {}
    for path, ref in file.graph.names.items():
        if ref in living and not _is_inner(nodes[ref]) and (ref not in values or len(path) < len(values[ref])):
            values[ref] = path
    found = []
    for ref, path in sorted(values.items(), key=lambda each: order[each[0]]):
        place = _place(file, path, ref, order[ref] / max(1, order[end]))
        if place is not None:
            found.append(place)
    return found


def separates(file: ModuleFile, layer: str) -> bool:
    """Whether everything above the layer needs nothing else from below it."""
    try:
        cut(file, layer)
    except CutRefused:
        return False
    return True


def _named(target: ModuleFile, layer: str) -> Place:
    if layer not in target.graph.names:
        near = get_close_matches(layer, target.graph.names, n=5, cutoff=0.4) or list(target.graph.names)[-5:]
        raise RecipeRefused(
            f"the target has no layer {layer[:200]!r}", code="position_invalid", hint=f"near it: {', '.join(near)}"
        )
    order = {node.id: index for index, node in enumerate(target.graph.nodes)}
    ((_, end),) = target.graph.outputs.items()
    ref = target.graph.names[layer]
    living = {node.id for node in needed(target.graph, target.graph.outputs)} - {end}
    place = _place(target, layer, ref, order[ref] / max(1, order[end])) if ref in living else None
    if place is None:
        raise RecipeRefused(
            f"nothing can be inserted at the target's layer {layer!r}",
            code="position_invalid",
            hint="name one that gives features",
        )
    return place


def _place(file: ModuleFile, path: str, ref: str, depth: float) -> Place | None:
    try:
        spec = value_spec(file, ref)
    except GrafteryError:
        return None
    shape: Shape = tuple(size if isinstance(size, int) else None for size in spec.shape[1:])
    return Place(path, shape, depth) if spec.dtype == "float32" and joinable(shape, shape) else None


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
