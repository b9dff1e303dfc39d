"""The results as a page: what was asked, tables, paired differences, a plot."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cells import Cells
from benchmarks.cloning import tuning
from benchmarks.cloning.goals import Found, values, verdicts
from benchmarks.cloning.plots import draw
from benchmarks.cloning.protocol import (
    BEYOND,
    CLONING,
    ENSEMBLE,
    KNOWN,
    KS,
    PER_ORIGINAL,
    PER_WANTED,
    PRECISION,
    ROWS,
    SEEDS,
    STEPS,
    TEMPERATURE,
    TUNING_KS,
    TUNING_SEEDS,
    Row,
    cells,
)
from benchmarks.cloning.tuning import label
from benchmarks.cloning.worlds import KINDS, NAMES, World
from benchmarks.transplant.report import interval
from benchmarks.verdicts import bullet
from benchmarks.writing import line, machine_line, missing_line, spread, write_whole

JUDGED = "mean"


def write(kept: Cells, folder: Path) -> None:
    """Write cloning.md and its plot."""
    found = list(kept)
    if found:
        plots = draw(found, folder)
        missing = [cell.key for cell in cells(NAMES) if not kept.has(cell.key, cell.where)]
        write_whole(folder / "cloning.md", page(found, kept.facts, plots, missing))


def page(
    found: Found, facts: dict[str, Any], plots: Sequence[tuple[str, str]] = (), missing: Sequence[str] = ()
) -> str:
    """The document; `missing` are the keys of cells that are not there yet."""
    parts = [
        "# Partial network cloning",
        f"Written by `{facts['command']}`; every cell is in cloning.json.",
        *_protocol(facts),
        *_missing(missing),
    ]
    for name in NAMES:
        ours = [cell for cell in found if cell["world"] == name]
        if ours:
            parts += _world(name, ours, facts)
    parts += [f"![{title}]({path})" for path, title in plots]
    return "\n\n".join(parts) + "\n"


def _protocol(facts: dict[str, Any]) -> list[str]:
    return [
        f"Each seed deals {KNOWN} classes to the target and {KNOWN} to the source. k of the source's are wanted. Every row has the same local set,"
        f" {PER_WANTED} images of a wanted and {PER_ORIGINAL} of an original class, in the same augmented views; batches are half wanted, half original"
        " images. Only clones learn from mixed images besides, as many again, by both nets' answers: it is part of their method, and no baseline was tried with them. The nets have seen other training images besides, the joint training all of them. Measured on test images of original and wanted"
        " classes, which nothing was chosen by. Mean: of the accuracy on original and the accuracy on wanted classes. Changed: original-class"
        " images whose predicted class is not the one that the target alone gives. Added: parameters, of the target's.",
        "The clone's recipe is the default, with the world's augmentation. Baselines learn"
        f" {STEPS} steps with Adam, cosine to zero, batch norms on the batches' own statistics; LwF has T = {TEMPERATURE:g}. Rates, and the strengths of LwF"
        f" and EWC, were chosen for each world on seeds {_list(TUNING_SEEDS)} with k {_list(TUNING_KS)}, by validation images; where a choice lies at the"
        f" edge of what was tried, up to {BEYOND} more values are tried there. The ensemble's scale and shift learn at a rate of {_rate(ENSEMBLE):g}, which was not"
        f" chosen. The nets, and the joint training, which goes on from the target, learn in {PRECISION} with AdamW, warm-up and cosine to zero.",
        f"Reported are other seeds: mean ± standard deviation over {_list(SEEDS)}. What was tried, and why the recipe is what it is:"
        " [learning on](../decisions/clones-that-learn-on.md), [the op graph](../decisions/cloning-by-the-op-graph.md); what moves it, and where the rest is lost:"
        " [the study](cloning-study.md). A clone that is refused because"
        " too little was left of the skill has no figures and is counted; without healing none is refused.",
        f"{machine_line(facts['machine'])} Seconds are medians under that load, with"
        " the measuring in them, and compare roughly.",
    ]


def _missing(missing: Sequence[str]) -> list[str]:
    """Which cells are not measured, by world and row."""
    if not missing:
        return []
    worlds: dict[str, Counter[str]] = {}
    for key in missing:
        world, _, row, _ = key.split("/")
        worlds.setdefault(world, Counter())[row] += 1
    every, lines = len(KS) * len(SEEDS), []
    for world, rows in worlds.items():
        whole = len(rows) == len(ROWS) and set(rows.values()) == {every}
        told = [row if count == every else f"{row} ({count} of {every})" for row, count in rows.items()]
        lines.append(f"- {KINDS[world].title}: {'nothing is measured' if whole else ', '.join(told)}")
    return [missing_line(len(missing)), "\n".join(lines)]


def _world(name: str, ours: Found, facts: dict[str, Any]) -> list[str]:
    kind = KINDS[name]
    goals = "\n".join(bullet(verdict) for verdict in verdicts(name, ours))
    parts = [f"## {kind.title}", f"{kind.protocol} {_schedules(kind)}", *([kind.remark] if kind.remark else [])]
    parts += ["What was asked:\n\n" + goals]
    parts += ["Mean of original and wanted accuracy, %:\n\n" + _by_k(ours, JUDGED)]
    parts += ["Changed, % of the original classes' images:\n\n" + _by_k(ours, "changed")]
    parts += ["Over all k:\n\n" + _details(ours)]
    parts += _pairs(ours)
    parts += _clones(ours)
    return parts + _tuned(name, facts)


def _schedules(kind: type[World]) -> str:
    """How the nets and the joint training of a world learn."""
    nets, together = kind.schedule, kind.together
    return (
        f"Nets learn {nets.steps} steps of {nets.batch} images with a peak rate of {nets.learning_rate:g}, the joint training {together.steps} of"
        f" {together.batch} with {together.learning_rate:g}."
    )


def _rate(name: str) -> float:
    """Of a row that has only one."""
    ((rate,),) = (row.rates for row in ROWS if row.name == name)
    return rate


def _rows(ours: Found) -> Iterator[tuple[Row, Found]]:
    for row in ROWS:
        of = [cell for cell in ours if cell["row"] == row.name]
        if of:
            yield row, of


def _by_k(ours: Found, figure: str) -> str:
    lines = [line(["row", *(f"k = {k}" for k in KS)]), line(["---"] * (1 + len(KS)))]
    for row, of in _rows(ours):
        shown = [_figure([cell for cell in of if cell["k"] == k], figure) for k in KS]
        lines.append(line([_bold(row), *shown]))
    return "\n".join(lines)


def _figure(of: Found, figure: str) -> str:
    """Mean and spread, with how many seeds where that is not all of them."""
    shown, refused = [100 * cell[figure] for cell in of if figure in cell], sum("refused" in cell for cell in of)
    notes = [*_part(len(shown), len(SEEDS), "seeds"), *([f"{refused} refused"] if refused else [])]
    if not of:
        return "not measured"
    return " ".join([spread(shown) if shown else "-", *([f"({', '.join(notes)})"] if notes else [])])


def _part(count: int, every: int, what: str) -> list[str]:
    """What is said beside a mean that is not over all."""
    return [f"{count} of {every} {what}"] if 0 < count < every else []


def _details(ours: Found) -> str:
    head = ["row", "mean", "original", "wanted", "changed", "added", "cells", "refused", "seconds"]
    lines = [line(head), line(["---"] * len(head))]
    for row, of in _rows(ours):
        there = [cell for cell in of if "refused" not in cell]
        figures = [
            f"{100 * statistics.mean(cell[name] for cell in there):.1f}" if there else "-"
            for name in ("mean", "original", "wanted", "changed", "added")
        ]
        figures[0] += "".join(f" ({part})" for part in _part(len(there), len(KS) * len(SEEDS), "cells"))
        seconds = f"{statistics.median(cell['seconds'] for cell in of):.0f}"
        lines.append(line([_bold(row), *figures, str(len(there)), str(len(of) - len(there)), seconds]))
    before = [cell["original_before"] for cell in ours if "original_before" in cell]
    alone = f"The target alone: {100 * statistics.mean(before):.1f} on its own classes." if before else ""
    return "\n".join(lines) + f"\n\n{alone}"


def _pairs(ours: Found) -> list[str]:
    """Cloning minus each other row, by seed."""
    cloning = values(ours, CLONING, JUDGED)
    lines = []
    for row, _ in _rows(ours):
        theirs = values(ours, row.name, JUDGED)
        if row.name != CLONING:
            shown = [_difference(cloning, theirs, k) for k in KS]
            lines.append(line([row.name, *shown]))
    if not cloning or not lines:
        return []
    head = [line([f"{CLONING} −", *(f"k = {k}" for k in KS)]), line(["---"] * (1 + len(KS)))]
    text = "Paired by seed, points of the mean of original and wanted accuracy, with 95 % intervals (Student's t over seeds):\n\n"
    return [text + "\n".join([*head, *lines])]


def _difference(one: dict[tuple[int, int], float], other: dict[tuple[int, int], float], k: int) -> str:
    both = sorted(key for key in one.keys() & other.keys() if key[0] == k)
    if len(both) < 2:
        return "-"
    mean, low, high = interval([one[key] - other[key] for key in both])
    told = [f"{low:+.1f} to {high:+.1f}", *_part(len(both), len(SEEDS), "seeds")]
    return f"{mean:+.1f} ({'; '.join(told)})"


def _clones(ours: Found) -> list[str]:
    """What localization kept of the source, and where the clones went in."""
    head = ["row, k", "source: wanted", "unwanted", "masked: wanted", "unwanted", "added FLOPs", "positions"]
    lines = [line(head), line(["---"] * len(head))]
    for row, of in _rows(ours):
        for k in KS:
            there = [cell for cell in of if cell["k"] == k and "position" in cell]
            if there and row.kind == "clone":
                names = ("source_wanted", "source_unwanted", "masked_wanted", "masked_unwanted", "added_flops")
                places = Counter(cell["position"] for cell in there).most_common()
                shown = ", ".join(f"{place} ({count})" for place, count in places)
                named = f"{row.name}, {k}" + "".join(f" ({part})" for part in _part(len(there), len(SEEDS), "seeds"))
                lines.append(line([named, *(_percent(there, name) for name in names), shown]))
    text = "What is left of the source (accuracy in %, on its wanted and its other classes), and the layer of the target at which clones go in:\n\n"
    return [text + "\n".join(lines)] if len(lines) > 2 else []


def _percent(of: Found, name: str) -> str:
    values = [100 * cell[name] for cell in of if cell[name] is not None]
    return f"{statistics.mean(values):.1f}" if values else "-"


def _tuned(name: str, facts: dict[str, Any]) -> list[str]:
    picked = tuning.chosen(facts, name)
    if not picked:
        return []
    lines = [line(["row", "rate", "strength", "validation mean, %", "choices tried"]), line(["---"] * 5)]
    for row in (row for row in ROWS if row.name in picked):
        choice, trials = picked[row.name], tuning.trials(facts, name, row)
        tried = tuning.reached(row, trials)
        rate, strength = _chosen(choice["rate"], tried.rates), _chosen(choice["strength"], tried.strengths)
        values = [trials[label(one)] for one in tried.choices() if label(one) in trials]
        lines.append(line([row.name, rate, strength, f"{100 * max(values):.1f}", str(len(values))]))
    return [
        "What was chosen for the baselines; * is the least or the most that was tried (a strength of 0 is fine-tuning):\n\n"
        + "\n".join(lines)
    ]


def _chosen(value: float, tried: Sequence[float]) -> str:
    if len(tried) < 2:
        return "-"
    return f"{value:g} *" if value in (min(tried), max(tried)) else f"{value:g}"


def _bold(row: Row) -> str:
    return f"**{row.name}**" if row.name == CLONING else row.name


def _list(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)
