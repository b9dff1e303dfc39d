"""A net on more rows than it should take at once, where nothing learns: what its layers hold of hundreds of images would not
fit into memory.

Shapes: N rows, which do not mix.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 64
"""At once, unless a caller knows that his rows are small."""


@torch.no_grad()
def in_pieces(net: Callable[[Tensor], Tensor], x: Tensor, rows: int = ROWS) -> Tensor:
    """net(x) [N, ...], without a graph."""
    return torch.cat([net(piece) for piece in torch.split(x, rows)])


@torch.no_grad()
def named_in_pieces(net: Callable[[Tensor], dict[str, Tensor]], x: Tensor, rows: int = ROWS) -> dict[str, Tensor]:
    """The outputs of net(x) by name, each [N, ...], without a graph."""
    made = [net(piece) for piece in torch.split(x, rows)]
    return {name: torch.cat([outputs[name] for outputs in made]) for name in made[0]}
