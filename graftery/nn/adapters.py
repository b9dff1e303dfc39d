"""Adapters: the small nets h between a category module and a task module, near-identity at the start.

Shapes: N batch, C channels, H height, W width, T tokens, D features. A shape here leaves the batch out.
Source: Zhang et al. 2018 keep h to one to three convolutions with ReLU; near-identity, projection and resize are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.errors import Misfit
from graftery.nn.crossings import crossing
from graftery.nn.layers import convolution, linear
from graftery.spec.recipes import AdapterRecipe

Shape = tuple[int | None, ...]
"""A feature's shape without the batch; None is a free size."""


class Adapter(nn.Module):
    """h: layers with ReLU between them; then, where sizes differ, a resize.

    Input [N, *source], output [N, *target]; rank 2 is [N, D], 3 is [N, T, D], 4 is [N, C, H, W].
    """

    def __init__(self, layers: Sequence[nn.Module], *, final_relu: bool, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.final_relu = final_relu
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if self.final_relu or index + 1 < len(self.layers):
                x = F.relu(x)
        if self.size is None:
            return x
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


def make_adapter(source: Shape, target: Shape, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    """The adapter from features of shape `source` to features of shape `target`.

    Convolutional features [C, H, W]: a 1x1 projection where C differs, then `recipe.layers` convolutions, then a
    resize where H, W differ. Vectors [D] and tokens [T, D]: linear layers, the first of which projects. From one kind
    to another, and to another number of tokens: `graftery.nn.crossings`.

    Raises:
        Misfit: `shape_mismatch`; features of no kind above, or whose width is free.
    """
    if not joinable(source, target):
        raise Misfit(f"no adapter joins features {list(source)} and {list(target)}")
    count, final_relu = recipe.layers or 1, bool(recipe.final_relu)
    if not alike(source, target):
        return crossing(source, target, recipe, generator)
    if len(source) != 3:
        widths = [_known(source[-1]), *[_known(target[-1])] * count]
        layers = [linear(a, b, recipe, generator) for a, b in pairwise(widths)]
        return Adapter(layers, final_relu=final_relu)
    channels, wanted = _known(source[0]), _known(target[0])
    layers = [] if channels == wanted else [convolution(channels, wanted, 1, recipe, generator)]
    layers += [convolution(wanted, wanted, recipe.kernel, recipe, generator) for _ in range(count)]
    return Adapter(layers, final_relu=final_relu, size=_size(source, target))


def joinable(source: Shape, target: Shape) -> bool:
    """Whether an adapter can map features of shape `source` to `target`: both of a known kind and width.

    The source's tokens may be any number, but where a grid is made of them the number must be known.
    """
    if not all(len(shape) in (1, 2, 3) and _width(shape) is not None for shape in (source, target)):
        return False
    return alike(source, target) or len(source) != 2 or source[0] is not None


def alike(source: Shape, target: Shape) -> bool:
    """Whether both are features of one kind, tokens of one number: what layers of this kind alone join."""
    if len(source) != len(target):
        return False
    return len(source) != 2 or None in (source[0], target[0]) or source[0] == target[0]


def _width(shape: Shape) -> int | None:
    return shape[0] if len(shape) == 3 else shape[-1]


def _size(source: Shape, target: Shape) -> tuple[int, int] | None:
    """The size to resize to. A free size on the side of the task module takes what comes."""
    height, width = target[1:]
    if height is None or width is None or source[1:] == target[1:]:
        return None
    return height, width


def _known(size: int | None) -> int:
    if size is None:
        raise Misfit("an adapter needs the number of channels of both sides")
    return size
