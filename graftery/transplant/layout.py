"""How tensors lie in memory, and in which precision gS and h are run while h learns, and all nets in an inversion.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftery.errors import lacks_memory
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.nets import Nets

MAPS = 4
"""Dimensions of feature maps [N, C, H, W]: only they can lie channels-last."""


def laid_out(nets: Nets, adapter: nn.Module, inputs: Tensor) -> Tensor:
    """Let convolutions find the channels of a pixel side by side, which is faster; in place. No value changes.

    A net that views its maps as if they lay the other way fails so; then all stay as they were.

    Args:
        nets: f, gS and gT.
        adapter: an h for them.
        inputs: [N, ...] of f.

    Returns:
        f's features of the inputs, as they lie from now on.
    """
    features = nets.features(inputs)
    if features.ndim != MAPS:
        return features
    _lie(nets, torch.channels_last)
    try:
        _run(nets, adapter, inputs)
    except RuntimeError as error:
        if lacks_memory(error):
            raise
        _lie(nets, torch.contiguous_format)
        return features
    return nets.features(inputs)


def lie_as(net: nn.Module, maps: Tensor) -> nn.Module:
    """The net's weights as these maps lie."""
    if maps.ndim == MAPS and maps.is_contiguous(memory_format=torch.channels_last):
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def _lie(nets: Nets, layout: torch.memory_format) -> None:
    for net in nets.all:
        net.to(memory_format=layout)  # type: ignore[call-overload]


def _run(nets: Nets, adapter: nn.Module, inputs: Tensor) -> None:
    """Forward and backward through all of them once."""
    features = nets.category(inputs.clone().requires_grad_())
    outputs = [nets.task(adapter(features)), *([] if nets.teacher is None else [nets.teacher(features)])]
    torch.autograd.backward(torch.stack([output.sum() for output in outputs]).sum())


def fast(recipe: TransplantRecipe, device: torch.device) -> torch.autocast:
    """Inside, what tolerates it runs in the recipe's precision. Losses are made outside, from float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16")
