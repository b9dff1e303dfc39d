"""Mixed images: between the few images of a local set there is more to learn from.

    x = l a + (1 - l) b, l uniform from 0 to 1; a and b both of wanted or both of original classes

Their answer is that of the net that knows these classes: so a clone learns where the target's own classes are, and keeps what the source
knows of the wanted ones.

Source: mixup, Zhang et al. 2018; that the nets are asked instead of mixing labels is ours (docs/methods/cloning.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.cloning.local import OF_SOURCE, UNKNOWN, Balanced, Local
from graftery.data.streams import generator
from graftery.spec.cloning import CLONE_MIXES


def mixed(local: Local, each_step: int, seed: int) -> Local:
    """The views with mixed images behind them, if a step takes any: of original classes, then of wanted ones."""
    if not each_step:
        return local
    count = min(CLONE_MIXES, len(local.y))
    made, labels = [local.x], [local.y]
    for kind, rows, label in (("original", local.original, UNKNOWN), ("wanted", local.wanted, OF_SOURCE)):
        random = generator(seed, f"mixed.{kind}")
        one, other = rows[torch.randint(len(rows), (2, count), generator=random)]
        share = torch.rand(count, generator=random).view(-1, *[1] * (local.x.ndim - 1))
        made.append(share * local.x[one] + (1 - share) * local.x[other])
        labels.append(torch.full((count,), label))
    return Local(torch.cat(made), torch.cat(labels), local.known, 2 * count)


@dataclass(frozen=True)
class Mixing:
    """Rows of a step: a balanced batch, then so many of the mixed images, if there are any."""

    batch: Balanced
    local: Local
    count: int

    def __call__(self, stream: str, step: int) -> Tensor:
        rows = self.batch(stream, step)
        if not self.local.mixed:
            return rows
        random, end = generator(self.batch.seed, f"{stream}.mixed", step), len(self.local.y)
        more = torch.randint(end - self.local.mixed, end, (self.count,), generator=random)
        return torch.cat([rows, more])
