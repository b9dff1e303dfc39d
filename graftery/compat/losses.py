"""The loss terms of compatible components: pure functions of images, logits and labels.

Shapes: N batch, C channels, S side of a square image, K classes of a task, L common classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from graftery.module.meaning import TURNS

NOT_COMMON = -1
"""Common label of an image whose class is none of the common ones."""


def own(logits_NK: Tensor, labels_N: Tensor) -> Tensor:
    """A network's loss on its own task.

    Math: mean cross entropy; binary where K = 1.

    Returns:
        A scalar, at least 0, differentiable in the logits.

    Source: Gygli et al. 2021.
    """
    if logits_NK.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits_NK[:, 0], labels_N.to(logits_NK.dtype))
    return F.cross_entropy(logits_NK, labels_N)


def turned(images_NCSS: Tensor, turns_N: Tensor) -> Tensor:
    """Each image turned by its own number of quarter turns, counter-clockwise."""
    ways = torch.stack([torch.rot90(images_NCSS, turn, (2, 3)) for turn in range(TURNS)])
    return ways[turns_N, torch.arange(len(images_NCSS), device=images_NCSS.device)]


def rotation(logits_N4: Tensor, turns_N: Tensor) -> Tensor:
    """RP, rotation prediction: how far each image was turned, told by a head that all networks share.

    Math: mean cross entropy over the four turns.

    Source: Gygli et al. 2021; the pretext task after Gidaris et al. 2018.
    """
    return F.cross_entropy(logits_N4, turns_N)


def common(logits_NL: Tensor, common_N: Tensor) -> Tensor:
    """DCC, discriminating common classes: which common class each image shows, told by a head that all networks share.

    Math: mean cross entropy over the images that show one; 0 where none does.

    Args:
        common_N: index of the common class, NOT_COMMON for none.

    Source: Gygli et al. 2021.
    """
    known = (common_N != NOT_COMMON).sum().clamp_min(1)
    return F.cross_entropy(logits_NL, common_N, ignore_index=NOT_COMMON, reduction="sum") / known
