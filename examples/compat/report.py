"""The applications as one page: what was fixed before, a table and a figure for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.cells import Cells
from benchmarks.writing import line, machine_line, spread, write_whole
from examples.compat.applications import APPLICATIONS, Application, by_case
from examples.compat.plots import draw

PAGE = "compat-applications"
Runs = list[dict[str, Any]]


def write(folder: Path, command: str, recipe: BaseModel) -> None:
    """Write compat-applications.md and the figures, of all applications that were measured there."""
    parts = ["# Applications of compatible components"]
    for of in APPLICATIONS.values():
        kept = Cells(folder / f"{PAGE}-{of.name}.json", command, recipe)
        worlds = list(dict.fromkeys(run["world"] for run in kept))
        for world in worlds:
            runs = [run for run in kept if run["world"] == world]
            parts += _section(of, world, runs, kept.facts, folder)
    if len(parts) > 1:
        parts.insert(1, f"Written by `{command}`; every figure, with its recipe, is in {PAGE}-NAME.json. {_method()}")
        write_whole(folder / f"{PAGE}.md", "\n\n".join(parts) + "\n")


def _method() -> str:
    return (
        "Accuracy on test images in %, mean ± standard deviation over seeds; test images are read for these figures alone. The"
        " method: docs/methods/compat.md; the shifts: examples/compat/shifts.py."
    )


def _section(of: Application, world: str, runs: Runs, facts: dict[str, Any], folder: Path) -> list[str]:
    recipe = runs[0]["recipe"]
    seeds = ", ".join(str(run["seed"]) for run in runs)
    return [
        f"## {of.title}: {world}",
        of.protocol,
        f"Seeds {seeds}; {recipe['per_class']} images of a class for each team, {recipe['epochs']} epochs of {recipe['batch']} images a step."
        f" {machine_line(facts['machine'])}",
        _table(of, runs),
        *([of.remark(by_case(runs))] if of.remark else []),
        f"![{of.title}]({draw(of, world, runs, folder)})",
    ]


def _table(of: Application, runs: Runs) -> str:
    head = ["", *(f"{row} steps" if row.isdigit() else row for row in of.rows)]
    lines = [line(head), line(["---"] * len(head))]
    for case, cells in by_case(runs).items():
        lines.append(line([case, *(_cell(row, cells) for row in of.rows)]))
    return "\n".join(lines)


def _cell(row: str, cells: Sequence[dict[str, Any]]) -> str:
    text = spread(100 * cell["reached"][row] for cell in cells)
    normalised = [cell["normalised"][row] for cell in cells if row in cell.get("normalised", {})]
    return f"{text} (normalised {spread(normalised)})" if normalised else text
