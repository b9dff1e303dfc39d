"""Noise that comes out of f as its training data did, channel by channel.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, fx

from graftery.data.placing import onto
from graftery.nn.pieces import ROWS
from graftery.spec.recipes import MATCHED_IMAGES
from graftery.transplant.opgraph import OwnStatistics
from graftery.transplant.sources import Noise


def matched_features(category: fx.GraphModule, noise: Noise, count: int, stream: str, step: int = 0) -> Tensor:
    """Features [count, ...] of noise, with f's batch norms on the noise's own statistics.

    Each channel then has the mean and variance that f's training data gave it, and gT sees positives and negatives about
    as often as there: through the stored statistics, noise gives features that gT has never seen.

    Args:
        category: f as a graph of operators; without batch norm its features are those of plain noise.
        noise: makes the inputs.
        count, stream, step: which; a function of these only.
    """
    inputs = noise(max(count, MATCHED_IMAGES), stream, step)
    device = next((value.device for value in category.parameters()), inputs.device)
    net = OwnStatistics(category)
    with torch.no_grad():
        chunks = [net.run(onto(chunk, device)) for chunk in torch.tensor_split(inputs, -(-len(inputs) // ROWS))]
    return torch.cat(chunks)[:count]
