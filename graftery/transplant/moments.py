"""Sketches of features: what a category's owner may ship so that others transplant it without images.

Shapes: n images, F the feature's elements, k principal directions, C channels.
Source: ours (docs/methods/transplant.md). No image leaves its owner; a sketch of a few images does tell about them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graftery.errors import RecipeRefused, SamplesRefused
from graftery.module import ModuleFile
from graftery.nn.pieces import in_pieces
from graftery.spec.recipes import SKETCH_DIRECTIONS, SKETCH_ELEMENTS
from graftery.transplant.crops import CROPS, crops_of


def sketch(category: ModuleFile, images: Tensor, *, crops: int = 0) -> dict[str, Tensor]:
    """The `sketch.*` tensors of f's features on the owner's images, to be put into the category's file.

    Args:
        category: f.
        images: [n, ...] preprocessed, n at least 2.
        crops: of feature maps, to go along; each of them tells of the part of an image that it was made from.

    Returns:
        `sketch.count` [1]; `sketch.mean` [...]; `sketch.directions` [k, ...], principal directions times their standard
        deviation; `sketch.residual` [C], standard deviation of what the directions leave; `sketch.low`, `sketch.high`
        [C], extremes of a channel. With crops, `sketch.crops` [R, C, h, w].

    Raises:
        SamplesRefused: fewer than 2 images; crops of features that are no maps.
    """
    if len(images) < 2:
        raise SamplesRefused("a sketch needs at least 2 images")
    features = in_pieces(category.net(), images)
    return sketch_of(features) | ({CROPS: crops_of(features, crops)} if crops else {})


def sketch_of(features: Tensor) -> dict[str, Tensor]:
    """The sketch of features [n, ...]."""
    mean = features.mean(0)
    centred_nF = (features - mean).flatten(1)
    most = min(SKETCH_DIRECTIONS, max(1, SKETCH_ELEMENTS // centred_nF.shape[1]), *centred_nF.shape)
    _, scale_k, direction_kF = torch.linalg.svd(centred_nF, full_matrices=False)
    scaled_kF = scale_k[:most, None] / (len(features) - 1) ** 0.5 * direction_kF[:most]
    rest = (centred_nF - centred_nF @ direction_kF[:most].T @ direction_kF[:most]).view_as(features)
    over = _over_channels(features)
    return {
        "sketch.count": torch.tensor([float(len(features))]),
        "sketch.mean": mean,
        "sketch.directions": scaled_kF.view(most, *mean.shape).contiguous(),
        "sketch.residual": rest.square().mean(over).sqrt(),
        "sketch.low": features.amin(over),
        "sketch.high": features.amax(over),
    }


def gaussian_features(tensors: Mapping[str, Tensor], count: int, directions: int, generator: torch.Generator) -> Tensor:
    """Gaussian features [count, ...] with the sketch's mean and covariance, within its extremes.

    Args:
        directions: principal directions that are drawn from; what the others have of a channel's variance is drawn for each element.

    Raises:
        RecipeRefused: the sketch lacks a tensor.
    """
    try:
        mean, stored = tensors["sketch.mean"], tensors["sketch.directions"]
        residual, low, high = (as_channels(tensors[f"sketch.{name}"], mean) for name in ("residual", "low", "high"))
    except KeyError as error:
        raise RecipeRefused(f"the category's sketch lacks {error}") from error
    scaled, left = stored[:directions], stored[directions:].square().sum(0)
    residual = (residual.square() + as_channels(left[None].mean(_over_channels(left[None])), mean)).sqrt()
    weights = torch.randn((count, len(scaled)), generator=generator).to(mean)
    spread = (weights @ scaled.flatten(1)).view(count, *mean.shape)
    rest = residual * torch.randn((count, *mean.shape), generator=generator).to(mean)
    return (mean + spread + rest).clamp(low, high)


def _over_channels(features: Tensor) -> list[int]:
    """All dimensions but the channels: the second of [n, C, H, W], else the last."""
    channel = 1 if features.ndim == 4 else features.ndim - 1
    return [dim for dim in range(features.ndim) if dim != channel]


def as_channels(values_C: Tensor, mean: Tensor) -> Tensor:
    """One value a channel, to be broadcast over a feature shaped like `mean`."""
    return values_C.view(-1, 1, 1) if mean.ndim == 3 else values_C
