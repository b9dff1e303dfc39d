"""How tensors lie in memory while networks of a group learn.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftery.compat.splitting import Split
from graftery.errors import lacks_memory

MAPS = 4
"""Dimensions of maps [N, C, H, W]: only they can lie channels-last."""


def laid_out(
    nets: Sequence[tuple[Split, Tensor]], shared: Mapping[str, nn.Module], device: torch.device
) -> torch.memory_format:
    """Let convolutions find the channels of a pixel side by side, which is faster; in place. No value changes.

    A net that views its maps as if they lay the other way fails so; then all stay as they were.

    Args:
        nets: each with images of its own.
        shared: heads on the features of all of them.

    Returns:
        How images are to lie.
    """
    every = [*(net.net for net, _ in nets), *shared.values()]
    try:
        _lie(every, torch.channels_last)
        with torch.no_grad():
            for net, images in nets:
                features = net.extractor(placed(images[:2].float(), device, torch.channels_last))
                for head in (net.head, *shared.values()):
                    head(features)
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        _lie(every, torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last


def placed(images: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    """Images on the device, as they are to lie."""
    if images.ndim != MAPS:
        return images.to(device)
    return images.to(device, memory_format=layout)


def _lie(nets: Sequence[nn.Module], layout: torch.memory_format) -> None:
    """In evaluation mode, in which nothing is noted of what goes through."""
    for net in nets:
        net.eval().to(memory_format=layout)  # type: ignore[call-overload]
