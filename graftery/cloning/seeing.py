"""What the nets make of images: once for all positions that are tried on them, as far as it is the same.

Shapes: n images, K the target's classes, k the wanted ones, D the target's last features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.cloning.attaching import opened
from graftery.cloning.insertion import Seen
from graftery.cloning.local import OF_SOURCE, Local
from graftery.cloning.positions import Position
from graftery.cloning.taps import last_features, outputs, shapes_of, value_spec, values_of
from graftery.module import ModuleFile


@dataclass(frozen=True)
class Look:
    """What both nets make of images.

    Args:
        target: without its clones.
        part: of the source, what is cloned.
        last: [n, D].
        old: [n, K], of the target with its clones.
        said: [n, k], of the whole source where it is asked, else 0.
        z, features: the target's and the part's values at layers, by layer.
    """

    target: ModuleFile
    part: ModuleFile
    local: Local
    last: Tensor
    old: Tensor
    said: Tensor | None
    z: Mapping[str, Tensor]
    features: Mapping[str, Tensor]

    def at(self, place: Position) -> Seen:
        """What is seen at one of the places."""
        device = self.last.device
        z = self._value(self.target, place.target, self.z)
        features = self._value(self.part, place.source, self.features)
        sizes = value_spec(self.target, self.target.graph.names[place.target]).shape[1:]
        shape = tuple(size if isinstance(size, int) else None for size in sizes)
        y = self.local.y.to(device)
        return Seen(z, self.last, self.old, features, y, shape, self.said, self.local.mixed)

    def _value(self, file: ModuleFile, layer: str, held: Mapping[str, Tensor]) -> Tensor:
        found = held.get(layer)
        if found is not None:
            return found
        return values_of(file, [file.graph.names[layer]], self.local.x, self.last.device)[0]


def look(
    source: ModuleFile,
    target: ModuleFile,
    wanted: Sequence[int],
    local: Local,
    *,
    places: Sequence[Position],
    part: ModuleFile,
    device: torch.device,
) -> Look:
    """Show images to both nets.

    Args:
        wanted: indices of the source's classes.
        places: that are going to be looked at; what does not fit beside the others is made when it is.
        part: of the source, whose features at a place's layer the clone's input is to be.
    """
    bare, inside = opened(target)
    ((_, end),) = bare.graph.outputs.items()
    z, (last, old) = _values(bare, [place.target for place in places], local.x, device, (last_features(bare), end))
    features, _ = _values(part, [place.source for place in places], local.x, device)
    # Its clones' classes are old ones, too.
    old = outputs(target, local.x, device) if inside else old
    return Look(bare, part, local, last, old, _said(source, wanted, local, device), z, features)


def _values(
    file: ModuleFile, layers: Sequence[str], x: Tensor, device: torch.device, beside: Sequence[str] = ()
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """In one pass: of these layers those that are held, by layer; and other values, by their references."""
    held = _held(file, layers)
    found = values_of(file, [*beside, *(file.graph.names[layer] for layer in held)], x, device)
    return dict(zip(held, found[len(beside) :], strict=True)), found[: len(beside)]


def _held(file: ModuleFile, layers: Sequence[str]) -> list[str]:
    """The smallest of these layers, as many as are together no larger than the largest, which is held at some time anyway."""
    shapes = shapes_of(file)
    sizes = {layer: math.prod(shapes[file.graph.names[layer]][1:]) for layer in layers}
    chosen: list[str] = []
    for layer in sorted(sizes, key=lambda each: sizes[each]):
        if sum(sizes[each] for each in chosen) + sizes[layer] <= max(sizes.values()):
            chosen.append(layer)
    return chosen


def _said(source: ModuleFile, wanted: Sequence[int], local: Local, device: torch.device) -> Tensor | None:
    asked = (local.y == OF_SOURCE).nonzero()[:, 0]
    if not len(asked):
        return None
    said = torch.zeros(len(local.y), len(wanted), device=device)
    said[asked.to(device)] = outputs(source, local.x[asked], device)[:, list(wanted)]
    return said
