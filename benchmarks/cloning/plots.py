"""Means and changed predictions by k, a line a row."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

from matplotlib import pyplot as plt

from benchmarks.cloning.protocol import CLONING, KS, ROWS, Row
from benchmarks.cloning.worlds import KINDS, NAMES

FILE = "cloning.png"
FIGURES = {"mean": "mean of original\nand wanted accuracy, %", "changed": "changed, %"}
STYLES = {"clone": "--", "tuning": "-", "two nets": ":", "unattainable": "-."}


def draw(found: list[dict[str, Any]], folder: Path) -> list[tuple[str, str]]:
    """Draw what there are cells for; returns file names and titles."""
    worlds = [name for name in NAMES if any(cell["world"] == name for cell in found)]
    if not worlds:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    size = (5 * len(worlds) + 3, 7)
    figure, grid = plt.subplots(2, len(worlds), figsize=size, sharex=True, squeeze=False, layout="constrained")
    for column, name in enumerate(worlds):
        ours = [cell for cell in found if cell["world"] == name]
        for axes, (figure_name, label) in zip(grid[:, column], FIGURES.items(), strict=True):
            for index, row in enumerate(ROWS):
                _line(axes, ours, row, f"C{index % 10}", figure_name)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        grid[0, column].set_title(KINDS[name].title)
        grid[1, column].set_xlabel("wanted classes, k")
        grid[1, column].set_xticks(KS)
    handles = {
        text: handle for axes in grid.flat for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize="small")
    # Without the software's name, the same cells give the same file.
    figure.savefig(folder / FILE, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return [(FILE, "Mean accuracy and changed predictions by the number of wanted classes")]


def _line(axes: Any, ours: list[dict[str, Any]], row: Row, colour: str, figure: str) -> None:
    values = {k: [100 * c[figure] for c in ours if (c["row"], c["k"]) == (row.name, k) and figure in c] for k in KS}
    there = {k: statistics.mean(value) for k, value in values.items() if value}
    if there:
        width = 3 if row.name == CLONING else 1.3
        style = "-" if row.name == CLONING else STYLES[row.kind]
        axes.plot(
            list(there),
            list(there.values()),
            style,
            marker="o",
            markersize=3,
            color=colour,
            linewidth=width,
            label=row.name,
        )
