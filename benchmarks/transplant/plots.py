"""Plots of a world's cells: error against labels, losses, and what agreement on noise tells about the metric."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

from benchmarks.transplant.worlds.base import World

Cell = dict[str, Any]
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


def _metric(world: World, cell: Cell) -> float:
    return float(cell["metrics"][world.tasks[0].metric])


def _labels(world: World, cells: list[Cell], axes: Axes) -> bool:
    """One line a family of rows that differ in their labels only, with the range over seeds of the mean over targets."""
    families: dict[str, dict[int, dict[int, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for cell in cells:
        family, _, count = cell["row"].rpartition(", ")
        if family in ("direct-learn", "default"):
            families[family][int(count)][cell["seed"]].append(_metric(world, cell))
    for family, counts in families.items():
        labels = sorted(counts)
        means = [[statistics.mean(values) for values in counts[n].values()] for n in labels]
        axes.fill_between(labels, [min(m) for m in means], [max(m) for m in means], alpha=0.2)
        axes.plot(labels, [statistics.mean(m) for m in means], marker="o", label=family)
    teachers = [c["metrics"]["teacher"][world.tasks[0].metric] for c in cells if c["row"] == "references"]
    if not families or not teachers:
        return False
    axes.axhline(statistics.mean(teachers), color="grey", linestyle="--", label="teacher")
    axes.set(xlabel="labelled samples", ylabel=f"{world.tasks[0].metric}, mean over targets", xscale="symlog")
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


def agreeing(world: World, cells: list[Cell]) -> list[tuple[float, float, bool]]:
    """Of every run that asked the teacher: kappa on fresh noise, metric over the teacher's metric, and whether it had labels."""
    metric = world.tasks[0].metric
    teacher = {(c["target"], c["seed"]): c["metrics"]["teacher"][metric] for c in cells if c["row"] == "references"}
    runs = [c for c in cells if c.get("kappa") is not None and (c["target"], c["seed"]) in teacher]
    return [
        (c["kappa"], _metric(world, c) / teacher[c["target"], c["seed"]], "direct" in c["objectives"]) for c in runs
    ]


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
    runs = agreeing(world, cells)
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
