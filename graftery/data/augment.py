"""Light augmentation: random shifts and flips that keep an image's content.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graftery.data.placing import onto
from graftery.spec.recipes import AugmentRecipe


def shift(images_BCHW: Tensor, offsets_B2: Tensor) -> Tensor:
    """Each image moved by its own number of rows and columns; what comes in repeats the border. Differentiable."""
    _, _, height, width = images_BCHW.shape
    rows_BH = (torch.arange(height) - offsets_B2[:, :1]).clamp(0, height - 1)
    columns_BW = (torch.arange(width) - offsets_B2[:, 1:]).clamp(0, width - 1)
    rows_BH, columns_BW = (onto(each, images_BCHW.device) for each in (rows_BH, columns_BW))
    batch_B = torch.arange(len(images_BCHW), device=images_BCHW.device)
    return images_BCHW[batch_B[:, None, None], :, rows_BH[:, :, None], columns_BW[:, None, :]].permute(0, 3, 1, 2)


def augment(images_BCHW: Tensor, recipe: AugmentRecipe, generator: torch.Generator) -> Tensor:
    """Random shifts of up to `recipe.shift` pixels and, where allowed, left-right flips; other inputs as they are."""
    if images_BCHW.ndim != 4:
        return images_BCHW
    batch = len(images_BCHW)
    if recipe.shift:
        offsets_B2 = torch.randint(-recipe.shift, recipe.shift + 1, (batch, 2), generator=generator)
        images_BCHW = shift(images_BCHW, offsets_B2)
    if recipe.flip:
        flipped_B = onto(torch.rand(batch, generator=generator) < 0.5, images_BCHW.device)
        images_BCHW = torch.where(flipped_B.view(batch, 1, 1, 1), images_BCHW.flip(3), images_BCHW)
    return images_BCHW
