"""Where accuracy is lost when a net knows new classes beside its old ones: among the classes of a kind, or between the kinds."""

from __future__ import annotations

import torch
from torch import Tensor


def border(logits: Tensor, y: Tensor, known: int) -> dict[str, float]:
    """Shares of images, 0 to 1. What is right is both among the right kind of classes and right among these.

    Args:
        logits: [n, K + k], old ones first.
        y: int64 [n], both kinds.
        known: K.

    Returns:
        `wanted_found` and `original_found`: images of which the greatest logit is of their own kind. `wanted_within` and
        `original_within`: right if only the logits of their own kind are looked at.
    """
    old, new = logits[:, :known], logits[:, known:]
    wanted, said_new = y >= known, new.amax(1) > old.amax(1)
    within = torch.where(wanted, known + new.argmax(1), old.argmax(1)) == y
    return {
        "wanted_found": _share(said_new[wanted]),
        "original_found": _share(~said_new[~wanted]),
        "wanted_within": _share(within[wanted]),
        "original_within": _share(within[~wanted]),
    }


def _share(values: Tensor) -> float:
    return values.float().mean().item()
