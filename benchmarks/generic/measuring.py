"""Measuring a cell: the accuracy of each category so far, on test images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.generic.nets import Nets, Say, Store
from benchmarks.generic.protocol import (
    CONSOLIDATED,
    CONSOLIDATED_IMAGES,
    FINE_TUNING,
    FIRST,
    GROWN,
    JOINT,
    METRIC,
    PROBED,
    TASK,
    TEACHERS,
    Cell,
    dealt,
)
from benchmarks.generic.sequential import fine_tuned, parts
from benchmarks.transplant.worlds.base import Split
from benchmarks.transplant.worlds.cifar10 import CLASSES, Cifar10
from benchmarks.transplant.worlds.learning import PRECISION, Schedule
from benchmarks.transplant.zoo import Zoo
from graftery import consolidate
from graftery.data import SampleSet
from graftery.learning.loop import Progress
from graftery.module import ModuleFile
from graftery.nn.pieces import in_pieces
from graftery.spec.fit import output_of
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.transplant import compose, evaluate

CHUNK = 250
FEATURES_KEPT = 24
"""Test images' features of so many category modules: 25 MB each."""


@dataclass(frozen=True)
class Bench:
    """Data, where nets are kept, and how they are trained.

    Args:
        folder: of the nets.
        count: categories.
        fine_tuning: of the sequential baselines.
        transplants, recipe: of the adapters and of the consolidation.
        split: what is measured on; test, but for the choice of a recipe.
    """

    world: Cifar10
    folder: Path
    count: int = len(CLASSES)
    fine_tuning: Schedule = FINE_TUNING
    transplants: TransplantRecipe = field(default_factory=TransplantRecipe)
    recipe: ConsolidateRecipe = field(default_factory=ConsolidateRecipe)
    split: Split = "test"
    say: Say = print
    progress: Callable[[Progress], None] | None = None
    _features: dict[str, Tensor] = field(default_factory=dict)

    def nets(self, seed: int) -> Nets:
        """The nets of a seed."""
        zoo, store = Zoo(self.world, self.folder, self.say), Store(self.folder / "generic", self.say)
        return Nets(zoo, store, seed, dealt(seed, self.count), self.transplants, self.recipe, self.progress)

    def measure(self, cell: Cell) -> dict[str, Any]:
        """Accuracies by category, and what else is told of the cell."""
        nets = self.nets(cell.seed)
        measures: dict[str, Callable[[Nets, int], dict[str, Any]]] = {
            TEACHERS: self._teachers,
            GROWN: self._grown,
            CONSOLIDATED: self._consolidated,
            CONSOLIDATED_IMAGES: partial(self._consolidated, images=True),
            JOINT: self._joint,
        }
        measured = measures.get(cell.row, partial(self._sequential, cell.row))(nets, cell.count)
        about = {"category": nets.order[cell.count - 1], "threads": torch.get_num_threads(), "precision": PRECISION}
        return {**about, **measured}

    def _teachers(self, nets: Nets, count: int) -> dict[str, Any]:
        own = {category: nets.teacher(category) for category in nets.order[:count]}
        seconds = sum(nets.zoo.teacher(category, nets.seed, [TASK]).seconds for category in own)
        return {"accuracy": {c: self._accuracy(c, f, None, g) for c, (f, g) in own.items()}, "seconds": seconds}

    def _grown(self, nets: Nets, count: int) -> dict[str, Any]:
        """The cells of earlier categories are the same files; that they answer the same is looked at anew."""
        there = [nets.cell(category) for category in nets.order[:count]]
        accuracy = {c.name: self._accuracy(c.name, c.category, c.adapter, c.task) for c in there}
        if count <= FIRST:
            facts: dict[str, Any] = {"seconds": nets.together(nets.order[:FIRST])[2]}
        else:
            facts = nets.adapter(nets.order[count - 1]).facts
        return {"accuracy": accuracy, "bits": self._bits(there), **facts}

    def _consolidated(self, nets: Nets, count: int, *, images: bool = False) -> dict[str, Any]:
        name = f"consolidating{'-images' if images else ''}-{nets.seed}.checkpoint"
        kept = nets.consolidated(self.folder / "generic" / name, images=images)
        there = [nets.cell(category) for category in nets.order[:count]]
        task = kept.files["task"]
        adapters = {c.name: kept.files.get(f"adapter-{c.name}", c.adapter) for c in there}
        accuracy = {c.name: self._accuracy(c.name, c.category, adapters[c.name], task) for c in there}
        return {"accuracy": accuracy, "bits": self._bits(there), **kept.facts}

    def _sequential(self, row: str, nets: Nets, count: int) -> dict[str, Any]:
        _, shared = parts(nets, row, count, self.fine_tuning)
        of = {c: parts(nets, row, index + 1, self.fine_tuning)[0] for index, c in enumerate(nets.order[:count])}
        facts = {} if count <= FIRST else fine_tuned(nets, row, count, self.fine_tuning).facts
        return {"accuracy": {c: self._accuracy(c, f, None, shared) for c, f in of.items()}, **facts}

    def _joint(self, nets: Nets, count: int) -> dict[str, Any]:
        own, shared, seconds = nets.together(nets.order[:count])
        return {"accuracy": {c: self._accuracy(c, f, None, shared) for c, f in own.items()}, "seconds": seconds}

    def _accuracy(self, category: str, f: ModuleFile, h: ModuleFile | None, g: ModuleFile) -> float:
        """f's features are kept: it stays the same while gS changes."""
        samples = self.world.samples(category, self.split, TASK)
        name = f"{category} {f.content_digest}"
        if name not in self._features:
            if len(self._features) >= FEATURES_KEPT:
                self._features.clear()
            net = f.net()
            self._features[name] = in_pieces(net, samples.x, CHUNK)
        above = torch.nn.Sequential(*([] if h is None else [h.net()]), g.net())
        found = evaluate(above, SampleSet(self._features[name], samples.y), output_of(g.manifest))
        return round(found[METRIC], 5)

    def _bits(self, cells: Sequence[consolidate.Cell]) -> dict[str, str]:
        """Of each cell a digest of its files, as they are in the store, and of its outputs on test images."""
        found = {}
        for cell in cells:
            digest = hashlib.sha256()
            for file in (cell.category, cell.adapter, cell.task):
                digest.update(b"none" if file is None else file.digest.encode())
            x = self.world.samples(cell.name, self.split, TASK).x[:PROBED]
            with torch.no_grad():
                digest.update(compose(cell.category, cell.adapter, cell.task)(x).numpy().tobytes())
            found[cell.name] = digest.hexdigest()
        return found


def quick(bench: Bench) -> Bench:
    """The same in minutes: four categories, short trainings."""
    bench.world.schedule = replace(bench.world.schedule, steps=24, checks=1)
    shorter = {"steps": 12, "inversion": {"images": 16, "steps": 5}, "bank": {"rows": 128}, "stop": {"every": 4}}
    return replace(
        bench,
        count=4,
        fine_tuning=replace(bench.fine_tuning, steps=8),
        transplants=TransplantRecipe.model_validate(shorter),
        recipe=ConsolidateRecipe.model_validate(shorter),
    )
