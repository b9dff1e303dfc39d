"""How maps lie in memory while something learns. No value depends on it, but for rounding.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from graftery.errors import lacks_memory

MAPS = 4
"""Dimensions of maps [N, C, H, W] and of kernels: only they can lie channels-last."""


def laid_out(nets: Sequence[nn.Module], run: Callable[[torch.memory_format], object]) -> torch.memory_format:
    """Let convolutions find the channels of a pixel side by side, which is faster; in place.

    A net that views its maps as if they lay the other way fails so; then all stay as they were.

    Args:
        nets: whose weights are to lie so.
        run: through all of them; it gets how maps are to lie.

    Returns:
        How maps are to lie from now on.
    """
    _lie(nets, torch.channels_last)
    try:
        run(torch.channels_last)
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        _lie(nets, torch.contiguous_format)
        return torch.contiguous_format
    return torch.channels_last


def placed(value: Tensor, device: torch.device, layout: torch.memory_format) -> Tensor:
    """Maps or a kernel on the device, as they are to lie; anything else on the device."""
    return value.to(device, memory_format=layout) if value.ndim == MAPS else value.to(device)


def lie_as(net: nn.Module, maps: Tensor) -> nn.Module:
    """The net's weights as these maps lie."""
    if maps.ndim == MAPS and maps.is_contiguous(memory_format=torch.channels_last):
        _lie([net], torch.channels_last)
    return net


def _lie(nets: Sequence[nn.Module], layout: torch.memory_format) -> None:
    for net in nets:
        net.to(memory_format=layout)  # type: ignore[call-overload]
