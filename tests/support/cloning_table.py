"""The benchmark of cloning on made-up images and tiny nets, and cells as it keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import Cells
from benchmarks.cloning.dealing import Dealer
from benchmarks.cloning.measuring import Bench
from benchmarks.cloning.protocol import CLONING, ROWS, SEEDS, Row, cells
from benchmarks.cloning.tuning import label
from benchmarks.cloning.worlds import Digits
from benchmarks.transplant.worlds.learning import Schedule
from graftery.data.streams import generator
from graftery.spec.recipes import CloneRecipe

ROW = {row.name: row for row in ROWS}
RECIPE = CloneRecipe(localization_steps=2, healing_steps=2, steps=3, views=2, tolerance=1, positions=("body.2",))
SHORT = Schedule(steps=3, batch=16)


class Stripes(Digits):
    """Ten classes of 8x8 images that differ in a row of pixels; every image is another one."""

    def raw(self, split: str) -> tuple[Tensor, Tensor]:
        count = {"train": 60, "validation": 4, "test": 6}[split]
        y = torch.arange(10).repeat(count)
        x = 0.5 * torch.randn(len(y), 1, 8, 8, generator=generator(0, split))
        x[torch.arange(len(y)), 0, y % 8] += 2 + y[:, None] // 8
        return x, y


def dealt(folder: Path, schedule: Schedule = SHORT) -> Dealer:
    """What deals the problems, with its nets in this folder."""
    return Dealer(Stripes(), folder, RECIPE, schedule=schedule, together=SHORT)


def benched(dealer: Dealer) -> Bench:
    """What measures cells, in a few steps."""
    chosen = {row.name: {"rate": 1e-3, "strength": 1.0} for row in ROWS if row.tuned}
    return Bench(dealer, chosen, steps=3, tuning_seeds=(100,), tuning_ks=(1,), trials=2)


def cell_of(row: Row, k: int, seed: int, mean: float, changed: float) -> dict[str, Any]:
    own = {"original": mean, "original_before": 0.98, "wanted": mean, "mean": mean, "changed": changed}
    where = {"world": "digits", "k": k, "row": row.name, "seed": seed, "seconds": 9.0, "added": 0.1}
    if row.kind != "clone":
        return {**where, **own, "choice": {"rate": 1e-3, "strength": 0.0}}
    masked = dict.fromkeys(("source_wanted", "source_unwanted", "masked_wanted", "masked_unwanted"), 0.9)
    return {**where, **own, **masked, "added_flops": 0.2, "position": "body.2", "origin": "body.2", "untouched": True}


def filled(path: Path) -> Cells:
    """Cloning 1 point above all others, with half of what these change; the last row is not measured."""
    kept = Cells(path, "make bench-cloning DATA=FOLDER", CloneRecipe())
    chosen = {row.name: {"rate": 1e-3, "strength": 0.0} for row in ROWS if row.tuned}
    trials = {row.name: {label(row.choices()[0]): 0.95, "rate 9, strength 0": 0.99} for row in ROWS if row.tuned}
    kept.keep("tuning", {"digits": {"chosen": chosen, "trials": trials}})
    for cell in cells(["digits"]):
        if cell.row is not ROWS[-1]:
            ours = cell.row.name == CLONING
            mean = (0.96 if ours else 0.95) + 0.001 * SEEDS.index(cell.seed) * (-1) ** ours
            kept.put(cell.key, cell_of(cell.row, cell.k, cell.seed, mean, 0.02 if ours else 0.04))
    return kept
