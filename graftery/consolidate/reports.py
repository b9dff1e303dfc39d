"""Each cell before and after, as it would be served: from files, through f, h and gS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from graftery.consolidate.cells import Cell
from graftery.nn.pieces import in_pieces
from graftery.spec.consolidating import CellReport, Standing
from graftery.spec.recipes import AGREEMENT_IMAGES, TransplantRecipe
from graftery.transplant import metrics
from graftery.transplant.evaluation import judge
from graftery.transplant.nets import Composed, compose
from graftery.transplant.sources import Noise


@dataclass(frozen=True)
class Explained:
    """The share that a cell explained of what its target says, before, and explains now."""

    before: float
    after: float


def report(
    before: Cell, after: Cell, recipe: TransplantRecipe, explained: Explained, device: torch.device
) -> CellReport:
    """What became of a cell.

    Args:
        before, after: the cell with its modules as they were, and as they are.
        recipe: the cell's own, complete.
    """
    teacher = before.teacher_task
    nets: dict[str, nn.Module | None] = {
        "before": compose(before.category, before.adapter, before.task).to(device),
        "after": compose(after.category, after.adapter, after.task).to(device),
        "teacher": None if teacher is None else Composed(before.category.net(), None, teacher.net()).to(device),
    }
    given, found = before.given, dict[str, Any]()
    if given.evaluate_on is not None:
        pair = ("after", "before")
        found = judge(nets, given.evaluate_on, given.meaning, seed=recipe.seed, device=device, pair=pair)
    agreed = _agreements(nets, before, recipe, device) if given.meaning.semantics == "classification" else {}
    return CellReport(
        cell=before.name,
        semantics=given.meaning.semantics,
        anchored=teacher is None,
        sources=recipe.sources,
        objectives=recipe.objectives,
        labels=recipe.labels or 0,
        before=_standing("before", explained.before, agreed, found),
        after=_standing("after", explained.after, agreed, found),
        teacher=found.get("teacher"),
        difference=found.get("after_minus_before_interval"),
    )


def _standing(when: str, explained: float, agreed: Mapping[str, float | None], found: Mapping[str, Any]) -> Standing:
    return Standing(
        explained=explained,
        agreement=agreed.get(when),
        metrics=found.get(when),
        intervals=found.get(f"{when}_interval"),
    )


@torch.no_grad()
def _agreements(
    nets: Mapping[str, nn.Module | None], cell: Cell, recipe: TransplantRecipe, device: torch.device
) -> dict[str, float | None]:
    """Cohen's kappa with the target on fresh noise, before and after; None where the target decides (nearly) all of it alike."""
    noise = Noise(cell.given.input_shape(), cell.category.manifest.preprocessing, recipe)
    images = noise(AGREEMENT_IMAGES, "agreement")

    def decided(net: nn.Module) -> Tensor:
        return in_pieces(lambda chunk: metrics.decide(net(chunk.to(device))).cpu(), images)

    said = {name: decided(net) for name, net in nets.items() if net is not None}
    wanted = said.get("teacher", said["before"])
    return {name: metrics.kappa(said[name], wanted) for name in ("before", "after")}
