"""Plots of the cells: throughput of each contest, and latencies at 70 % of saturation."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Cell = dict[str, Any]
CONTESTS = {"json32": "3x32x32 in JSON", "json224": "3x224x224 in JSON", "mixed8": "eight categories"}


def draw(cells: dict[str, Cell], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    drawn = []
    for name, title in CONTESTS.items():
        if "rounds" not in cells.get(name, {}):
            continue
        figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
        _throughput(cells[name], axes)
        axes.set_title(title)
        # Without a date, and with fixed ids, the same cells give the same file.
        with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
            figure.savefig(folder / f"serving-{name}.svg", metadata={"Date": None})
        plt.close(figure)
        drawn.append((f"serving-{name}.svg", f"Throughput, {title}"))
    return drawn


def _throughput(cell: Cell, axes: Axes) -> None:
    """A bar each: the best of the screening, and ours with every round as a dot."""
    best: dict[str, float] = {}
    for run in cell["screened"]:
        best[run["peer"]] = max(best.get(run["peer"], 0.0), run["per_s"])
    mine = [pair["ours"]["per_s"] for one in cell["rounds"] for pair in one.values()]
    best["Graftery"] = statistics.median(mine)
    names = sorted(best, key=lambda name: best[name])
    axes.barh(names, [best[name] for name in names], color=["C1" if name == "Graftery" else "C0" for name in names])
    axes.plot(mine, ["Graftery"] * len(mine), "k.", markersize=4)
    axes.set_xlabel("requests a second, saturated")
    axes.grid(alpha=0.3, axis="x")
