"""Freezing, and the proof that what was frozen did not change by one bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from graftery.errors import TrainingFailed


def freeze(net: nn.Module) -> nn.Module:
    """Evaluation mode and no gradient for any parameter, in place."""
    return net.eval().requires_grad_(False)


def state_digest(*nets: nn.Module) -> str:
    """sha256 over the names, dtypes, shapes and bits of all parameters and buffers, in the order of their names."""
    digest = hashlib.sha256()
    for net in nets:
        for name, value in sorted(chain(net.named_parameters(), net.named_buffers())):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def unchanged(*nets: nn.Module) -> Iterator[None]:
    """Fail if a bit of the nets changes inside the block.

    Raises:
        TrainingFailed: `frozen_changed`.
    """
    before = [state_digest(net) for net in nets]
    yield
    changed = [index for index, net in enumerate(nets) if state_digest(net) != before[index]]
    if changed:
        raise TrainingFailed(f"the frozen nets number {changed} changed during the training", code="frozen_changed")
