"""Randomness as a function of (seed, stream, step), so that a run that is resumed draws what an unbroken run drew."""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """A CPU generator that depends on nothing but its arguments.

    Args:
        seed: the recipe's seed.
        stream: what is drawn ("noise", "direction", ...): streams are independent of each other.
        step: the step that draws.
    """
    digest = hashlib.sha256(f"{seed}/{stream}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
