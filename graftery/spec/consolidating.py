"""What a consolidation did to each cell, and which cells are worse for it. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from graftery.spec.manifest import Frozen, Semantics
from graftery.spec.recipes import Objective, Source

Shared = Literal["task", "category"]
"""The kind of the module that learns on."""
HEADLINE: dict[Semantics, str] = {"classification": "balanced_accuracy", "segmentation": "iou", "regression": "r2"}
"""The metric by which a cell is judged."""
MOST_CELLS = 21
"""The parents of a module are at most 64: itself, and three of each cell."""


class Standing(Frozen):
    """How good a cell is, before or after."""

    explained: float = Field(
        description="Share of what its target says of held-out inputs that it says, too; at most 1"
    )
    agreement: float | None = Field(
        None, description="Cohen's kappa with its target on fresh noise; classification only"
    )
    metrics: dict[str, float] | None = Field(None, description="On the samples to measure on")
    intervals: dict[str, tuple[float, float]] | None = Field(None, description="Of these metrics")


class CellReport(Frozen):
    """A cell before and after. Its target is its teacher, or, where it has none, what it was before."""

    cell: str
    semantics: Semantics
    anchored: bool = Field(description="It has no teacher")
    sources: tuple[Source, ...]
    objectives: dict[Objective, float]
    labels: int
    before: Standing
    after: Standing
    teacher: dict[str, float] | None = Field(None, description="The teacher's metrics on the samples to measure on")
    difference: dict[str, tuple[float, float]] | None = Field(
        None, description="Intervals of after minus before, paired"
    )


class Worse(Frozen):
    """A cell that lost more than was allowed."""

    cell: str
    figure: str = Field(description="What it is judged by: the name of a metric, agreement or explained")
    before: float
    after: float
    points: float = Field(description="That it lost; a point is a hundredth")


def worse_than(reports: Iterable[CellReport], points: float) -> list[Worse]:
    """The cells that are worse by more than so many points, the worst first.

    A cell is judged by the headline metric of what its output means, where it was measured before and after; else by its
    agreement on noise; else by the share that it explains of what its target says.

    Args:
        points: at least 0; hundredths of the figure.
    """
    found = [_lost(report) for report in reports]
    return sorted((each for each in found if each.points > points), key=lambda each: -each.points)


def _lost(report: CellReport) -> Worse:
    figure, before, after = _judged(report)
    # Rounded far below what can be measured, so that a loss of exactly so many points is not more.
    return Worse(cell=report.cell, figure=figure, before=before, after=after, points=round(100 * (before - after), 9))


def _judged(report: CellReport) -> tuple[str, float, float]:
    name, before, after = HEADLINE.get(report.semantics, ""), report.before, report.after
    if before.metrics and after.metrics and name in before.metrics and name in after.metrics:
        return name, before.metrics[name], after.metrics[name]
    if before.agreement is not None and after.agreement is not None:
        return "agreement", before.agreement, after.agreement
    return "explained", before.explained, after.explained
