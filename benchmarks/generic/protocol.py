"""What is measured, fixed before anything is run on test images.

A generic net learns two categories; the other eight come one by one. Their order, and the first two, are dealt by the seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.transplant.worlds.cifar10 import CLASSES, SCHEDULE
from benchmarks.transplant.worlds.learning import Schedule
from graftery.data.streams import generator

SEEDS = (0, 1, 2)
"""Of nets, order and draws alike."""
TUNING_SEEDS = (100,)
"""Whose validation images may choose consolidation's recipe: none of them is reported. A seed's nets take hours."""
FIRST = 2
"""Categories that the generic net is trained with."""
TASK = "is"
DEPTH = "middle"
METRIC = "accuracy"

TEACHERS, GROWN, CONSOLIDATED, JOINT = "teachers", "transplants", "consolidated", "joint training"
CONSOLIDATED_IMAGES = "consolidated, unlabelled images"
"""Came in after the other rows were measured, to see what stands in the way of them; nothing is judged by it."""
CONSOLIDATIONS = (CONSOLIDATED, CONSOLIDATED_IMAGES)
SEQUENTIAL_ALL, SEQUENTIAL_FEW = "fine-tuning, all labels", "fine-tuning, 100 labels"
LABELS: dict[str, int | None] = {SEQUENTIAL_ALL: None, SEQUENTIAL_FEW: 100}
"""Labelled images of the new category, half of them positive; None: all training images."""
ROWS = (TEACHERS, GROWN, *CONSOLIDATIONS, SEQUENTIAL_ALL, SEQUENTIAL_FEW, JOINT)
STEPWISE = (GROWN, *LABELS)
"""Rows that are measured after each category; the others once, over all."""
FINE_TUNING = Schedule(steps=SCHEDULE.steps // 8, batch=SCHEDULE.batch, learning_rate=SCHEDULE.learning_rate / 4)
"""Of a new category's f and of gS: both begin as a transplant has them, and learn for an eighth of a teacher's steps at a quarter of its rate."""
PROBED = 64
"""Test images of each cell whose outputs are compared to the bit after each later step."""

WITHIN_POINTS = 1.5
WON_BACK = 0.5


@dataclass(frozen=True)
class Cell:
    """A row for a seed after so many categories."""

    row: str
    seed: int
    count: int

    @property
    def key(self) -> str:
        return f"{self.seed}/{self.row}/{self.count}"

    @property
    def where(self) -> dict[str, Any]:
        return {"row": self.row, "seed": self.seed, "count": self.count}


def dealt(seed: int, count: int = len(CLASSES)) -> tuple[str, ...]:
    """The categories in the order of this seed; the first two are the generic net's."""
    order = torch.randperm(len(CLASSES), generator=generator(seed, "benchmark.generic.order")).tolist()
    return tuple(CLASSES[index] for index in order[:count])


def cells(seeds: Sequence[int] = SEEDS, count: int = len(CLASSES)) -> Iterator[Cell]:
    """All cells in order, seed by seed; what takes longest comes last."""
    for seed in seeds:
        for row in ROWS:
            counts = range(FIRST, count + 1) if row in STEPWISE else [count]
            yield from (Cell(row, seed, each) for each in counts)
