"""Plots of a world's cells: error against labels, losses, and what agreement on noise tells about the metric."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from benchmarks.transplant.reading import Cell, agreeing
from benchmarks.transplant.worlds.base import World

FAMILIES = ("default", "direct-learn")
LEAST_RUNS = 3
"""Of which a correlation is told."""


def draw(world: World, cells: list[Cell], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    table = [c for c in cells if c["setting"] == "table"]
    plots: list[tuple[str, str, Callable[[Axes], bool]]] = [
        ("labels", f"{world.tasks[0].metric} against labels", lambda axes: _labels(world, table, axes)),
        ("losses", "Losses along the training, seed 0", lambda axes: _losses(world, table, axes)),
        ("agreement", "Agreement along the training, seed 0", lambda axes: _agreements(table, axes)),
        ("kappa", "Agreement on noise against the metric", lambda axes: _kappa(world, table, axes)),
    ]
    drawn = []
    for name, title, fill in plots:
        figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
        if fill(axes):
            axes.grid(alpha=0.3)
            file = f"transplant-{world.name}-{name}.svg"
            # Without a date, and with fixed ids, the same cells give the same file.
            with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
                figure.savefig(folder / file, metadata={"Date": None})
            drawn.append((file, title))
        plt.close(figure)
    return drawn


def _labels(world: World, cells: list[Cell], axes: Axes) -> bool:
    """One line a family of rows that differ in their labels only, with the range over seeds of the mean over targets.

    Of targets alone that every seed of every point has, and the teacher too: or a line would join means of other targets.
    """
    metric = world.tasks[0].metric
    points: dict[tuple[str, int, int], dict[str, float]] = defaultdict(dict)
    for cell in cells:
        family, _, count = cell["row"].rpartition(", ")
        if family in FAMILIES:
            points[family, int(count), cell["seed"]][cell["target"]] = cell["metrics"][metric]
    teachers = {c["target"] for c in cells if c["row"] == "references"}
    common = [target for target in world.targets if all(target in each for each in [teachers, *points.values()])]
    if not points or not common:
        return False
    for family in sorted({name for name, _, _ in points}):
        means: dict[int, list[float]] = defaultdict(list)
        for (name, count, _), values in sorted(points.items()):
            if name == family:
                means[count].append(statistics.mean(values[target] for target in common))
        axes.fill_between(list(means), *zip(*((min(m), max(m)) for m in means.values()), strict=True), alpha=0.2)
        axes.plot(list(means), [statistics.mean(m) for m in means.values()], marker="o", label=family)
    known = [c for c in cells if c["row"] == "references" and c["target"] in common]
    level = statistics.mean(c["metrics"]["teacher"][metric] for c in known)
    axes.axhline(level, color="grey", linestyle="--", label="teacher")
    of = "targets" if len(common) == len(teachers) else ", ".join(common)
    axes.set(xlabel="labelled samples", ylabel=f"{metric}, mean over {of}", xscale="symlog")
    axes.legend()
    return True


def _losses(world: World, cells: list[Cell], axes: Axes) -> bool:
    curves = [c for c in cells if c.get("curve") and c["row"] == "default, 0"]
    for cell in curves:
        steps, losses = zip(*cell["curve"], strict=True)
        axes.plot(steps, losses, label=cell["target"])
    axes.set(xlabel="step", ylabel="weighted loss", yscale="log")
    if curves:
        axes.legend()
    return bool(curves)


def _agreements(cells: list[Cell], axes: Axes) -> bool:
    """What ends the training: how much of the teacher's outputs on fresh noise the student's explain."""
    curves = [c for c in cells if c.get("agreements") and c["row"] == "default, 0"]
    for cell in curves:
        axes.plot(*zip(*cell["agreements"], strict=True), label=cell["target"])
    axes.set(xlabel="step", ylabel="share of the variance explained")
    if curves:
        axes.legend()
    return bool(curves)


def _kappa(world: World, cells: list[Cell], axes: Axes) -> bool:
    """Every run that asked the teacher: Cohen's kappa on fresh noise against metric over teacher's metric."""
    runs = agreeing(cells, world.tasks[0].metric)
    if len(runs) < LEAST_RUNS:
        return False
    x, y, direct = zip(*runs, strict=True)
    for kind, label in ((False, "no labels"), (True, "with labels")):
        points = [(a, b) for a, b, d in zip(x, y, direct, strict=True) if d is kind]
        axes.scatter(*zip(*points, strict=True), s=12, label=label) if points else None
    rank, line = stats.spearmanr(x, y).statistic, stats.pearsonr(x, y).statistic
    axes.set(
        xlabel="kappa of student and teacher on fresh noise",
        ylabel=f"{world.tasks[0].metric} over the teacher's",
        title=f"{len(runs)} runs: Pearson {line:.2f}, Spearman {rank:.2f}",
    )
    axes.legend()
    return True
