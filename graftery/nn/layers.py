"""Layers of adapters: near the identity at the start, drawn from the adapter's generator.

Source: ours; a start near the identity is what a transplant between nets of one family needs least steps from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftery.spec.recipes import ADAPTER_NOISE, AdapterRecipe


def convolution(source: int, target: int, kernel: int, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    """A convolution of `source` to `target` channels that keeps height and width."""
    layer = nn.Conv2d(source, target, kernel, padding=kernel // 2)
    noise = torch.randn(layer.weight.shape, generator=generator) * (_noise(recipe) / (source * kernel**2) ** 0.5)
    noise[:, :, kernel // 2, kernel // 2] += identity(target, source)
    return _set(layer, noise)


def linear(source: int, target: int, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    """A linear layer on the last dimension."""
    layer = nn.Linear(source, target)
    noise = torch.randn(layer.weight.shape, generator=generator) * (_noise(recipe) / source**0.5)
    return _set(layer, noise + identity(target, source))


def aside(width: int, recipe: AdapterRecipe, generator: torch.Generator) -> nn.Module:
    """A linear layer whose output is added to something else: near zero at the start."""
    layer = nn.Linear(width, width)
    return _set(layer, torch.randn(layer.weight.shape, generator=generator) * (_noise(recipe) / width**0.5))


def _noise(recipe: AdapterRecipe) -> float:
    return ADAPTER_NOISE if recipe.noise is None else recipe.noise


def _set(layer: nn.Conv2d | nn.Linear, weight: Tensor) -> nn.Module:
    layer.load_state_dict({"weight": weight, "bias": torch.zeros(len(weight))})
    return layer


def identity(rows: int, columns: int) -> Tensor:
    """The identity; with more rows it repeats, with more columns each row is a mean of several."""
    index_R, index_C = torch.arange(rows), torch.arange(columns)
    shared = min(rows, columns)
    match_RC = (index_R[:, None] % shared == index_C[None, :] % shared).float()
    return match_RC / match_RC.sum(1, keepdim=True)
