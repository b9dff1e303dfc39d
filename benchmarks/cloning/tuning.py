"""Choosing the baselines' rates and strengths: on other seeds than those that are reported, by validation images.

Where a choice lies at an edge of a row's grid, the grid goes on there. Several processes divide the trials.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.cells import Cells
from benchmarks.cloning.measuring import Bench
from benchmarks.cloning.protocol import BEYOND, ROWS, Row
from graftery.errors import TrainingFailed

FACT = "tuning"
"""The name of what is kept: by world, `trials` (the mean of original and wanted accuracy of each choice) and `chosen`."""


def chosen(facts: Mapping[str, Any], world: str) -> dict[str, dict[str, float]]:
    """What was chosen for a world so far, by row."""
    found: dict[str, dict[str, float]] = facts.get(FACT, {}).get(world, {}).get("chosen", {})
    return found


def tune(
    bench: Bench, kept: Cells, rows: Sequence[Row] = ROWS, tell: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, float]]:
    """Choose for these rows, each trial kept at once. A row that has its choice keeps it: cells were measured with it."""
    world = bench.dealer.world.name
    left = [row for row in rows if row.tuned and row.name not in chosen(kept.facts, world)]
    if left:
        bench.dealer.train(bench.tuning_seeds)
        for row in left:
            kept.keep(FACT, {world: {"chosen": {row.name: _choose(bench, kept, row, tell)}}})
    return chosen(kept.facts, world)


def _choose(bench: Bench, kept: Cells, row: Row, tell: Callable[[str], None]) -> dict[str, float]:
    """What is best, its grid grown until that is within it."""
    now = row
    while True:
        choices = now.choices()[: bench.trials]
        _try(bench, kept, row, choices, tell)
        found = best(choices, trials(kept.facts, bench.dealer.world.name, row))
        wider = now if bench.trials else grown(now, found, row)
        if wider == now:
            return found
        now = wider


def _try(bench: Bench, kept: Cells, row: Row, choices: Sequence[dict[str, float]], tell: Callable[[str], None]) -> None:
    """Try what was not tried yet: what no other process is at, then what others were at and did not end."""
    world = bench.dealer.world.name
    for wait in (False, True):
        for choice in choices:
            with kept.claimed(f"{FACT}/{world}/{row.name}/{label(choice)}", wait=wait) as ours:
                if ours and label(choice) not in trials(kept.facts, world, row):
                    value = score(bench, row, choice)
                    kept.keep(FACT, {world: {"trials": {row.name: {label(choice): value}}}})
                    tell(f"{world}: {row.name}, {label(choice)}: {value:.4f}")


def trials(facts: Mapping[str, Any], world: str, row: Row) -> dict[str, float]:
    """What came of each choice of a row that was tried."""
    found: dict[str, float] = facts.get(FACT, {}).get(world, {}).get("trials", {}).get(row.name, {})
    return found


def best(choices: Sequence[dict[str, float]], found: Mapping[str, float]) -> dict[str, float]:
    """Of equals, the first."""
    return max(choices, key=lambda choice: found[label(choice)])


def reached(row: Row, found: Mapping[str, float]) -> Row:
    """A row with its grid as far as it was tried."""
    now, wider = row, row
    while all(label(choice) in found for choice in wider.choices()):
        now, wider = wider, grown(wider, best(wider.choices(), found), row)
        if wider == now:
            break
    return now


def grown(row: Row, choice: Mapping[str, float], first: Row) -> Row:
    """A row with one more value beyond each edge of its grid that a choice lies at; the same row where there is none to try.

    Args:
        first: the row with the grid that was begun with.
    """
    return replace(
        row,
        rates=_grown(row.rates, choice["rate"], first.rates),
        strengths=_grown(row.strengths, choice["strength"], first.strengths),
    )


def _grown(values: tuple[float, ...], chosen: float, first: tuple[float, ...]) -> tuple[float, ...]:
    if len(first) > 1 and chosen == values[0] and sum(value < first[0] for value in values) < BEYOND:
        return (_next(values[::-1]), *values)
    if len(first) > 1 and chosen == values[-1] and sum(value > first[-1] for value in values) < BEYOND:
        return (*values, _next(values))
    return values


def _next(values: Sequence[float]) -> float:
    """One step on. Grids such as 1, 3, 10, 30 have two steps in turn: the last but one comes again."""
    return float(f"{values[-2] * values[-1] / values[-3]:.4g}")


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
