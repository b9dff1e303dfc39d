"""What moves a clone's accuracy, and where the rest is lost: other recipes, more images, and what it is measured against.

On validation images of the tuning's seeds and k. The table's recipe is the first line, and nothing of the table follows from the others. They
were fixed before any was run; those from the healing of 600 steps on (and healing on mixed images) when the ones before them were known, the last two of these when
the others of them were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.cells import Cells
from benchmarks.cloning.baselines import in_chunks
from benchmarks.cloning.border import border
from benchmarks.cloning.dealing import Problem, images_and_labels
from benchmarks.cloning.measuring import Bench, left, made_of
from benchmarks.cloning.protocol import CLONING, ENSEMBLE, LINEAR, LWF, ROWS, TUNING_KS, TUNING_SEEDS
from benchmarks.cloning.worlds import KINDS, NAMES, Cifar, Digits
from benchmarks.writing import line, machine_line, missing_line, spread, write_whole
from graftery.cloning import attach
from graftery.cloning.judging import accuracies, logits
from graftery.errors import Misfit

COMMAND = "make bench-cloning DATA=FOLDER ARGS=--study"
PAGE = "cloning-study.md"
WORLDS = (Digits.name, Cifar.name)
"""Whose trials the page misses where they are not there."""
MORE = 4
"""Times the images of the local set, where it is larger."""


@dataclass(frozen=True)
class Variant:
    """One thing that is otherwise than in the table.

    Args:
        name: as in the document.
        row: of the protocol, with its rate and strength as they were chosen.
        changes: of a clone's recipe.
        times: as many images in the local set.
    """

    name: str
    row: str = CLONING
    changes: dict[str, Any] = field(default_factory=dict)
    times: int = 1


NO_MARGINS = {"margin_original": 0.0, "margin_wanted": 0.0}
SMALL_MARGINS = {"margin_original": 1.0, "margin_wanted": 0.5}
LONGER = {"localization_steps": 600, "healing_steps": 600}
MIXED = {"healing_mixed": 64}
REST = {**LONGER, **SMALL_MARGINS, **MIXED}
VARIANTS = (
    Variant("cloning, as in the table"),
    Variant("keep 0.7", changes={"keep": 0.7}),
    Variant("keep 1: nothing is masked", changes={"keep": 1.0}),
    Variant("localization and healing: 600 steps each", changes=LONGER),
    Variant("insertion: 600 steps", changes={"steps": 600}),
    Variant("no margins", changes=NO_MARGINS),
    Variant("no margins, no mixed images, no dropout", changes={**NO_MARGINS, "mixed": 0, "dropout": 0.0}),
    Variant(f"{MORE} times the images", times=MORE),
    Variant(f"{MORE} times the images, keep 1", changes={"keep": 1.0}, times=MORE),
    Variant("healing: 600 steps", changes={"healing_steps": 600}),
    Variant("localization: 600 steps, healing: 2000", changes={**LONGER, "healing_steps": 2000}),
    Variant("keep 0.5", changes={"keep": 0.5}),
    Variant("keep 0.5, 600 steps each", changes={"keep": 0.5, **LONGER}),
    Variant("keep 0.5, 600 steps each, margins 1 and 0.5", changes={"keep": 0.5, **LONGER, **SMALL_MARGINS}),
    Variant("keep 0.5, 600 steps each, healing on 64 mixed images", changes={"keep": 0.5, **LONGER, **MIXED}),
    Variant("all of these four", changes={"keep": 0.5, **REST}),
    Variant("all of these four, healing: 2000 steps", changes={"keep": 0.5, **REST, "healing_steps": 2000}),
    Variant("all of these four, keep 0.45", changes={"keep": 0.45, **REST}),
    Variant("all of these four, keep 0.45, healing: 2000 steps", changes={"keep": 0.45, **REST, "healing_steps": 2000}),
    Variant(LWF, LWF),
    Variant(f"{LWF}, {MORE} times the images", LWF, times=MORE),
    Variant(ENSEMBLE, ENSEMBLE),
    Variant(LINEAR, LINEAR),
)


@dataclass(frozen=True)
class Trial:
    """A variant at one k of one seed in a world."""

    world: str
    variant: Variant
    k: int
    seed: int

    @property
    def key(self) -> str:
        return f"{self.world}/{self.k}/{self.variant.name}/{self.seed}"

    @property
    def where(self) -> dict[str, Any]:
        return {"world": self.world, "variant": self.variant.name, "k": self.k, "seed": self.seed}

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Its figures; or `refused`."""
        ours = replace(bench, dealer=replace(bench.dealer, times=self.variant.times))
        try:
            return self._cloned(ours) if self.variant.row == CLONING else self._learned(ours)
        except Misfit as refusal:
            return {"refused": refusal.code}

    def _cloned(self, bench: Bench) -> dict[str, Any]:
        problem = bench.problem(self.seed, self.k, "validation")
        made = made_of(problem, self.variant.changes, bench.progress)
        said = logits(attach(problem.target.file, [made.clone]), problem.measured.x)
        size = {"added": made.metrics["added"]["parameters_share"]}
        return {**_told(problem, said), **left(problem, made.masked), **size}

    def _learned(self, bench: Bench) -> dict[str, Any]:
        (row,) = (row for row in ROWS if row.name == self.variant.row)
        problem = bench.problem(self.seed, self.k, "validation")
        made = bench.learned(row, problem, bench.choice(row))
        return _told(problem, in_chunks(made.classify, problem.measured.x))


def _told(problem: Problem, said: Tensor) -> dict[str, Any]:
    """Of a net's logits of what is measured."""
    _, y = images_and_labels(problem.measured)
    return {**accuracies(problem.before(), said, y), **border(said, y, len(problem.target.known))}


def trials(worlds: Sequence[str], seeds: Sequence[int] = TUNING_SEEDS) -> Iterator[Trial]:
    """All of them in order: world by world, seed by seed."""
    for world in worlds:
        for seed in seeds:
            yield from (Trial(world, variant, k, seed) for variant in VARIANTS for k in TUNING_KS)


def write(kept: Cells, folder: Path) -> None:
    """Write the study's page."""
    missing = sum(not kept.has(trial.key) for trial in trials(WORLDS))
    write_whole(folder / PAGE, page(list(kept), kept.facts, missing))


def page(found: list[dict[str, Any]], facts: dict[str, Any], missing: int) -> str:
    """The document."""
    parts = [
        "# What moves a clone's accuracy, and where the rest is lost",
        f"Written by `{COMMAND}`; every trial is in cloning-study.json.",
        "Each line says what is otherwise than in [cloning.md](cloning.md), on validation images of the seeds that its baselines were tuned on. Nothing of"
        " that table was chosen by these lines. The lines of clones from `healing: 600 steps` on were added when those above them were known, `all of"
        " these four` when the others were: keep 0.5, longer localization and healing, smaller margins, healing on mixed images.",
        "All in %. Mean: of the accuracy on original and on wanted classes. Changed: original-class images whose predicted class is not the target's own. Found: images"
        " whose greatest logit is of the right kind, wanted or original. Within: right, if only the wanted logits are looked at; the original ones alone"
        " give what the target gives. Masked: the accuracy on wanted classes of what was kept of the source, among the source's classes; the whole source's stands"
        " behind it. Added: parameters, of the target's.",
        machine_line(facts["machine"]),
        *([missing_line(missing)] if missing else []),
    ]
    for world in NAMES:
        for k in TUNING_KS:
            if of := [trial for trial in found if (trial["world"], trial["k"]) == (world, k)]:
                parts += [f"## {KINDS[world].title}, {k} wanted class{'es' * (k > 1)}", _table(of)]
    return "\n\n".join(parts) + "\n"


COLUMNS = (
    ("mean", "mean"),
    ("original", "original"),
    ("wanted", "wanted"),
    ("changed", "changed"),
    ("found: original", "original_found"),
    ("found: wanted", "wanted_found"),
    ("within: wanted", "wanted_within"),
    ("masked", "masked_wanted"),
    ("whole source", "source_wanted"),
    ("added", "added"),
)


def _table(found: list[dict[str, Any]]) -> str:
    head = ["what is otherwise", *(name for name, _ in COLUMNS), "seeds"]
    lines = [line(head), line(["---"] * len(head))]
    for variant in VARIANTS:
        if of := [trial for trial in found if trial["variant"] == variant.name]:
            cells = [[100 * trial[figure] for trial in of if figure in trial] for _, figure in COLUMNS]
            lines.append(line([variant.name, *(spread(each) if each else "-" for each in cells), _count(of)]))
    return "\n".join(lines)


def _count(of: list[dict[str, Any]]) -> str:
    refused = sum("refused" in trial for trial in of)
    return f"{len(of)} ({refused} refused)" if refused else str(len(of))
