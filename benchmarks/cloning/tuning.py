"""Choosing the baselines' rates and strengths: on other seeds than those that are reported, by validation images."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.cells import Cells
from benchmarks.cloning.measuring import Bench
from benchmarks.cloning.protocol import ROWS, Row
from graftery.errors import TrainingFailed

FACT = "tuning"
"""The name of what is kept: by world, `trials` (the mean of original and wanted accuracy of each choice) and `chosen`."""


def chosen(kept: Cells, world: str) -> dict[str, dict[str, float]]:
    """What was chosen for a world so far, by row."""
    found: dict[str, dict[str, float]] = kept.facts.get(FACT, {}).get(world, {}).get("chosen", {})
    return found


def tune(
    bench: Bench, kept: Cells, rows: Sequence[Row] = ROWS, tell: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Try every choice of these rows that was not tried yet, keep each at once, and what is best."""
    world = bench.dealer.world.name
    known = kept.facts.get(FACT, {})
    found: dict[str, Any] = known.get(world, {"trials": {}, "chosen": {}})
    for row in rows:
        if not row.tuned:
            continue
        trials = found["trials"].setdefault(row.name, {})
        choices = row.choices()[: bench.trials]
        for choice in choices:
            if label(choice) not in trials:
                trials[label(choice)] = score(bench, row, choice)
                tell(f"{world}: {row.name}, {label(choice)}: {trials[label(choice)]:.4f}")
                kept.keep(FACT, {**known, world: found})
        found["chosen"][row.name] = max(choices, key=lambda choice: trials[label(choice)])
        kept.keep(FACT, {**known, world: found})
    return dict(found["chosen"])


def score(bench: Bench, row: Row, choice: dict[str, float]) -> float:
    """The mean of original and wanted accuracy, over the tuning's seeds and k; 0 where it diverges."""
    try:
        values = [
            bench.tried(row, bench.problem(seed, k, "validation"), choice)["mean"]
            for seed in bench.tuning_seeds
            for k in bench.tuning_ks
        ]
    except TrainingFailed:
        return 0.0
    return float(statistics.mean(values))


def label(choice: dict[str, float]) -> str:
    return f"rate {choice['rate']:g}, strength {choice['strength']:g}"
