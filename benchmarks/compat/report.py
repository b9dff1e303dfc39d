"""The results as a page: tables, what passes, a plot."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells
from benchmarks.compat.plots import draw
from benchmarks.compat.protocol import (
    DEPTHS,
    EPOCHS,
    GOALS,
    METHODS,
    OWN_GOAL_POINTS,
    OWN_POINTS,
    PER_CLASS,
    RESTATED,
    SETTINGS,
    Setting,
)
from benchmarks.writing import line, machine_line, missing_line, spread, write_whole

Found = list[dict[str, Any]]


def write(cells: Cells, folder: Path, missing: int) -> None:
    """Write compat.md and its plot; `missing` cells of the protocol are not there yet."""
    found = list(cells)
    if found:
        plots = draw(found, folder)
        write_whole(folder / "compat.md", page(found, cells.facts, plots, missing))


def page(found: Found, facts: dict[str, Any], plots: Sequence[tuple[str, str]], missing: int = 0) -> str:
    """The document."""
    parts = [
        "# Compatible components on CIFAR-10",
        f"Written by `{facts['command']}`; every cell is in compat.json.",
        f"ResNet-8, {EPOCHS} epochs, up to {PER_CLASS} training images of a class for each task, no image in two tasks; 1000 test images of a class,"
        " read for the figures below alone. Classes are dealt to tasks by the seed. The recipe is the default, with random shifts and flips; nothing was"
        " tuned on these data. Normalised recombination: 100 is the head's own network, 0 chance; the mean over all pairs of networks, ±"
        f" the standard deviation over seeds. In brackets: with the head's batch norms re-estimated on {RESTATED} training images of the"
        " extractor's task, without labels. Own: accuracy of the networks themselves, in %.",
        f"{machine_line(facts['machine'])} Networks learn in bfloat16 or float32, by what the processor has.",
    ]
    if missing:
        parts.append(missing_line(missing))
    parts += _verdicts(found)
    for setting in SETTINGS:
        for depth in setting.depths:
            ours = [c for c in found if (c["setting"], c["depth"]) == (setting.name, depth)]
            if ours:
                parts += [_title(setting, depth), _table(ours)]
    parts += [f"![{title}]({name})" for name, title in plots]
    return "\n\n".join(parts) + "\n"


def _verdicts(found: Found) -> list[str]:
    """The bars that were set before, held against the means over seeds."""
    ours = [c for c in found if (c["setting"], c["depth"]) == (SETTINGS[0].name, "middle")]
    means = {
        m.name: statistics.mean(v) for m in METHODS if (v := [c["recombined"] for c in ours if c["method"] == m.name])
    }
    if not {"none", "IIW", "IIW+DCC"} <= means.keys():
        return []
    lines = [f"- {'yes' if holds(means) else '**no**'}: {what}" for what, holds in GOALS]
    lines += [f"- {'yes' if worst >= -limit else '**no**'}: {what}" for what, worst, limit in _own_bars(ours)]
    return ["## What was asked", f"Of {SETTINGS[0].name}, split in the middle.", "\n".join(lines)]


def _own_bars(ours: Found) -> list[tuple[str, float, float]]:
    worst, name = min((_own_less(ours, m.name), m.name) for m in METHODS if m.name != "none" and _of(ours, m.name))
    text = "own accuracy is within {} points of none's with every method (worst: {}, {:+.1f})"
    return [(text.format(limit, name, worst), worst, limit) for limit in (OWN_POINTS, OWN_GOAL_POINTS)]


def _own_less(ours: Found, method: str) -> float:
    """Points of own accuracy above `none`, of the same seeds."""
    none = {c["seed"]: c["own"] for c in _of(ours, "none")}
    return 100 * statistics.mean(c["own"] - none[c["seed"]] for c in _of(ours, method) if c["seed"] in none)


def _of(found: Found, method: str) -> Found:
    return [c for c in found if c["method"] == method]


def _title(setting: Setting, depth: str) -> str:
    return f"## {setting.name.capitalize()}, split {depth} (`{DEPTHS[depth]}`)"


def _table(ours: Found) -> str:
    head = ["method", "normalised recombination", "(re-estimated)", "own", "against none", "seeds", "seconds"]
    lines = [line(head), line(["---"] * len(head))]
    for method in METHODS:
        if of := _of(ours, method.name):
            less = f"{_own_less(ours, method.name):+.1f}" if _of(ours, "none") and method.name != "none" else "-"
            lines.append(
                line(
                    [
                        method.name,
                        f"**{spread(c['recombined'] for c in of)}**",
                        f"({spread(c['restated'] for c in of)})",
                        spread(100 * c["own"] for c in of),
                        less,
                        str(len(of)),
                        f"{statistics.median(c['seconds'] for c in of):.0f}",
                    ]
                )
            )
    return "\n".join(lines)
