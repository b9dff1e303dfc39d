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


def make_adapter(source: Shape, target: Shape, recipe: AdapterRecipe, generator: torch.Generator) -> Adapter:
    """The adapter from features of shape `source` to features of shape `target`.

    Convolutional features [C, H, W]: a 1x1 projection where C differs, then `recipe.layers` convolutions, then a
    resize where H, W differ. Vectors [D] and tokens [T, D]: linear layers, the first of which projects.

    Raises:
        Misfit: `shape_mismatch`; other ranks, other numbers of tokens.
    """
    if not joinable(source, target):
        raise Misfit(f"no adapter joins features {list(source)} and {list(target)}")
    count, final_relu = recipe.layers or 1, bool(recipe.final_relu)
    if len(source) != 3:
        width = _known(target[-1])
        widths = [_known(source[-1]), *[width] * count]
        linear = [_linear(a, b, recipe, generator) for a, b in pairwise(widths)]
        return Adapter(linear, final_relu=final_relu)
    channels, wanted = _known(source[0]), _known(target[0])
    layers = [] if channels == wanted else [_convolution(channels, wanted, 1, recipe, generator)]
    layers += [_convolution(wanted, wanted, recipe.kernel, recipe, generator) for _ in range(count)]
    return Adapter(layers, final_relu=final_relu, size=_size(source, target))


def joinable(source: Shape, target: Shape) -> bool:
    """Whether an adapter can map features of shape `source` to `target`."""
    if len(source) != len(target) or len(source) not in (1, 2, 3):
        return False
    return len(source) != 2 or None in (source[0], target[0]) or source[0] == target[0]


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


def _convolution(source: int, target: int, kernel: int, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    layer = nn.Conv2d(source, target, kernel, padding=kernel // 2)
    noise = torch.randn(layer.weight.shape, generator=generator) * (recipe.noise / (source * kernel**2) ** 0.5)
    noise[:, :, kernel // 2, kernel // 2] += _identity(target, source)
    return _set(layer, noise)


def _linear(source: int, target: int, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    layer = nn.Linear(source, target)
    noise = torch.randn(layer.weight.shape, generator=generator) * (recipe.noise / source**0.5)
    return _set(layer, noise + _identity(target, source))


def _set(layer: nn.Conv2d | nn.Linear, weight: Tensor) -> nn.Module:
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight))})
    return layer


def _identity(rows: int, columns: int) -> Tensor:
    """The identity; with more rows it repeats, with more columns each row is a mean of several."""
    index_R, index_C = torch.arange(rows), torch.arange(columns)
    shared = min(rows, columns)
    match_RC = (index_R[:, None] % shared == index_C[None, :] % shared).float()
    return match_RC / match_RC.sum(1, keepdim=True)
