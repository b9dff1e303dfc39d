"""The results of a world as a page: tables, paired differences, what it ran on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from benchmarks.cells import Cells
from benchmarks.transplant.jobs import Standing
from benchmarks.transplant.plots import LEAST_RUNS, draw
from benchmarks.transplant.protocol import (
    COSTS,
    LEAST_TEACHER,
    Row,
    Setting,
    key_of,
    settings,
)
from benchmarks.transplant.reading import OLDER, Cell, agreeing, belongs, marked, pair_of, value
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.worlds.learning import PRECISION
from benchmarks.writing import line, machine_line, missing_line

UNSEEN, UNTUNED = "*", "°"
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


def write(world: World, cells: Cells, folder: Path, standing: Standing) -> None:
    """Write transplant-WORLD.md and the plots."""
    found = [cell for cell in cells if key_of(cell) in standing.current | standing.older]
    if not found:
        return
    folder.mkdir(parents=True, exist_ok=True)
    plots = draw(world, found, folder)
    (folder / f"transplant-{world.name}.md").write_text(page(world, found, cells.facts, plots, standing))


def page(
    world: World,
    found: list[Cell],
    facts: dict[str, Any],
    plots: Sequence[tuple[str, str]],
    standing: Standing = Standing(),  # noqa: B008  immutable
) -> str:
    """The document."""
    older = standing.marked
    parts = [
        f"# Transplants: {world.title}",
        f"Written by `{facts['command']}`; every cell, with its recipe's choices, is in transplant-{world.name}.json.",
        *_protocol(world, found),
        f"{machine_line(facts['machine'])} Seconds are medians under that load and compare roughly.",
    ]
    if standing.older:
        mark = f"{OLDER} " if older else ""
        parts.append(
            f"{mark}**{len(standing.older)} of {len(found)} cells are of nets or recipes that are not those of the protocol now, or do not say of which they are**:"
            " the command measures them again. Those that do not say are compared with each other, as if they were of the same nets."
            f" Before the protocol said {PRECISION}, nets learned in bfloat16 or float32, by what the processor had."
        )
    if standing.missing:
        parts.append(
            f"{missing_line(standing.missing)} Until then means of rows may be over different targets and seeds; paired differences are not."
        )
    for setting in settings(world.dense, quick=world.quick):
        for each in world.tasks[: setting.tasks]:
            ours = [c for c in found if c["setting"] == setting.name and c["task"] == each.output]
            if ours:
                parts += _section(world, setting, each, ours, older)
    parts += _agreement(world, [c for c in found if c["setting"] == "table"], older)
    parts += _costs([c for c in found if c["setting"] == COSTS], older)
    parts += [f"![{title}]({name})" for name, title in plots]
    return "\n\n".join(parts) + "\n"


def _protocol(world: World, found: list[Cell]) -> list[str]:
    """What was measured, and how to read it."""
    variants = next(row.chosen for row in settings(world.dense, quick=world.quick)[0].rows if row.chosen)
    seeds = ", ".join(str(seed) for seed in sorted({c["seed"] for c in found if c["setting"] == "table"}))
    return [
        f"{world.protocol} Nets learn in {PRECISION}, and adapters too, but for the row in bfloat16.",
        f"Mean ± standard deviation over seeds {seeds} (a seed is of the nets, the recipe and the labelled subset alike); of one seed there is no deviation."
        " Identity: f under gS with no adapter. Direct-learn, also with distillation, is the best on the target's validation samples of"
        f" {len(variants)} recipes, which differ in rate, length and whether images are augmented; steps and seconds are of that one. The numbers behind the"
        " rows' names count labels.",
        *_marks(world),
        *(
            ["**A quick run**: nets and adapters learn for a few steps, to see that it works. Its figures say nothing."]
            if world.quick
            else []
        ),
    ]


def _marks(world: World) -> list[str]:
    of = {
        rf"\{UNSEEN}": (world.unseen, "never used in tuning"),
        UNTUNED: (
            world.untuned,
            "not used in this repository's tuning; an earlier study, from which the method came, looked at their test samples while it chose",
        ),
    }
    told = [
        f"{mark} {text}: {', '.join(target for target in world.targets if target in some)}."
        for mark, (some, text) in of.items()
        if some
    ]
    return [" ".join(told)] if told else []


def _agreement(world: World, cells: list[Cell], older: frozenset[str]) -> list[str]:
    runs = agreeing(cells, world.tasks[0].metric)
    if len(runs) < LEAST_RUNS:
        return []
    parts = {"all": runs, "without labels": [r for r in runs if not r[2]], "with labels": [r for r in runs if r[2]]}
    ranks = (
        f"{stats.spearmanr([r[0] for r in some], [r[1] for r in some]).statistic:.2f} ({name}, {len(some)} runs)"
        for name, some in parts.items()
        if len(some) >= LEAST_RUNS
    )
    text = (
        f"Kappa of student and teacher on fresh noise against {world.tasks[0].metric} over the teacher's, of the table's runs whose losses asked"
        f" the teacher: Spearman's rank correlation {', '.join(ranks)}."
    )
    return ["## Agreement on noise", marked(text, (c for c in cells if c.get("kappa") is not None), older)]


def _costs(cells: list[Cell], older: frozenset[str]) -> list[str]:
    if not cells:
        return []
    ratios = [c["ratio"] for c in cells]
    kept = [c["kept_seconds"] / c["teacher_seconds"] for c in cells if "kept_seconds" in c]
    text = (
        "The default with 0 labels, with tracing, measured in turns with a fortieth of its teacher's training: its seconds are"
        f" **{statistics.median(ratios):.3f}** of the teacher's (median of {len(cells)} turns, {min(ratios):.3f} to"
        f" {max(ratios):.3f})"
        + (
            f"; {statistics.median(kept):.3f} where the inversion's images were kept by an earlier one."
            if kept
            else "."
        )
    )
    return ["## Cost", marked(text, cells, older)]


def _section(world: World, setting: Setting, task: Task, cells: list[Cell], older: frozenset[str]) -> list[str]:
    title = f"## {setting.name.capitalize()}" + (f": {task.output}" if setting.tasks > 1 else "")
    metrics = [task.metric, *task.beside]
    parts = [title, _about(world, setting), _table(world, setting, task, cells, older)]
    if metrics[1:]:
        parts += [_means(setting, metrics, cells, older)]
    return [*parts, *_differences(world, task, cells, older)]


def _about(world: World, setting: Setting) -> str:
    """Which nets a section is of."""
    nets = setting.nets(world, "", 0)
    *first, last = nets.categories
    known = f"{', '.join(first)} and {last}" if first else last
    text = f"The generic net knows {known}. f gives features of {world.features[nets.depth]}."
    if setting.tasks == 1:
        return text
    return f"{text} Each task's adapter is learned by a transplant of its own: a request for several is a job for each."


def _table(world: World, setting: Setting, task: Task, cells: list[Cell], older: frozenset[str]) -> str:
    targets = [target for target in world.targets if any(c["target"] == target for c in cells)]
    error = task.metric in ("balanced_accuracy", "accuracy")
    head = ["row", "losses", "features", *(_target(world, target) for target in targets), "mean", "steps", "seconds"]
    lines = [line(head), line(["---"] * len(head))]
    for name, row in _names(setting):
        ours = [c for c in cells if belongs(c, name)]
        if not ours:
            continue
        values = {
            target: [_shown(value(c, name, task.metric), error) for c in ours if c["target"] == target]
            for target in targets
        }
        mean = f"**{statistics.mean(v for each in values.values() for v in each):.2f}**"
        there = sum(bool(each) for each in values.values())
        mean += "" if there == len(targets) else f" (targets: {there})"
        steps, seconds = ([c[k] for c in ours if k in c] for k in ("steps", "seconds"))
        cost = [f"{statistics.median(steps):.0f}", f"{statistics.median(seconds):.1f}"] if steps else ["-", "-"]
        said = [marked(name, ours, older), row.losses if row else "-", row.features if row else "-"]
        lines.append(line([*said, *map(_spread, values.values()), mean, *cost]))
    unit = "Error rate in %, lower is better" if error else f"{task.metric} in %, higher is better"
    return f"{unit}.\n\n" + "\n".join(lines)


def _target(world: World, target: str) -> str:
    mark = UNSEEN if target in world.unseen else UNTUNED if target in world.untuned else ""
    return f"{target} {mark}".strip()


def _means(setting: Setting, metrics: Sequence[str], cells: list[Cell], older: frozenset[str]) -> str:
    lines = [line(["mean over targets and seeds, %", *metrics]), line(["---"] * (1 + len(metrics)))]
    targets = {c["target"] for c in cells}
    for name, _ in _names(setting):
        ours = [c for c in cells if belongs(c, name)]
        if ours:
            there = len({c["target"] for c in ours})
            label = name if there == len(targets) else f"{name} (targets: {there})"
            means = (f"{100 * statistics.mean(value(c, name, m) for c in ours):.2f}" for m in metrics)
            lines.append(line([marked(label, ours, older), *means]))
    return "\n".join(lines)


def _differences(world: World, task: Task, cells: list[Cell], older: frozenset[str]) -> list[str]:
    """The paired differences, of all targets, and without those whose teacher has hardly learned them."""
    whole = _pairs(task, cells, older)
    if not whole:
        return []
    told = [f"Paired by target, seed and nets, {task.metric}, Student's t over the pairs.\n\n{whole}"]
    if weak := weakly_taught(world, task, cells):
        bar = f"a teacher's mean {task.metric} of {100 * LEAST_TEACHER[task.metric]:.0f} %, a bar that was set after the teachers were known"
        rest = _pairs(task, [c for c in cells if c["target"] not in weak], older)
        told += [f"The same without {', '.join(weak)}, below {bar}.\n\n{rest}"] if rest else []
    return told


def weakly_taught(world: World, task: Task, cells: list[Cell]) -> list[str]:
    """Targets whose teacher, in the mean over seeds, is below the protocol's bar for the metric."""
    taught: dict[str, list[float]] = {target: [] for target in world.targets}
    for cell in cells:
        if cell["row"] == "references":
            taught[cell["target"]].append(value(cell, "teacher", task.metric))
    least = LEAST_TEACHER.get(task.metric, float("-inf"))
    return [target for target, values in taught.items() if values and statistics.mean(values) < least]


def _pairs(task: Task, cells: list[Cell], older: frozenset[str]) -> str:
    lines = [line(["difference, points", "mean", "95 % interval", "pairs"]), line(["---"] * 4)]
    for one, other in PAIRS:
        ours, theirs = ({pair_of(c): c for c in cells if belongs(c, name)} for name in (one, other))
        both = sorted(ours.keys() & theirs.keys())
        if len(both) > 1:
            differences = [
                100 * (value(ours[key], one, task.metric) - value(theirs[key], other, task.metric)) for key in both
            ]
            mean, low, high = interval(differences)
            label = marked(f"{one} − {other}", [each[key] for each in (ours, theirs) for key in both], older)
            lines.append(line([label, f"{mean:+.2f}", f"{low:+.2f} to {high:+.2f}", str(len(both))]))
    return "\n".join(lines) if len(lines) > 2 else ""


def interval(differences: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences, and the ends of its interval by Student's t."""
    mean = statistics.mean(differences)
    half = stats.t.ppf((1 + level) / 2, len(differences) - 1) * statistics.stdev(differences) / len(differences) ** 0.5
    return mean, mean - float(half), mean + float(half)


def _names(setting: Setting) -> Iterable[tuple[str, Row | None]]:
    return [("teacher", None), ("identity", None), *((row.name, row) for row in setting.rows)]


def _shown(value: float, error: bool) -> float:
    return 100 * (1 - value) if error else 100 * value


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    deviation = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{deviation}"
