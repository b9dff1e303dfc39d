"""The mean over categories so far, after each step."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.generic.goals import mean, of, teachers
from benchmarks.generic.protocol import CONSOLIDATED, FIRST, JOINT, STEPWISE, TEACHERS

FILE = "generic.svg"


def draw(found: list[dict[str, Any]], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    if not found:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    last = max(cell["count"] for cell in found)
    for index, row in enumerate(STEPWISE):
        lines = {n: [mean(cell) for cell in of(found, row, n).values()] for n in range(FIRST, last + 1)}
        _line(axes, {n: values for n, values in lines.items() if values}, row, f"C{index}")
    own = {n: teachers(found, n) for n in range(FIRST, last + 1)}
    _line(axes, {n: values for n, values in own.items() if values}, TEACHERS, "grey")
    for row, marker, colour in ((CONSOLIDATED, "*", "C3"), (JOINT, "s", "C4")):
        if values := [mean(cell) for cell in of(found, row, last).values()]:
            axes.plot([last], [statistics.mean(values)], marker, color=colour, label=row, markersize=9)
    axes.set(xlabel="categories so far", ylabel="accuracy, %, mean over categories so far")
    axes.grid(alpha=0.3)
    axes.legend()
    # Without a date, and with fixed ids, the same cells give the same file.
    with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
        figure.savefig(folder / FILE, metadata={"Date": None})
    plt.close(figure)
    return [(FILE, "Mean accuracy over the categories so far")]


def _line(axes: Axes, values: dict[int, list[float]], label: str, colour: str) -> None:
    if values:
        axes.fill_between(
            list(values), [min(v) for v in values.values()], [max(v) for v in values.values()], color=colour, alpha=0.2
        )
        axes.plot(list(values), [statistics.mean(v) for v in values.values()], color=colour, label=label, marker=".")
