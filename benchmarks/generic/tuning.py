"""Variants of consolidation's recipe, on seeds that are not reported and validation images."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from benchmarks.cells import Cells
from benchmarks.generic.measuring import Bench
from benchmarks.generic.protocol import TASK, TUNING_SEEDS
from graftery.consolidate import consolidate_task

VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "adapters frozen": {"adapters": "frozen"},
    "with gradients": {"objectives": {"distillation": 4.0, "back_distillation": 1.0}},
    "own images only": {"pooled": False},
    "rate 3e-4": {"learning_rate": 3e-4},
}
KEPT = "tuning"


def tune(bench: Bench, kept: Cells, tell: Callable[[str], None]) -> None:
    """Try what was not tried yet, and keep what came of it beside the cells."""
    for seed in TUNING_SEEDS:
        nets = bench.nets(seed)
        cells = [
            replace(nets.cell(category), evaluate_on=bench.world.samples(category, "validation", TASK))
            for category in nets.order
        ]
        for name, fields in VARIANTS.items():
            known = kept.facts.get(KEPT, {})
            if str(seed) in known.get(name, {}):
                continue
            recipe = type(bench.recipe).model_validate({**bench.recipe.model_dump(), **fields, "seed": seed})
            done = consolidate_task(cells[0].task, cells, recipe, progress=bench.progress)
            found = _figures([(r.before.model_dump(), r.after.model_dump()) for r in done.reports])
            kept.keep(KEPT, {**known, name: {**known.get(name, {}), str(seed): found}})
            tell(f"{name}, seed {seed}: {found}")


def _figures(standings: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, float]:
    changes = [100 * (after["metrics"]["accuracy"] - before["metrics"]["accuracy"]) for before, after in standings]
    was, now = (statistics.mean(pair[index]["explained"] for pair in standings) for index in (0, 1))
    return {"points": statistics.mean(changes), "worst": min(changes), "was": was, "is": now}
