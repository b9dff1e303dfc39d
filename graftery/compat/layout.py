"""How images and weights lie in memory while networks of a group learn.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from graftery.compat.splitting import Split
from graftery.nn import layout


def laid_out(
    nets: Sequence[tuple[Split, Tensor]], shared: Mapping[str, nn.Module], device: torch.device
) -> torch.memory_format:
    """`graftery.nn.layout.laid_out` of all that learns, in evaluation mode, in which nothing is noted of what goes through.

    Args:
        nets: each with images of its own.
        shared: heads on the features of all of them.

    Returns:
        How images are to lie.
    """
    every = [*(net.net for net, _ in nets), *shared.values()]
    for each in every:
        each.eval()

    @torch.no_grad()
    def run(lie: torch.memory_format) -> None:
        for net, images in nets:
            features = net.extractor(layout.placed(images[:2].float(), device, lie))
            for head in (net.head, *shared.values()):
                head(features)

    return layout.laid_out(every, run)
