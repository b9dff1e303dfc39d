"""Adapters from one kind of features to another: convolutional maps, tokens and vectors, and other numbers of tokens.

What lies between the kinds is a grid: a map is one, tokens are the cells of one (row by row, with at most one class token
before them), and a vector is made of, or into, a coarse one.

Shapes: N batch, C channels, H height, W width, T tokens, D features. A shape here leaves the batch out.
Source: ours. Class tokens stand first, as in Dosovitskiy et al. 2021.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.nn.layers import aside, convolution, linear
from graftery.spec.recipes import ADAPTER_GRID, ADAPTER_WEIGHTS, AdapterRecipe

Shape = tuple[int | None, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """How tokens lie: `extra` class tokens (0 or 1), then the cells of a grid, row by row."""

    extra: int
    size: Pair

    @property
    def tokens(self) -> int:
        return self.extra + self.size[0] * self.size[1]


def grid_of(tokens: int, like: Shape = ()) -> Grid:
    """The grid of so many tokens.

    Args:
        like: height and width of the other side's map, if there is one: the grid is that where it has as many cells.

    The grid is the other side's, or square; with one token more, that is a class token. Else it is the most nearly square
    one without a class token.
    """
    if len(like) == 2 and None not in like and (cells := math.prod(like)) in (tokens, tokens - 1):  # type: ignore[arg-type]
        return Grid(tokens - cells, (like[0], like[1]))  # type: ignore[arg-type]
    for extra in (0, 1):
        side = math.isqrt(tokens - extra)
        if side and side**2 == tokens - extra:
            return Grid(extra, (side, side))
    height = next(each for each in range(math.isqrt(tokens), 0, -1) if tokens % each == 0)
    return Grid(0, (height, tokens // height))


def crossing(source: Shape, target: Shape, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    """The adapter between features of different kinds, or from tokens to another number of tokens.

    `recipe.layers` counts convolutions and linear layers; a projection of channels, and what makes, spreads or adds a class
    token, is not counted. ReLU stands between them, and after the last where the recipe says so.

    Args:
        source: every size that matters is known; a map's height and width may be free.
        target: a free number of tokens, height or width takes what comes.
    """
    make = _Crossing(recipe, generator)
    steps = {
        (3, 2): make.map_to_tokens,
        (2, 3): make.tokens_to_map,
        (2, 2): make.tokens_to_tokens,
        (3, 1): make.map_to_vector,
        (2, 1): make.tokens_to_vector,
        (1, 3): make.vector_to_map,
        (1, 2): make.vector_to_tokens,
    }[len(source), len(target)](source, target)
    return nn.Sequential(*steps, *([nn.ReLU()] if recipe.final_relu else []))


class MapToTokens(nn.Module):
    """[N, C, H, W] to [N, T, C]. With `head` the mean of the cells goes through it and stands first, as a class token."""

    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return tokens if self.head is None else torch.cat([self.head(tokens.mean(1, keepdim=True)), tokens], 1)


class TokensToMap(nn.Module):
    """[N, T, D] to [N, D, H, W]. With `head` the first token is a class token: it goes through it, and to every cell."""

    def __init__(self, size: Pair, head: nn.Module | None = None) -> None:
        super().__init__()
        self.size = size
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        if self.head is not None:
            x = x[:, 1:] + self.head(x[:, :1])
        return torch.unflatten(x.transpose(1, 2), 2, self.size)


class Resize(nn.Module):
    """[N, C, H, W] to another height and width, bilinear."""

    def __init__(self, size: Pair) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


class Regrid(nn.Module):
    """[N, T, D] to another number of tokens: the cells are resized, class tokens stay as they are."""

    def __init__(self, source: Grid, target: Grid) -> None:
        super().__init__()
        self.cells = nn.Sequential(TokensToMap(source.size), Resize(target.size), MapToTokens())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], self.cells(x[:, 1:])], 1)


class Coarse(nn.Module):
    """[N, T, D] to [N, T', D]: the cells are averaged over a coarse grid, a class token stays."""

    def __init__(self, source: Grid, size: Pair) -> None:
        super().__init__()
        self.extra = source.extra
        self.cells = nn.Sequential(TokensToMap(source.size), nn.AdaptiveAvgPool2d(size), MapToTokens())

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :1], self.cells(x[:, 1:])], 1) if self.extra else self.cells(x)


class _Crossing:
    """The steps of each crossing."""

    def __init__(self, recipe: AdapterRecipe, generator: torch.Generator) -> None:
        self.recipe, self.generator = recipe, generator
        self.count = recipe.layers or 1

    def map_to_tokens(self, source: Shape, target: Shape) -> list[nn.Module]:
        (channels, *size), (tokens, width) = source, target
        grid = None if tokens is None else grid_of(tokens, tuple(size))
        projection = self._projection(channels, width)
        steps = _with_relus([self._convolution(width, width) for _ in range(self.count)])
        if grid is not None and tuple(size) != grid.size:
            steps.append(Resize(grid.size))
        return [
            *projection,
            *steps,
            MapToTokens(self._linear(width, width) if grid is not None and grid.extra else None),
        ]

    def tokens_to_map(self, source: Shape, target: Shape) -> list[nn.Module]:
        (tokens, width), (channels, *size) = source, target
        grid = grid_of(_int(tokens), tuple(size))
        tokens_first = [TokensToMap(grid.size, self._aside(width, grid)), *self._projection(width, channels)]
        layers = [self._convolution(channels, channels) for _ in range(self.count)]
        return [*tokens_first, *_with_relus(layers), *_resized(grid.size, size)]

    def tokens_to_tokens(self, source: Shape, target: Shape) -> list[nn.Module]:
        (tokens, width), (wanted, out) = source, target
        ours, theirs = grid_of(_int(tokens)), grid_of(_int(wanted))
        if ours.extra and theirs.extra:
            moved: list[nn.Module] = [Regrid(ours, theirs)]
        else:
            head = self._linear(width, width) if theirs.extra else None
            cells = TokensToMap(ours.size, self._aside(width, ours))
            moved = [cells, *_resized(ours.size, theirs.size), MapToTokens(head)]
        widths = [width, *[out] * self.count]
        return [*moved, *_with_relus([self._linear(a, b) for a, b in pairwise(widths)])]

    def map_to_vector(self, source: Shape, target: Shape) -> list[nn.Module]:
        (channels, *size), (width,) = source, target
        coarse = _coarse(tuple(size), _int(channels) * _int(width))
        layers = [self._convolution(channels, channels) for _ in range(self.count - 1)]
        pool = [] if tuple(size) == coarse else [nn.AdaptiveAvgPool2d(coarse)]
        last = self._linear(_int(channels) * math.prod(coarse), width)
        return [*_with_relus(layers, last=True), *pool, nn.Flatten(), last]

    def tokens_to_vector(self, source: Shape, target: Shape) -> list[nn.Module]:
        (tokens, width), (out,) = source, target
        grid = grid_of(_int(tokens))
        coarse = _coarse(grid.size, _int(width) * _int(out))
        layers = [self._linear(width, width) for _ in range(self.count - 1)]
        pool = [] if grid.size == coarse else [Coarse(grid, coarse)]
        last = self._linear(_int(width) * Grid(grid.extra, coarse).tokens, out)
        return [*_with_relus(layers, last=True), *pool, nn.Flatten(), last]

    def vector_to_map(self, source: Shape, target: Shape) -> list[nn.Module]:
        (width,), (channels, *size) = source, target
        coarse = _coarse(tuple(size), _int(channels) * _int(width))
        first = self._linear(width, _int(channels) * math.prod(coarse))
        layers = [self._convolution(channels, channels) for _ in range(self.count - 1)]
        return [
            first,
            nn.Unflatten(1, (_int(channels), *coarse)),
            *_with_relus(layers, first=True),
            *_resized(coarse, size),
        ]

    def vector_to_tokens(self, source: Shape, target: Shape) -> list[nn.Module]:
        (width,), (tokens, out) = source, target
        grid = Grid(0, (ADAPTER_GRID, ADAPTER_GRID)) if tokens is None else grid_of(tokens)
        coarse = Grid(grid.extra, _coarse(grid.size, _int(out) * _int(width)))
        first = self._linear(width, coarse.tokens * _int(out))
        layers = [self._linear(out, out) for _ in range(self.count - 1)]
        spread: list[nn.Module] = []
        if coarse != grid:
            cells = [TokensToMap(coarse.size), Resize(grid.size), MapToTokens()]
            spread = [Regrid(coarse, grid)] if grid.extra else cells
        return [first, nn.Unflatten(1, (coarse.tokens, _int(out))), *_with_relus(layers, first=True), *spread]

    def _linear(self, source: int | None, target: int | None) -> nn.Module:
        return linear(_int(source), _int(target), self.recipe, self.generator)

    def _convolution(self, source: int | None, target: int | None, kernel: int | None = None) -> nn.Module:
        return convolution(_int(source), _int(target), kernel or self.recipe.kernel, self.recipe, self.generator)

    def _projection(self, source: int | None, target: int | None) -> list[nn.Module]:
        """No ReLU follows it: features of tokens have both signs."""
        return [] if source == target else [self._convolution(source, target, 1)]

    def _aside(self, width: int | None, grid: Grid) -> nn.Module | None:
        return aside(_int(width), self.recipe, self.generator) if grid.extra else None


def _int(size: int | None) -> int:
    assert size is not None  # noqa: S101  for the type checker; `joinable` has seen to it
    return size


def _with_relus(layers: list[nn.Module], *, first: bool = False, last: bool = False) -> list[nn.Module]:
    """The layers with ReLU between them; also before the first or after the last of them."""
    steps = [step for layer in layers for step in (nn.ReLU(), layer)]
    steps = steps if first else steps[1:]
    return [*steps, nn.ReLU()] if last and layers else steps


def _resized(size: Pair, wanted: list[int | None] | Pair) -> list[nn.Module]:
    """The step to the size that is wanted, if one is needed; a free one takes what comes."""
    height, width = wanted
    return [] if height is None or width is None or size == (height, width) else [Resize((height, width))]


def _coarse(size: Shape, weights: int) -> Pair:
    """The coarse grid between a vector and a grid of this size: so small that the linear layer stays small.

    Args:
        weights: of the layer, for each cell.
    """
    side = ADAPTER_GRID
    while side > 1 and side**2 * weights > ADAPTER_WEIGHTS:
        side //= 2
    height, width = (side if each is None else min(each, side) for each in size)
    return height, width
