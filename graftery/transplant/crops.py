"""Crops of feature maps: what an owner may add to a sketch, for outputs that depend on where things are.

Shapes: n images, R crops, C channels, H, W of a whole map, h, w of a crop.
Source: ours (docs/methods/transplant.md). Crops tell more of the images than statistics: only an owner who asks for them ships them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from graftery.data.placing import onto
from graftery.data.streams import generator
from graftery.errors import RecipeRefused, SamplesRefused, lacks_memory
from graftery.spec.recipes import CROP_SHARE, SKETCH_ELEMENTS, TransplantRecipe

CROPS = "sketch.crops"


def crops_of(features: Tensor, count: int) -> Tensor:
    """Crops [R, C, h, w] at random places of random images, half of a map high and wide; float16, as they are many.

    Args:
        features: [n, C, H, W].
        count: R, or less where they would be more than a sketch's numbers.

    Raises:
        SamplesRefused: features that are no maps.
    """
    if features.ndim != 4:
        raise SamplesRefused("crops are of feature maps [n, C, H, W]", hint="make the sketch without crops")
    images, channels, *size = features.shape
    height, width = (max(1, round(side * CROP_SHARE)) for side in size)
    count = min(count, max(1, SKETCH_ELEMENTS // (channels * height * width)))
    random = generator(0, "sketch.crops")
    of, top, left = (
        torch.randint(most, (count,), generator=random).tolist()
        for most in (images, size[0] - height + 1, size[1] - width + 1)
    )
    cut = [features[i, :, y : y + height, x : x + width] for i, y, x in zip(of, top, left, strict=True)]
    return torch.stack(cut).to(torch.float16)


def mirrored(crops: Tensor, size: tuple[int, int]) -> Tensor:
    """Crops [R, C, h, w] as whole maps [R, C, *size], continued by their mirror images: there are no seams."""
    for dim, wanted in zip((2, 3), size, strict=True):
        while crops.shape[dim] < wanted:
            crops = torch.cat([crops, crops.flip(dim)], dim)
        crops = crops.narrow(dim, 0, wanted)
    return crops


def shape_of(net: Callable[[Tensor], Tensor], maps: Tensor) -> tuple[int, ...] | None:
    """The shape of a net's output; None where it does not run on maps of this height and width, as an operator names another.

    Args:
        net: of feature maps.
        maps: [n, C, H, W].
    """
    try:
        with torch.no_grad():
            return tuple(net(maps).shape)
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        return None


def whole_size(
    tensors: Mapping[str, Tensor], like: Tensor, alone: Sequence[nn.Module] | None
) -> tuple[int, int] | None:
    """What crops are continued to; None: nothing stands beside them, and student and teacher take them as they are.

    Args:
        tensors: of a sketch with crops.
        like: whole maps [n, C, H, W].
        alone: the nets that run on crops and nothing else, whose outputs are compared; None: something stands beside the crops.
    """
    if alone is not None:
        crops = onto(tensors[CROPS][:2].float(), like.device)
        # A student whose adapter resizes to one size takes crops as well, but answers for a whole map.
        outputs = {shape_of(net, crops) for net in alone}
        if len(outputs) == 1 and None not in outputs:
            return None
    return like.shape[2], like.shape[3]


def from_crops(
    tensors: Mapping[str, Tensor], size: tuple[int, int] | None, recipe: TransplantRecipe, device: torch.device
) -> Callable[[int, int], tuple[Tensor, None]]:
    """Crops drawn with replacement, as they are or (`size`) as whole maps.

    Raises:
        RecipeRefused: the sketch has none.
    """
    if CROPS not in tensors:
        raise RecipeRefused("the category's sketch has no crops")
    crops = tensors[CROPS].float()

    def draw(step: int, count: int) -> tuple[Tensor, None]:
        rows = torch.randint(len(crops), (count,), generator=generator(recipe.seed, "crops", step))
        return onto(crops[rows] if size is None else mirrored(crops[rows], size), device), None

    return draw
