"""Shifted domains: what a camera, a lens or a negative makes of images [n, C, H, W] with values from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def colour(x: Tensor) -> Tensor:
    """Channels take each other's places, where there are several; less contrast, more light."""
    return 0.6 * x.roll(1, dims=1) + 0.3


def blur(x: Tensor) -> Tensor:
    """A Gaussian whose standard deviation is a fifteenth of the image's side."""
    channels, side = x.shape[1], x.shape[-1]
    deviation = side / 15
    reach = max(1, round(2 * deviation))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1.0) / deviation) ** 2)
    kernel = torch.outer(line, line) / line.sum() ** 2
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)


def inversion(x: Tensor) -> Tensor:
    """The negative."""
    return 1 - x


SHIFTS: dict[str, Callable[[Tensor], Tensor]] = {"colour": colour, "blur": blur, "inversion": inversion}
