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
from graftery.cloning.positions import Position, above
from graftery.cloning.taps import last_features, outputs, run_on, shapes_of, tapped, value_spec
from graftery.module import ModuleFile


@dataclass(frozen=True)
class Look:
    """What both nets make of images.

    Args:
        target: without its clones.
        last: [n, D].
        old: [n, K], of the target with its clones.
        said: [n, k], of the whole source where it is asked, else 0.
        z: the target's features at layers, by layer.
    """

    target: ModuleFile
    local: Local
    last: Tensor
    old: Tensor
    said: Tensor | None
    z: Mapping[str, Tensor]

    def at(self, place: Position, source: ModuleFile) -> Seen:
        """Args: `source`, whose features at the place's layer the clone's input is to be."""
        ref, device = self.target.graph.names[place.target], self.last.device
        z = self.z.get(place.target)
        if z is None:
            z = run_on(tapped(self.target, {"z": ref}), self.local.x, device)["value"]
        lower, _ = above(source, place.source)
        features = run_on(lower.net(), self.local.x, device)["value"]
        sizes = value_spec(self.target, ref).shape[1:]
        shape = tuple(size if isinstance(size, int) else None for size in sizes)
        y = self.local.y.to(device)
        return Seen(z, self.last, self.old, features, y, shape, self.said, self.local.mixed)


def look(
    source: ModuleFile,
    target: ModuleFile,
    wanted: Sequence[int],
    local: Local,
    *,
    layers: Sequence[str],
    device: torch.device,
) -> Look:
    """Show images to both nets.

    Args:
        wanted: indices of the source's classes.
        layers: of the target, that are going to be looked at; what does not fit beside the others is made when it is.
    """
    bare, inside = opened(target)
    ((_, end),) = bare.graph.outputs.items()
    near = {f"z{index}": layer for index, layer in enumerate(_beside(bare, layers))}
    taps = {"last": last_features(bare), "old": end, **{tap: bare.graph.names[layer] for tap, layer in near.items()}}
    found = run_on(tapped(bare, taps), local.x, device)
    # Its clones' classes are old ones, too.
    old = outputs(target, local.x, device) if inside else found["old"]
    z = {layer: found[tap] for tap, layer in near.items()}
    return Look(bare, local, found["last"], old, _said(source, wanted, local, device), z)


def _beside(bare: ModuleFile, layers: Sequence[str]) -> list[str]:
    """The smallest of these layers, as many as are together no larger than the largest, which is held at some time anyway."""
    shapes = shapes_of(bare)
    sizes = {layer: math.prod(shapes[bare.graph.names[layer]][1:]) for layer in layers}
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
