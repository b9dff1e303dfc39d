"""What is watched while an adapter learns: does the student still come nearer to the teacher?

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from graftery.nn.pieces import in_pieces
from graftery.spec.manifest import Semantics
from graftery.transplant.nets import Nets
from graftery.transplant.objectives import UNBOUND, spread, squared_error


def watch(nets: Nets, adapter: nn.Module, features: Tensor, semantics: Semantics) -> Callable[[], float] | None:
    """A score of the adapter as it is: the share of the variance of gT's outputs that the student's explain.

    Logits are of one unit, and the share is of all of them; of a regression or a feature it is the mean of the outputs' shares.

    It moves with every output, where the kappa of two decisions jumps with those near the threshold.

    Args:
        nets: f, gS, gT.
        adapter: h, still learning.
        features: [n, ...], n at least 2, fresh: the adapter does not learn from them.
        semantics: what the output means.

    Returns:
        A function whose value is at most 1, and 1 where student and teacher are the same; None without gT.
    """
    if nets.teacher is None:
        return None
    with torch.no_grad():
        wanted = in_pieces(nets.teacher, features)
        pooled = (wanted - wanted.mean(0)).square().mean().clamp_min(1e-12)
        unit = spread(wanted) if semantics in UNBOUND else pooled
    student = nn.Sequential(adapter, nets.task)

    @torch.no_grad()
    def score() -> float:
        return float(1 - squared_error(in_pieces(student, features), wanted, unit))

    return score
