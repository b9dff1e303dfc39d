"""What squared errors are measured in: outputs of a regression or a feature count the same, in whatever unit each is told.

Source: ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.spec.manifest import Semantics
from graftery.spec.recipes import WATCHED_IMAGES
from graftery.transplant.objectives import UNBOUND, spread
from graftery.transplant.sources import Batch


@dataclass(frozen=True)
class Units:
    """The `spread` of the labels, and that of gT's outputs; None where nothing is measured so.

    Fixed for a training: one of each batch would weigh the outputs by chance.
    """

    labels: Tensor | None = None
    teacher: Tensor | None = None

    @classmethod
    def of(
        cls, semantics: Semantics, labels: Tensor | None, teacher: nn.Module | None, batches: Callable[[int], Batch]
    ) -> Units:
        """Units of all labels that are there, and of gT's outputs on the first few batches."""
        if semantics not in UNBOUND:
            return cls()
        # On the device at once: no step is to wait for it.
        measured = None if labels is None else spread(labels.double()).float().to(batches(0).features.device)
        return cls(measured, None if teacher is None else spread(_outputs(teacher, batches)))


@torch.no_grad()
def _outputs(teacher: nn.Module, batches: Callable[[int], Batch]) -> Tensor:
    made: list[Tensor] = []
    while sum(len(each) for each in made) < WATCHED_IMAGES:
        batch = batches(len(made))
        made.append(teacher(batch.features) if batch.teacher is None else batch.teacher)
    return torch.cat(made)
