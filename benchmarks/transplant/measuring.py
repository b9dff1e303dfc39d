"""Measuring one cell: a row, for one target and seed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.transplant.digests import LENGTH
from benchmarks.transplant.protocol import Row
from benchmarks.transplant.worlds.base import Task, World
from benchmarks.transplant.zoo import Nets, Zoo
from graftery.data import SampleSet
from graftery.module import ModuleFile
from graftery.spec.fit import output_of
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import Transplant, compose, sketch, transplant
from graftery.transplant.evaluation import evaluate

CURVES_OF_SEED = 0
"""Loss curves are kept of one seed: they are for looking at."""


@dataclass(frozen=True)
class Bench:
    """A target, its teacher and the generic net, cut.

    Args:
        world: the samples.
        target: the category.
        seed: of everything.
        category: f.
        shared: gS.
        own: gT.
        task: which of the world's tasks.
    """

    world: World
    target: str
    seed: int
    category: ModuleFile
    shared: ModuleFile
    own: ModuleFile
    task: Task

    @classmethod
    def of(cls, zoo: Zoo, nets: Nets, task: Task) -> Bench:
        """Of nets that are trained if they are not there."""
        (category, own), (_, shared) = (zoo.world.parts(net, nets.depth) for net in zoo.pair(nets))
        return cls(zoo.world, nets.target, nets.seed, category, shared[task.output], own[task.output], task)

    @property
    def digests(self) -> dict[str, str]:
        """Of the nets' parts: what they compute."""
        parts = {"f": self.category, "gS": self.shared, "gT": self.own}
        return {name: file.content_digest[:LENGTH] for name, file in parts.items()}

    def references(self) -> dict[str, dict[str, float]]:
        """The teacher's metrics on test samples, and those of f under gS with no adapter between."""
        return {
            "teacher": self.metrics(None, self.own, "test"),
            "identity": self.metrics(None, self.shared, "test"),
        }

    def cell(self, row: Row) -> dict[str, Any]:
        """Learn the adapter of a row and measure it."""
        tried = [self._learn(row, recipe) for recipe in row.recipes(self.seed, self.task.augment)]
        made, seconds = tried[0]
        if len(tried) > 1:
            made, seconds = max(
                tried, key=lambda each: self._headline(self.metrics(each[0].adapter, self.shared, "validation"))
            )
        agreed = made.metrics["agreement"]
        cell = {
            "metrics": self.metrics(made.adapter, self.shared, "test"),
            "kappa": agreed and agreed["kappa"],
            "seconds": round(seconds, 2),
            "steps": made.metrics["steps"],
            "chosen": _chosen(made.recipe) if len(tried) > 1 else None,
            "sources": list(made.recipe.sources),
            "objectives": dict(made.recipe.objectives),
        }
        if self.seed == CURVES_OF_SEED:
            cell["curve"] = curve(made.history)
            cell["agreements"] = made.metrics.get("watched")
        return cell

    def metrics(self, adapter: ModuleFile | None, task: ModuleFile, split: str) -> dict[str, float]:
        samples = self.world.samples(self.target, split, self.task.output)  # type: ignore[arg-type]
        net = compose(self.category, adapter, task)
        return {name: round(value, 5) for name, value in evaluate(net, samples, output_of(task.manifest)).items()}

    def _headline(self, metrics: Mapping[str, float]) -> float:
        return -metrics[self.task.metric] if self.task.lower_is_better else metrics[self.task.metric]

    def _learn(self, row: Row, recipe: TransplantRecipe) -> tuple[Transplant, float]:
        category = self._sketched(row.crops) if row.sketched else self.category
        began_s = time.perf_counter()
        made = transplant(
            category,
            self.shared,
            teacher_task=self.own,
            recipe=recipe,
            samples=self.world.samples(self.target, "train", self.task.output) if row.labels else None,
            unlabelled=self.world.unlabelled(self.target) if row.unlabelled else None,
        )
        return made, time.perf_counter() - began_s

    def _sketched(self, crops: int) -> ModuleFile:
        images: SampleSet = self.world.samples(self.target, "train", self.task.output)
        return replace(self.category, extras={**self.category.extras, **sketch(self.category, images.x, crops=crops)})


def curve(history: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Steps and losses of the last training: the students of an inversion's rounds learn before h does, and begin at the first step too."""
    told = [(int(entry["step"]), round(float(entry["loss"]), 4)) for entry in history if entry["phase"] == "train"]
    begun = max((at for at in range(1, len(told)) if told[at][0] <= told[at - 1][0]), default=0)
    return [list(point) for point in told[begun:]]


def _chosen(recipe: TransplantRecipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json", include={"learning_rate", "steps", "augment"})
