"""What is watched while an adapter learns: does the student still come nearer to the teacher?

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graftery.transplant.nets import Nets


def watch(nets: Nets, adapter: nn.Module, features: Tensor) -> Callable[[], float] | None:
    """A score of the adapter as it is: the share of the variance of gT's outputs that the student's explain.

    It moves with every output, where the kappa of two decisions jumps with those near the threshold.

    Args:
        nets: f, gS, gT.
        adapter: h, still learning.
        features: [n, ...], n at least 2, fresh: the adapter does not learn from them.

    Returns:
        A function whose value is at most 1, and 1 where student and teacher are the same; None without gT.
    """
    if nets.teacher is None:
        return None
    with torch.no_grad():
        wanted = nets.teacher(features)
        variance = (wanted - wanted.mean(0)).square().mean().clamp_min(1e-12)
    task = nets.task

    @torch.no_grad()
    def score() -> float:
        return float(1 - (task(adapter(features)) - wanted).square().mean() / variance)

    return score
