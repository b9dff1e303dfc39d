"""The results of a world as a page: tables, paired differences, what it ran on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.cells import Cells
from benchmarks.transplant.plots import LEAST_RUNS, agreeing, draw
from benchmarks.transplant.protocol import Row, Setting, settings
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.writing import line, machine_line, missing_line

Cell = dict[str, Any]
PAIRS = (
    ("default, 0", "teacher"),
    ("default, 0", "direct-learn, 100"),
    ("unlabelled images, 0", "direct-learn, 100"),
    ("sketch, 0", "direct-learn, 100"),
    ("pseudo-gradient, 0", "direct-learn, 100"),
    ("default, 10", "default, 0"),
    ("default, 100", "default, 0"),
    ("default, 0", "default, distillation alone, 0"),
    ("default in bfloat16, 0", "default, 0"),
)
"""Differences that are reported with an interval: the goals, what the Jacobian adds, and what bfloat16 costs."""


def write(world: World, cells: Cells, folder: Path, missing: int) -> None:
    """Write transplant-WORLD.md and the plots; `missing` cells of the protocol are not there yet."""
    found = list(cells)
    if not found:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw(world, found, folder)
    (folder / f"transplant-{world.name}.md").write_text(page(world, found, cells.facts, plots, missing))


def page(
    world: World, found: list[Cell], facts: dict[str, Any], plots: Sequence[tuple[str, str]], missing: int = 0
) -> str:
    """The document."""
    unseen = ", ".join(target for target in world.targets if target in world.unseen)
    parts = [
        f"# Transplants: {world.title}",
        f"Written by `{facts['command']}`; every cell, with its recipe's choices, is in transplant-{world.name}.json.",
        f"{world.protocol} Mean ± standard deviation over seeds {_seeds([c for c in found if c['setting'] == 'table'])} (a seed is of the nets, the recipe and the"
        f" labelled subset alike). Targets never used in tuning: {unseen}. Identity: f under gS with no adapter. Direct-learn is the best of"
        " four rates and lengths on the target's validation samples. The numbers behind the rows' names count labels.",
        f"{machine_line(facts['machine'])} Seconds are medians under that load and compare roughly.",
    ]
    if missing:
        parts.append(
            f"{missing_line(missing)} Until then means of rows may be over different targets and seeds; paired differences are not."
        )
    for setting in settings(world.dense, quick=world.quick):
        for each in world.tasks[: setting.tasks]:
            ours = [c for c in found if c["setting"] == setting.name and c["task"] == each.output]
            if ours:
                parts += _section(world, setting, each, ours)
    parts += _agreement(world, [c for c in found if c["setting"] == "table"])
    parts += _costs([c for c in found if c["setting"] == "cost"])
    parts += [f"![{title}]({name})" for name, title in plots]
    return "\n\n".join(parts) + "\n"


def _agreement(world: World, cells: list[Cell]) -> list[str]:
    runs = agreeing(world, cells)
    if len(runs) < LEAST_RUNS:
        return []
    parts = {"all": runs, "without labels": [r for r in runs if not r[2]], "with labels": [r for r in runs if r[2]]}
    ranks = (
        f"{stats.spearmanr([r[0] for r in some], [r[1] for r in some]).statistic:.2f} ({name}, {len(some)} runs)"
        for name, some in parts.items()
        if len(some) >= LEAST_RUNS
    )
    text = (
        f"Kappa of student and teacher on fresh noise against {world.tasks[0].metric} over the teacher's, of the table's runs that asked"
        f" the teacher: Spearman's rank correlation {', '.join(ranks)}."
    )
    return ["## Agreement on noise", text]


def _costs(cells: list[Cell]) -> list[str]:
    if not cells:
        return []
    ratios = [c["ratio"] for c in cells]
    beside = [(c["transplant_seconds"] - c["inversion_seconds"]) / c["teacher_seconds"] for c in cells]
    text = (
        "The default with 0 labels, with tracing, measured in turns with a fortieth of its teacher's training: its seconds are"
        f" **{statistics.median(ratios):.3f}** of the teacher's (median of {len(cells)} turns, {min(ratios):.3f} to"
        f" {max(ratios):.3f}); {statistics.median(beside):.3f} where the inversion's images are there already. Teachers train in bfloat16"
        " or float32, by what the processor has, transplants in float32."
    )
    return ["## Cost", text]


def _section(world: World, setting: Setting, task: Task, cells: list[Cell]) -> list[str]:
    title = f"## {setting.name.capitalize()}" + (f": {task.output}" if setting.tasks > 1 else "")
    metrics = [task.metric, *task.beside]
    parts = [title, *(_table(world, setting, task, metric, cells) for metric in metrics[:1])]
    if metrics[1:]:
        parts += [_means(setting, metrics, cells)]
    pairs = _pairs(task, cells)
    return [*parts, pairs] if pairs else parts


def _table(world: World, setting: Setting, task: Task, metric: str, cells: list[Cell]) -> str:
    targets = [target for target in world.targets if any(c["target"] == target for c in cells)]
    marked = [f"{target} *" if target in world.unseen else target for target in targets]
    error = metric in ("balanced_accuracy", "accuracy")
    head = ["row", "losses", "features", *marked, "mean", "steps", "seconds"]
    lines = [line(head), line(["---"] * len(head))]
    for name, row in _names(setting):
        ours = [c for c in cells if _belongs(c, name)]
        values = {target: [_value(c, name, metric) for c in ours if c["target"] == target] for target in targets}
        if not ours:
            continue
        shown = [_spread([_shown(v, error) for v in values[target]]) for target in targets]
        mean = f"**{statistics.mean(_shown(v, error) for each in values.values() for v in each):.2f}**"
        there = sum(bool(each) for each in values.values())
        mean += "" if there == len(targets) else f" (targets: {there})"
        steps, seconds = ([c[k] for c in ours if k in c] for k in ("steps", "seconds"))
        cost = [f"{statistics.median(steps):.0f}", f"{statistics.median(seconds):.1f}"] if steps else ["-", "-"]
        lines.append(line([name, row.losses if row else "-", row.features if row else "-", *shown, mean, *cost]))
    unit = "Error rate in %, lower is better" if error else f"{metric} in %, higher is better"
    return f"{unit}; * never used in tuning.\n\n" + "\n".join(lines)


def _means(setting: Setting, metrics: Sequence[str], cells: list[Cell]) -> str:
    lines = [line(["mean over targets and seeds, %", *metrics]), line(["---"] * (1 + len(metrics)))]
    targets = {c["target"] for c in cells}
    for name, _ in _names(setting):
        ours = [c for c in cells if _belongs(c, name)]
        if ours:
            there = len({c["target"] for c in ours})
            label = name if there == len(targets) else f"{name} (targets: {there})"
            means = (f"{100 * statistics.mean(_value(c, name, m) for c in ours):.2f}" for m in metrics)
            lines.append(line([label, *means]))
    return "\n".join(lines)


def _pairs(task: Task, cells: list[Cell]) -> str:
    lines = [line(["difference, points", "mean", "95 % interval", "pairs"]), line(["---"] * 4)]
    for one, other in PAIRS:
        ours, theirs = (
            {(c["target"], c["seed"]): _value(c, name, task.metric) for c in cells if _belongs(c, name)}
            for name in (one, other)
        )
        both = sorted(ours.keys() & theirs.keys())
        if len(both) > 1:
            mean, low, high = interval([100 * (ours[key] - theirs[key]) for key in both])
            lines.append(line([f"{one} − {other}", f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", str(len(both))]))
    if len(lines) == 2:
        return ""
    return f"Paired by target and seed, {task.metric}, Student's t over the pairs.\n\n" + "\n".join(lines)


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its interval by Student's t."""
    mean = statistics.mean(differences)
    half = stats.t.ppf((1 + level) / 2, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean, mean - float(half), mean + float(half)


def _names(setting: Setting) -> Iterable[tuple[str, Row | None]]:
    return [("teacher", None), ("identity", None), *((row.name, row) for row in setting.rows)]


def _belongs(cell: Cell, name: str) -> bool:
    return bool(cell["row"] == ("references" if name in ("teacher", "identity") else name))


def _value(cell: Cell, name: str, metric: str) -> float:
    metrics = cell["metrics"][name] if cell["row"] == "references" else cell["metrics"]
    return float(metrics[metric])


def _shown(value: float, error: bool) -> float:
    return 100 * (1 - value) if error else 100 * value


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values) if len(values) > 1 else 0:.2f}"


def _seeds(cells: list[Cell]) -> str:
    return ", ".join(str(seed) for seed in sorted({c["seed"] for c in cells}))
