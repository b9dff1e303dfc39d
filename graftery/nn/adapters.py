"""Adapters: the small nets h between a category module and a task module, near-identity at the start.

Shapes: N batch, C channels, H height, W width, T tokens, D features. A shape here leaves the batch out.
Source: Zhang et al. 2018 keep h to one to three convolutions with ReLU; near-identity, projection and resize are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
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
Side = int | Fraction
"""Of a map: its height or width, or what part it is of the height or width that there is."""
SAME = (Fraction(1), Fraction(1))
"""Height and width stay what they are."""


class Adapter(nn.Module):
    """h: layers with ReLU between them; then, where sizes differ, a resize.

    Input [N, *source], output [N, *target]; rank 2 is [N, D], 3 is [N, T, D], 4 is [N, C, H, W].

    Args:
        size: height and width of the output; None: they stay what they are.
    """

    def __init__(self, layers: Sequence[nn.Module], *, final_relu: bool, size: tuple[Side, Side] | None = None) -> None:
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
        size = [_side(had, wanted) for had, wanted in zip(x.shape[2:], self.size, strict=True)]
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _side(had: int, wanted: Side) -> int:
    """A height or width; a part is rounded up. In whole numbers: a factor as a float is off at some sizes."""
    if isinstance(wanted, int):
        return wanted
    times, parts = wanted.as_integer_ratio()
    return had * times if parts == 1 else (had * times + parts - 1) // parts


def make_adapter(
    source: Shape,
    target: Shape,
    recipe: AdapterRecipe,
    generator: torch.Generator,
    ratio: tuple[Fraction, Fraction] = SAME,
) -> nn.Module:
    """The adapter from features of shape `source` to features of shape `target`.

    Convolutional features [C, H, W]: a 1x1 projection where C differs, then `recipe.layers` convolutions, then a
    resize where H, W differ. Vectors [D] and tokens [T, D]: linear layers, the first of which projects. From one kind
    to another, and to another number of tokens: `graftery.nn.crossings`.

    Args:
        source, target: a size of `target` that is free takes what comes.
        ratio: between maps, of a height and width that are free in `target` to those that come.

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
    return Adapter(layers, final_relu=final_relu, size=_size(source, target, ratio))


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


def _size(source: Shape, target: Shape, ratio: tuple[Fraction, Fraction]) -> tuple[Side, Side] | None:
    """The height and width to resize to; None where both stay as they are."""
    stays = [
        part == 1 if wanted is None else wanted == had
        for had, wanted, part in zip(source[1:], target[1:], ratio, strict=True)
    ]
    height, width = (part if wanted is None else wanted for wanted, part in zip(target[1:], ratio, strict=True))
    return None if all(stays) else (height, width)


def _known(size: int | None) -> int:
    if size is None:
        raise Misfit("an adapter needs the number of channels of both sides")
    return size
