"""A figure for each application: bars by case; lines where the rows are numbers of steps. The range is over seeds."""

from __future__ import annotations

import re
import statistics
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from examples.compat.applications import Application, by_case

Cells = list[dict[str, Any]]


def draw(of: Application, world: str, runs: list[dict[str, Any]], folder: Path) -> str:
    """Draw an application's figure; returns its file's name."""
    cases = by_case(runs)
    figure, axes = plt.subplots(figsize=(7.5, 5), layout="constrained")
    (_lines if of.rows[0].isdigit() else _bars)(of, cases, axes)
    axes.set(ylabel="accuracy on test images, %", title=world)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize="small")
    name = f"compat-applications-{of.name}-{re.sub(r'[^a-z0-9]+', '-', world.lower())}.svg"
    # Without a date, and with fixed ids, the same cells give the same file.
    with plt.rc_context({"svg.hashsalt": "graftery", "svg.fonttype": "none"}):
        figure.savefig(folder / name, metadata={"Date": None})
    plt.close(figure)
    return name


def _lines(of: Application, cases: dict[str, Cells], axes: Axes) -> None:
    steps = [int(row) for row in of.rows]
    for case, cells in cases.items():
        values = [_values(cells, row) for row in of.rows]
        axes.fill_between(steps, [min(v) for v in values], [max(v) for v in values], alpha=0.2)
        axes.plot(steps, [statistics.mean(v) for v in values], marker="o", label=case)
    axes.set(xlabel="steps", xlim=(0, steps[-1]))
    axes.set_xscale("symlog", linthresh=steps[1])
    axes.set_xticks(steps, of.rows)


def _bars(of: Application, cases: dict[str, Cells], axes: Axes) -> None:
    width = 0.8 / len(of.rows)
    for index, row in enumerate(of.rows):
        values = [_values(cells, row) for cells in cases.values()]
        means = [statistics.mean(v) for v in values]
        places = [at + width * (index - (len(of.rows) - 1) / 2) for at in range(len(cases))]
        apart = [
            [m - min(v) for m, v in zip(means, values, strict=True)],
            [max(v) - m for m, v in zip(means, values, strict=True)],
        ]
        axes.bar(places, means, width, yerr=apart, label=row)
    axes.set_xticks(range(len(cases)), ["\n".join(wrap(case, 26)) for case in cases], fontsize="small")


def _values(cells: Cells, row: str) -> list[float]:
    return [100 * cell["reached"][row] for cell in cells]
