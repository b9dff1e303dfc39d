"""What a transplant costs, side by side with the training of its teacher."""

from __future__ import annotations

import dataclasses
import time
from tempfile import TemporaryDirectory

from benchmarks.transplant.measuring import Bench
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import InversionCache, transplant

COST_TURNS = 3
SHARE = 40
"""A fortieth of the teacher's training is timed, right before the transplant: the machine may have other work."""


def cost(bench: Bench, recipe: TransplantRecipe) -> dict[str, float]:
    """Seconds of the teacher's training (from a part of it), of a transplant with 0 labels, and of one that finds its inversion kept."""
    _teacher_s(bench)  # what the first steps of a process take besides would count forty times
    teacher_s = _teacher_s(bench)
    with TemporaryDirectory() as folder:
        cache = InversionCache(folder)
        made_s, kept_s = (_transplant_s(bench, recipe, cache) for _ in range(2))
        if not cache.taken:
            raise RuntimeError("the inversion was made again: nothing was measured of one that is kept")
    named = {"teacher_seconds": teacher_s, "transplant_seconds": made_s, "kept_seconds": kept_s}
    return {name: round(value, 2) for name, value in named.items()} | {"ratio": round(made_s / teacher_s, 4)}


def _transplant_s(bench: Bench, recipe: TransplantRecipe, cache: InversionCache) -> float:
    began_s = time.perf_counter()
    transplant(bench.category, bench.shared, teacher_task=bench.own, recipe=recipe, inversions=cache)
    return time.perf_counter() - began_s


def _teacher_s(bench: Bench) -> float:
    world, whole = bench.world, bench.world.schedule
    if whole is None:
        raise ValueError(f"{world.name} trains without a schedule")
    part = dataclasses.replace(whole, steps=max(2, whole.steps // SHARE), checks=1)
    world.schedule = part
    try:
        seconds = world.teacher(bench.target, bench.seed, [bench.task.output]).seconds
    finally:
        world.schedule = whole
    return seconds * whole.steps / part.steps
