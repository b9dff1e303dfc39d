"""The results as a page: what was asked, the mean after each category, consolidation by cell, a plot."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells
from benchmarks.generic.goals import Found, differences, mean, of, shares, teachers, verdicts
from benchmarks.generic.plots import draw
from benchmarks.generic.protocol import (
    CONSOLIDATED,
    CONSOLIDATED_IMAGES,
    CONSOLIDATIONS,
    FINE_TUNING,
    FIRST,
    GROWN,
    JOINT,
    PROBED,
    ROWS,
    SEEDS,
    SEQUENTIAL_FEW,
    STEPWISE,
    TEACHERS,
    TUNING_SEEDS,
    cells,
)
from benchmarks.transplant.worlds.cifar10 import CLASSES, EVALUATED, GENERIC_BATCH, SCHEDULE
from benchmarks.transplant.worlds.learning import PRECISION
from benchmarks.verdicts import bullet
from benchmarks.writing import line, machine_line, missing_line, spread, write_whole


def write(kept: Cells, folder: Path) -> None:
    """Write generic.md and its plot."""
    found = list(kept)
    if found:
        plots = draw(found, folder)
        missing = [cell.key for cell in cells() if not kept.has(cell.key)]
        write_whole(folder / "generic.md", page(found, kept.facts, plots, missing))


def page(
    found: Found, facts: dict[str, Any], plots: Sequence[tuple[str, str]] = (), missing: Sequence[str] = ()
) -> str:
    """The document; `missing` are the keys of cells that are not there yet."""
    parts = [
        "# A generic network that grows, on CIFAR-10",
        f"Written by `{facts['command']}`; every cell is in generic.json.",
        *_protocol(found, facts),
        *_missing(missing),
        "What was asked:\n\n" + "\n".join(bullet(verdict) for verdict in verdicts(found)),
        "## After each category",
        "Accuracy in %, mean over the categories so far, ± standard deviation over seeds.\n\n" + _steps(found),
    ]
    parts += _consolidation(found)
    parts += ["## By category, after all ten", _categories(found)]
    parts += _tuned(facts.get("tuning", {}))
    parts += [f"![{title}]({name})" for name, title in plots]
    return "\n\n".join(parts) + "\n"


def _protocol(found: Found, facts: dict[str, Any]) -> list[str]:
    return [
        'Task: "is it a c?". Each seed deals an order of the ten categories. A generic net is trained with the first two: an f each, one gS. The other eight come one'
        f" by one. Teachers, the generic net and the joint training have the nets and the schedule of [transplants](transplant-cifar10.md): {SCHEDULE.steps} steps,"
        f" {SCHEDULE.batch} images a step of a teacher, {GENERIC_BATCH} of each category where several are trained together. Measured on {EVALUATED['test']} test images of the"
        f" category and {EVALUATED['test']} of the others, at threshold 0; nothing was chosen by them.",
        "\n".join(
            [
                f"- {TEACHERS}: each category's own net, f under its own gT.",
                f"- {GROWN}: f of the teacher, an adapter by the default recipe with 0 labels, the gS of the first two.",
                f"- {CONSOLIDATED}: gS of the row above and its adapters, learned on over all ten cells with 0 labels by the default recipe; the first two cells have no teacher"
                " and are held to what they were.",
                f"- {CONSOLIDATED_IMAGES}: the same with 2000 training images of the nine other categories for each cell, without labels. This row was added after the others"
                " were measured; no goal is judged by it.",
                f"- fine-tuning: f of the teacher and gS, without an adapter, learn on from the new category's labels alone, {FINE_TUNING.steps} steps at a rate of"
                f" {FINE_TUNING.learning_rate:g}: all of its training images, or ({SEQUENTIAL_FEW.split(', ')[1]}) a few. Earlier f stay as they were. This rate was not tuned.",
                f"- {JOINT}: all ten from the start, one gS; for what comes later, unattainable.",
            ]
        ),
        f"{machine_line(facts['machine'])} Nets, adapters and consolidation learn in {PRECISION}.{_otherwise(found)} Seconds compare roughly.",
    ]


def _otherwise(found: Found) -> str:
    """Cells that were measured before nets had one precision do not say theirs."""
    silent = sum("precision" not in cell for cell in found)
    by = "learned in bfloat16 or float32, by what the processor had"
    return f" Nets of {silent} cells, of an earlier protocol, {by}." if silent else ""


def _missing(missing: Sequence[str]) -> list[str]:
    if not missing:
        return []
    rows = Counter(key.split("/")[1] for key in missing)
    return [f"{missing_line(len(missing))} By row: {', '.join(f'{row} ({count})' for row, count in rows.items())}."]


def _steps(found: Found) -> str:
    counts = range(FIRST, len(CLASSES) + 1)
    head = ["row", *(str(count) for count in counts), "seeds", "seconds"]
    lines = [line(head), line(["---"] * len(head))]
    for row in ROWS:
        ours = [cell for cell in found if cell["row"] == row]
        if ours:
            shown = [_shown(found, row, count) for count in counts]
            seconds = statistics.median(float(cell.get("seconds", 0)) for cell in ours if cell["count"] > FIRST)
            lines.append(line([row, *shown, str(len({cell["seed"] for cell in ours})), f"{seconds:.0f}"]))
    return "\n".join(lines) + (
        f"\n\nSeconds: a median of the rows {', '.join(STEPWISE)} for one more category, of the others for all."
    )


def _shown(found: Found, row: str, count: int) -> str:
    cells = of(found, row, count).values()
    values = teachers(found, count) if row == TEACHERS else [mean(cell) for cell in cells]
    return spread(values) if values else "-"


def _consolidation(found: Found) -> list[str]:
    distance = differences(found, GROWN, TEACHERS)
    parts = [_distance(distance)] if distance else []
    if any(of(found, row, len(CLASSES)) for row in CONSOLIDATIONS):
        text = (
            "Points of accuracy that consolidation adds. After each step every cell's files and its outputs on"
            f" {PROBED} test images were read again and compared to the bit with those of when it was added."
        )
        parts.append(text + "\n\n" + _added(found))
    return ["## Consolidation", *parts] if parts else []


def _distance(by_seed: dict[int, dict[str, float]]) -> str:
    """Where the distance to the teachers is: the first categories have nothing to learn from."""
    head = ["seed", f"first {FIRST}", f"the other {len(CLASSES) - FIRST}", "all", f"of it in the first {FIRST}"]
    points = {str(seed): _means(each) for seed, each in by_seed.items()}
    points["mean"] = [statistics.mean(values) for values in zip(*points.values(), strict=True)]
    lines = [line(head), line(["---"] * len(head))]
    for seed, (first, others, whole) in points.items():
        share = f"{100 * first * FIRST / (whole * len(CLASSES)):.0f} %" if whole > 0 else "-"
        lines.append(line([seed, f"{first:.2f}", f"{others:.2f}", f"{whole:.2f}", share]))
    text = (
        f"Points of the teachers' mean over that of the transplants. The first {FIRST} categories were trained together with gS, have no teacher to learn on from, and"
        " are held to what they were."
    )
    return text + "\n\n" + "\n".join(lines)


def _means(points: dict[str, float]) -> list[float]:
    """Over the first categories, over the others, over all."""
    return [*shares(points), statistics.mean(points.values())]


def _added(found: Found) -> str:
    head = [
        "row",
        "seed",
        f"first {FIRST}",
        f"the other {len(CLASSES) - FIRST}",
        "all",
        "worst cell",
        "steps",
        "seconds",
    ]
    lines = [line(head), line(["---"] * len(head))]
    for row in CONSOLIDATIONS:
        for seed, points in differences(found, GROWN, row).items():
            cell = of(found, row, len(CLASSES))[seed]
            worst = min(points, key=points.__getitem__)
            steps = "unchanged" if cell["unchanged"] else str(cell["steps"])
            harmed = f"{points[worst]:+.2f} ({worst})"
            lines.append(
                line([row, str(seed), *_signed(_means(points)), harmed, steps, f"{float(cell['seconds']):.0f}"])
            )
        if all_ := [_means(points) for points in differences(found, GROWN, row).values()]:
            means = _signed([statistics.mean(values) for values in zip(*all_, strict=True)])
            lines.append(line([row, "mean", *means, "", "", ""]))
    return "\n".join(lines)


def _signed(values: Sequence[float]) -> list[str]:
    return [f"{value:+.2f}" for value in values]


def _categories(found: Found) -> str:
    rows = [row for row in ROWS if of(found, row, len(CLASSES))]
    head = ["category", *rows]
    lines = [line(head), line(["---"] * len(head))]
    for category in CLASSES:
        shown = []
        for row in rows:
            values = [100 * cell["accuracy"][category] for cell in of(found, row, len(CLASSES)).values()]
            shown.append(spread(values))
        lines.append(line([category, *shown]))
    return "\n".join(lines)


def _tuned(tuning: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """What consolidation's recipe was chosen by."""
    if not tuning:
        return []
    head = ["consolidation", "points, mean", "worst cell", "explained before", "after"]
    lines = [line(head), line(["---"] * len(head))]
    for name, by_seed in tuning.items():
        columns = [statistics.mean(each[key] for each in by_seed.values()) for key in ("points", "worst", "was", "is")]
        lines.append(line([name, f"{columns[0]:+.2f}", f"{columns[1]:+.2f}", *(f"{each:.3f}" for each in columns[2:])]))
    seeds = ", ".join(map(str, TUNING_SEEDS))
    text = f"Validation images, seeds {seeds} as far as they were tried; reported are {', '.join(map(str, SEEDS))}."
    return ["## What the recipe was chosen by", text + "\n\n" + "\n".join(lines)]
