"""A cell: a clone or a baseline learns on the local set of a seed, and is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.cloning.baselines import Made, Setup, in_chunks, learned
from benchmarks.cloning.dealing import Dealer, Problem, images_and_labels
from benchmarks.cloning.protocol import STEPS, TUNING_KS, TUNING_SEEDS, Cell, Row
from benchmarks.transplant.worlds.base import Split
from graftery.cloning import Cloned, attach, clone, detach
from graftery.cloning.judging import accuracies, locality, logits
from graftery.errors import Misfit, TrainingFailed
from graftery.learning.loop import Progress
from graftery.module import ModuleFile
from graftery.spec.recipes import CloneRecipe

REPLAYED = 256
"""Images whose old logits are compared bit by bit."""


@dataclass(frozen=True)
class Bench:
    """A world's problems, and how rows learn.

    Args:
        chosen: rate and strength of each tuned row.
        tuning_seeds, tuning_ks: what is tuned on.
        trials: choices of a row that are tried, at most.
    """

    dealer: Dealer
    chosen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    steps: int = STEPS
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    tuning_ks: tuple[int, ...] = TUNING_KS
    trials: int | None = None
    progress: Callable[[Progress], None] | None = None

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The figures of a cell on test images; or `refused` and why."""
        problem = self.dealer.problem(cell.seed, cell.k, "test")
        start = time.perf_counter()
        try:
            if cell.row.kind == "clone":
                found = cloned(problem, cell.row, self.progress)
            else:
                choice = self.choice(cell.row)
                found = self.tried(cell.row, problem, choice) | ({"choice": dict(choice)} if choice else {})
        except (Misfit, TrainingFailed) as refusal:
            found = {"refused": refusal.code, "why": str(refusal)}
        seconds = time.perf_counter() - start
        names = [problem.world.classes[at] for at in problem.wanted]
        return {**found, "seconds": seconds, "classes": names, "threads": torch.get_num_threads()}

    def choice(self, row: Row) -> Mapping[str, float]:
        """Its rate and strength, as far as it has any."""
        if row.tuned:
            return self.chosen[row.name]
        return row.choices()[0] if row.rates else {}

    def tried(self, row: Row, problem: Problem, choice: Mapping[str, float]) -> dict[str, Any]:
        """A baseline's figures with this choice."""
        made = self.learned(row, problem, choice)
        x, y = images_and_labels(problem.measured)
        found = accuracies(problem.before(), in_chunks(made.classify, x), y)
        size = sum(weight.numel() for weight in problem.target.file.weights.values())
        return {**found, "added": made.added / size}

    def learned(self, row: Row, problem: Problem, choice: Mapping[str, float]) -> Made:
        """A baseline that has learned with this choice."""
        together = self.dealer.together or problem.world.together
        return learned(row.name, problem, Setup(choice, together, self.steps))

    def problem(self, seed: int, k: int, split: Split) -> Problem:
        return self.dealer.problem(seed, k, split)


def cloned(problem: Problem, row: Row, progress: Callable[[Progress], None] | None) -> dict[str, Any]:
    """A clone's figures, and whether its target is what it was."""
    target = problem.target.file
    before = target.content_digest
    made = made_of(problem, row.changes, progress)
    told = made.metrics | left(problem, made.masked)
    figures = ("original", "original_before", "wanted", "mean", "changed")
    masked = ("source_wanted", "source_unwanted", "masked_wanted", "masked_unwanted")
    return {
        **{name: told[name] for name in (*figures, *masked)},
        "added": told["added"]["parameters_share"],
        "added_flops": told["added"]["flops_share"],
        "position": told["position"]["target"],
        "origin": told["position"]["source"],
        "untouched": untouched(target, made.clone, before, problem),
    }


def made_of(problem: Problem, changes: Mapping[str, Any], progress: Callable[[Progress], None] | None) -> Cloned:
    """What cloning gives, with these changes of the problem's recipe; measured on the problem's images."""
    return clone(
        problem.source.file,
        problem.target.file,
        problem.local,
        [problem.world.classes[at] for at in problem.wanted],
        recipe=CloneRecipe.model_validate({**problem.recipe.model_dump(), **changes}),
        evaluate_on=problem.measured,
        progress=progress,
    )


def left(problem: Problem, masked: ModuleFile) -> dict[str, float | None]:
    """What is left of the source, whose own logits are the same for all rows and k."""
    x, y = images_and_labels(problem.source_measured)
    return locality(problem.source.said(problem.split, x), logits(masked, x), y, range(len(problem.wanted)))


def untouched(target: ModuleFile, made: ModuleFile, digest: str, problem: Problem) -> bool:
    """The target's digest after detaching is the one of before all, and its logits under the clone are the same bits."""
    attached = attach(target, [made])
    back = detach(attached, made.content_digest)
    x = problem.measured.x[spread_rows(len(problem.measured), REPLAYED)]
    alone, under, after = (logits(file, x) for file in (target, attached, back))
    same = torch.equal(alone, under[:, : alone.shape[1]]) and torch.equal(alone, after)
    return same and {target.content_digest, back.content_digest} == {digest}


def spread_rows(count: int, most: int) -> Tensor:
    """Rows over all of so many, which lie class by class; the last one among them."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def quick(bench: Bench) -> Bench:
    """The same in minutes: short trainings, few images to measure on, hardly any choice."""
    recipe = CloneRecipe(localization_steps=40, healing_steps=40, steps=60, views=3)
    world = bench.dealer.world
    dealer = Dealer(
        world,
        bench.dealer.folder,
        recipe,
        schedule=replace(world.schedule, steps=120),
        together=replace(world.together, steps=40),
        most=100,
    )
    return Bench(dealer, steps=40, tuning_seeds=TUNING_SEEDS[:1], tuning_ks=(1,), trials=2, progress=bench.progress)
