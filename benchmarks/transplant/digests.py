"""Digests of what a net or a cell depends on: two that are equal were made alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

LENGTH = 16
"""Hex digits that are kept."""


def digest(*facts: Any) -> str:
    """Of facts that are JSON."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:LENGTH]


def architecture(make: Callable[[], nn.Module]) -> str:
    """Of a net's layers and their sizes, whatever their weights are."""
    with torch.device("meta"):  # no weights, and no random numbers taken from anybody
        return digest(str(make()))
