"""How tensors lie in memory, and in which precision gS and h are run while h learns, and all nets in an inversion.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graftery.nn import layout
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.nets import Nets


def laid_out(nets: Nets, adapter: nn.Module, inputs: Tensor) -> Tensor:
    """`graftery.nn.layout.laid_out` of frozen nets.

    Args:
        nets: f, gS and gT.
        adapter: an h for them.
        inputs: [N, ...] of f.

    Returns:
        f's features of the inputs, as they lie from now on.
    """
    features = nets.features(inputs)
    if features.ndim != layout.MAPS:
        return features
    lie = layout.laid_out(nets.all, lambda _: _run(nets, adapter, inputs))
    return features if lie == torch.contiguous_format else nets.features(inputs)


def _run(nets: Nets, adapter: nn.Module, inputs: Tensor) -> None:
    """Forward and backward through all of them once."""
    features = nets.category(inputs.clone().requires_grad_())
    outputs = [nets.task(adapter(features)), *([] if nets.teacher is None else [nets.teacher(features)])]
    torch.autograd.backward(torch.stack([output.sum() for output in outputs]).sum())


def fast(recipe: TransplantRecipe, device: torch.device) -> torch.autocast:
    """Inside, what tolerates it runs in the recipe's precision. Losses are made outside, from float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16")
