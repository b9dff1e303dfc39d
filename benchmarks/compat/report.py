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
    RECIPE,
    RESTATED,
    SEEDS,
    SETTINGS,
    Goal,
    Means,
    Setting,
)
from benchmarks.verdicts import Verdict, bullet
from benchmarks.writing import line, machine_line, missing_line, spread, write_whole

Found = list[dict[str, Any]]
OWN_LIMITS = (OWN_POINTS, OWN_GOAL_POINTS)
OWN_BAR = "own accuracy is within {} points of none's with every method"
OLDER = "†"
STUDY = "compat-study.md"
"""The page of `benchmarks.compat.study`."""


def write(cells: Cells, folder: Path, missing: int) -> None:
    """Write compat.md and its plot; `missing` cells of the protocol are not there yet."""
    found = list(cells)
    if found:
        plots = draw(found, folder)
        studied = (folder / STUDY).exists()
        write_whole(folder / "compat.md", page(found, cells.facts, plots, missing, studied=studied))


def page(
    found: Found, facts: dict[str, Any], plots: Sequence[tuple[str, str]], missing: int = 0, *, studied: bool = False
) -> str:
    """The document. Args: `studied`, whether the study's page lies beside it."""
    parts = [
        "# Compatible components on CIFAR-10",
        f"Written by `{facts['command']}`; every cell is in compat.json.",
        f"ResNet-8, {EPOCHS} epochs, up to {PER_CLASS} training images of a class for each task, no image in two tasks; 1000 test images of a class,"
        " read for the figures below alone. Classes are dealt to tasks by the seed. The recipe is the default, with random shifts and flips; nothing was"
        " tuned on these data. Normalised recombination: 100 is the head's own network, 0 chance; the mean over all pairs of networks, ±"
        f" the standard deviation over seeds. In brackets: with the head's batch norms re-estimated on {RESTATED} training images of the"
        " extractor's task, without labels. Own: accuracy of the networks themselves, in %.",
        f"All methods at all three depths are measured for {SETTINGS[0].name}; the other settings are split in the middle, and of three and five"
        " tasks, where each network costs as much again, three methods are measured.",
        f"{machine_line(facts['machine'])} Networks learn in {RECIPE.precision}.",
    ]
    if older := [cell for cell in found if _older(cell)]:
        parts.append(
            f"{OLDER} {len(older)} cells are of networks that learned in bfloat16, before the protocol said {RECIPE.precision}: the command"
            " measures them again."
        )
    if missing:
        parts.append(missing_line(missing))
    parts += _verdicts(found)
    if studied:
        parts.append(f"What moves recombination, and what does not: [{STUDY}]({STUDY}).")
    for setting in SETTINGS:
        for depth in setting.depths:
            ours = [c for c in found if (c["setting"], c["depth"]) == (setting.name, depth)]
            if ours:
                parts += [_title(setting, depth), _table(ours)]
    parts += [f"![{title}]({name})" for name, title in plots]
    return "\n\n".join(parts) + "\n"


def _verdicts(found: Found) -> list[str]:
    """The bars that were set before, held against the means over seeds; of nothing less than all methods and seeds."""
    ours = [c for c in found if (c["setting"], c["depth"]) == (SETTINGS[0].name, "middle")]
    ours = [c for c in ours if not _older(c) and c["seed"] in SEEDS]
    whole = {(c["method"], c["seed"]) for c in ours} >= {(m.name, seed) for m in METHODS for seed in SEEDS}
    bars = [*_recombined_bars(ours), *_own_bars(ours)] if whole else [Verdict(None, what) for what in _asked()]
    return ["## What was asked", f"Of {SETTINGS[0].name}, split in the middle.", "\n".join(map(bullet, bars))]


def _asked() -> list[str]:
    return [goal.what for goal in GOALS] + [OWN_BAR.format(limit) for limit in OWN_LIMITS]


def _recombined_bars(ours: Found) -> list[Verdict]:
    means, seeds = _means(ours), [_means([c for c in ours if c["seed"] == seed]) for seed in SEEDS]
    return [Verdict(goal.holds(goal.figure(means)), _told(goal, means, seeds)) for goal in GOALS]


def _means(ours: Found) -> dict[str, float]:
    return {m.name: statistics.mean(c["recombined"] for c in _of(ours, m.name)) for m in METHODS}


def _told(goal: Goal, means: Means, seeds: Sequence[Means]) -> str:
    single = [goal.figure(each) for each in seeds]
    return f"{goal.what} ({goal.figure(means):.1f}; of single seeds {min(single):.1f} to {max(single):.1f})"


def _own_bars(ours: Found) -> list[Verdict]:
    less = {m.name: _own_less(ours, m.name) or 0.0 for m in METHODS if m.name != "none"}
    name = min(less, key=lambda each: less[each])
    worst = f" (worst: {name}, {less[name]:+.1f})"
    return [Verdict(less[name] >= -limit, OWN_BAR.format(limit) + worst) for limit in OWN_LIMITS]


def _own_less(ours: Found, method: str) -> float | None:
    """Points of own accuracy above `none`, of the same seeds; None where there is no such seed."""
    none = {c["seed"]: c["own"] for c in _of(ours, "none")}
    paired = [c["own"] - none[c["seed"]] for c in _of(ours, method) if c["seed"] in none]
    return 100 * statistics.mean(paired) if paired else None


def _older(cell: dict[str, Any]) -> bool:
    """Whether its networks learned in another precision than the protocol says."""
    return bool(cell["precision"] != RECIPE.precision)


def _of(found: Found, method: str) -> Found:
    return [c for c in found if c["method"] == method]


def _title(setting: Setting, depth: str) -> str:
    return f"## {setting.name.capitalize()}, split {depth} (`{DEPTHS[depth]}`)"


def _table(ours: Found) -> str:
    head = ["method", "normalised recombination", "(re-estimated)", "own", "against none", "seeds"]
    lines = [line(head), line(["---"] * len(head))]
    for method in METHODS:
        if of := _of(ours, method.name):
            less = _own_less(ours, method.name) if method.name != "none" else None
            lines.append(
                line(
                    [
                        method.name + (f" {OLDER}" if any(map(_older, of)) else ""),
                        f"**{spread(c['recombined'] for c in of)}**",
                        f"({spread(c['restated'] for c in of)})",
                        spread(100 * c["own"] for c in of),
                        "-" if less is None else f"{less:+.1f}",
                        str(len(of)),
                    ]
                )
            )
    return "\n".join(lines)
