"""Plots of the cells: requests a second beside MLflow's, and p99 where there are many versions."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.registry.metadata import OPERATIONS as METADATA
from benchmarks.registry.scaling import OPERATIONS as SCALING

Cell = dict[str, Any]


def draw(cells: dict[str, Cell], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    plots: dict[str, tuple[str, Callable[[Cell, Axes], None]]] = {
        "metadata": ("Metadata requests a second, one server process each", _metadata),
        "sqlite": ("p99 by the number of versions, SQLite", _scaling),
        "postgresql": ("p99 by the number of versions, PostgreSQL", _scaling),
    }
    drawn = []
    for name, (title, plot) in plots.items():
        if "operations" not in cells.get(name, {}):
            continue
        figure, axes = plt.subplots(figsize=(6.8, 3.8), layout="constrained")
        plot(cells[name], axes)
        axes.set_title(title)
        axes.grid(alpha=0.3, axis="x")
        axes.legend(fontsize="small")
        # Without a date, and with fixed ids, the same cells give the same file.
        with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
            figure.savefig(folder / f"registry-{name}.svg", metadata={"Date": None})
        plt.close(figure)
        drawn.append((f"registry-{name}.svg", title))
    return drawn


def _pairs(axes: Axes, titles: list[str], values: dict[str, list[list[float]]], label: str) -> None:
    """Two bars a title, each with every round as a dot."""
    for at, (name, rounds) in enumerate(values.items()):
        places = [index + 0.38 * (0.5 - at) for index in range(len(titles))]
        axes.barh(places, [statistics.median(one) for one in rounds], height=0.36, label=name, color=f"C{1 - at}")
        for place, one in zip(places, rounds, strict=True):
            axes.plot(one, [place] * len(one), "k.", markersize=3)
    axes.set_yticks(range(len(titles)), titles, fontsize="small")
    axes.invert_yaxis()
    axes.set_xlabel(label)


def _metadata(cell: Cell, axes: Axes) -> None:
    runs = cell["operations"]
    values = {
        title: [[one[whose]["per_s"] for one in runs[name]] for name in METADATA]
        for title, whose in (("Graftery", "ours"), ("MLflow", "theirs"))
    }
    _pairs(axes, [one.title for one in METADATA.values()], values, "requests a second")


def _scaling(cell: Cell, axes: Axes) -> None:
    runs = cell["operations"]
    values = {
        f"{cell[which]} versions": [[one[which]["p99_ms"] for one in runs[name]] for name in SCALING]
        for which in ("many", "few")
    }
    _pairs(axes, [one.title for one in SCALING.values()], values, "p99, ms")
