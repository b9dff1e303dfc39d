"""Noise images: 1/f^a coloured noise under random textured discs. They are data of nobody.

Shapes: B images, C channels, H height, W width.
Source: ours; the paper asks for feature sources without data and leaves them open (docs/methods/transplant.md).
"""

from __future__ import annotations

import torch
from torch import Tensor

from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import NoiseRecipe


def coloured(shape: tuple[int, int, int, int], alpha_B: Tensor, generator: torch.Generator) -> Tensor:
    """Noise whose amplitude falls as 1/f^a, zero mean and unit variance in each image.

    Args:
        shape: B, C, H, W.
        alpha_B: the exponent a of each image; 0 is white.
    """
    batch, _, height, width = shape
    white_BCHW = torch.randn(shape, generator=generator)
    frequency_HW = torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None, :] ** 2
    frequency_HW = frequency_HW.sqrt().clamp_min(1 / max(height, width))
    gain_BHW = torch.pow(frequency_HW, -alpha_B.view(batch, 1, 1))
    noise_BCHW = torch.fft.irfft2(torch.fft.rfft2(white_BCHW) * gain_BHW[:, None], s=(height, width))
    flat_BN = noise_BCHW.flatten(1)
    mean_B, std_B = flat_BN.mean(1), flat_BN.std(1, correction=0).clamp_min(1e-6)
    scaled_BCHW: Tensor = (noise_BCHW - mean_B.view(batch, 1, 1, 1)) / std_B.view(batch, 1, 1, 1)
    return scaled_BCHW


def dead_leaves(shape: tuple[int, int, int, int], recipe: NoiseRecipe, generator: torch.Generator) -> Tensor:
    """Images [B, C, H, W] in [0, 1]: coloured noise, then one disc over the other, each with its own colour and texture."""
    batch = shape[0]
    alpha_B = _uniform((batch,), recipe.alpha_min, recipe.alpha_max, generator)
    texture_BCHW = coloured(shape, alpha_B, generator)
    images_BCHW = _shade(texture_BCHW, generator)
    for disc in range(recipe.discs):
        mask_B1HW = _disc(shape, generator)
        # The neighbour's texture: as good as a fresh one, and no further transform.
        images_BCHW = torch.where(mask_B1HW, _shade(texture_BCHW.roll(disc + 1, 0), generator), images_BCHW)
    return images_BCHW


def noise_images(
    shape: tuple[int, int, int, int],
    preprocessing: Preprocessing | None,
    recipe: NoiseRecipe,
    generator: torch.Generator,
) -> Tensor:
    """Dead leaves [B, C, H, W], normalised as the net's input; with no preprocessing known, to about zero mean and unit variance."""
    return normalise(dead_leaves(shape, recipe, generator), preprocessing)


def normalise(images_BCHW: Tensor, preprocessing: Preprocessing | None) -> Tensor:
    """Images in [0, 1] as the net's input: scaled to its value range, minus mean, over standard deviation."""
    low, high, mean_C, std_C = _scale(preprocessing, images_BCHW.shape[1])
    return (low + (high - low) * images_BCHW - mean_C[:, None, None]) / std_C[:, None, None]


def value_bounds(preprocessing: Preprocessing | None, channels: int) -> tuple[Tensor, Tensor]:
    """The least and the greatest value [C, 1, 1] that a real image has after preprocessing."""
    low, high, mean_C, std_C = _scale(preprocessing, channels)
    return ((low - mean_C) / std_C)[:, None, None], ((high - mean_C) / std_C)[:, None, None]


def _scale(preprocessing: Preprocessing | None, channels: int) -> tuple[float, float, Tensor, Tensor]:
    if preprocessing is None:
        # Of unknown inputs, that images in [0, 1] were centred and divided by a usual standard deviation.
        return 0.0, 1.0, torch.full((channels,), 0.5), torch.full((channels,), 0.25)
    mean_C, std_C = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
    return *preprocessing.value_range, mean_C.expand(channels), std_C.expand(channels)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=generator)


def _shade(texture_BCHW: Tensor, generator: torch.Generator) -> Tensor:
    """The texture with a random colour and contrast, within [0, 1]."""
    batch, channels = texture_BCHW.shape[:2]
    colour_BC11 = torch.rand((batch, channels, 1, 1), generator=generator)
    contrast_B111 = _uniform((batch, 1, 1, 1), 0.0, 0.3, generator)
    return (colour_BC11 + contrast_B111 * texture_BCHW).clamp(0, 1)


def _disc(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    """One disc an image: mask [B, 1, H, W]; small discs are more frequent than large ones."""
    batch, _, height, width = shape
    side = max(height, width)
    centre_2B = torch.rand((2, batch), generator=generator)
    radius_B = side * _uniform((batch,), 0.22, 0.7, generator) ** 2
    rows_BH = (torch.arange(height) - centre_2B[0, :, None] * height) ** 2
    columns_BW = (torch.arange(width) - centre_2B[1, :, None] * width) ** 2
    inside_BHW = rows_BH[:, :, None] + columns_BW[:, None, :] <= (radius_B**2).view(batch, 1, 1)
    return inside_BHW[:, None]
