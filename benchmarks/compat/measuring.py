"""A cell: train its networks, unless they are there, split them at its depth, and recombine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.compat.nets import ResNet8
from benchmarks.compat.protocol import DEPTHS, PER_CLASS, RECIPE, RESTATED, Cell, Setting
from benchmarks.locks import held
from benchmarks.resuming import resumed
from benchmarks.transplant.worlds.base import Split
from benchmarks.transplant.worlds.cifar10 import CLASSES, PREPROCESSING, Cifar10, normalised
from benchmarks.writing import write_whole
from graftery.compat import Design, Matrix, Task, Trained, found, recombine, train
from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Progress
from graftery.module import ModuleFile, cut
from graftery.spec.manifest import CompatMethod
from graftery.spec.recipes import CompatRecipe


@dataclass(frozen=True)
class Bench:
    """Data, where nets are kept, and how they are trained.

    Args:
        nets: folder; a network that is there is not trained again.
        per_class, recipe: of the protocol, unless it is to be quick.
        progress: of a training.
        judged: the split that figures are of.
    """

    world: Cifar10
    nets: Path
    per_class: int = PER_CLASS
    recipe: CompatRecipe = RECIPE
    progress: Callable[[Progress], None] | None = None
    judged: Split = "test"

    def measure(self, cell: Cell) -> dict[str, Any]:
        """The cell's matrices and own accuracies."""
        tasks, extractors, heads = self.parts(cell)
        tests = {task.name: task.test for task in tasks if task.test is not None}
        plain = recombine(extractors, heads, tests, force=True)
        images = {task.name: restated_on(task.train.x, cell.seed) for task in tasks}
        restated = recombine(extractors, heads, tests, statistics=images, force=True)
        return {
            **_figures(plain),
            "restated": restated.recombined,
            "restated_raw": restated.raw.tolist(),
            "classes": {task.name: list(task.classes) for task in tasks},
            "images": len(tasks[0].train),
            "threads": torch.get_num_threads(),
        }

    def parts(self, cell: Cell) -> tuple[list[Task], dict[str, ModuleFile], dict[str, ModuleFile]]:
        """The cell's tasks, and their networks as extractors and heads."""
        tasks = self.tasks(cell.setting, cell.depth, cell.seed)
        layer = DEPTHS[cell.depth]
        parts = {name: cut(net, layer) for name, net in self._trained(cell, tasks).items()}
        extractors = {name: extractor for name, (extractor, _) in parts.items()}
        return tasks, extractors, {name: made[name] for name, (_, made) in parts.items()}

    def tasks(self, setting: Setting, depth: str, seed: int) -> list[Task]:
        """Classes are dealt by the seed; of a class that several tasks have, each task has other images."""
        order = torch.randperm(len(CLASSES), generator=generator(seed, "benchmark.compat.classes")).tolist()
        common, rest = order[: setting.common], order[setting.common :]
        design = Design(ResNet8, DEPTHS[depth])
        made = []
        for index in range(setting.tasks):
            classes = [*common, *rest[index * setting.own :][: setting.own]]
            train_set = self._samples("train", classes, index, setting.tasks)
            test = self._samples(self.judged, classes, 0, 1)
            made.append(Task(f"task{index}", tuple(CLASSES[c] for c in classes), train_set, design, test))
        return made

    def _samples(self, split: Split, classes: list[int], share: int, shares: int) -> SampleSet:
        """Of each class, the `share`-th of as many parts."""
        x, y = self.world.images_of(split)
        rows, labels = [], []
        for label, each in enumerate(classes):
            own = (y == each).nonzero()[:, 0]
            part = own[share * (len(own) // shares) :][: len(own) // shares]
            part = part[: self.per_class] if split == "train" else part
            rows.append(part)
            labels.append(torch.full((len(part),), label))
        return SampleSet(normalised(x[torch.cat(rows)]), torch.cat(labels))

    def _trained(self, cell: Cell, tasks: list[Task]) -> dict[str, ModuleFile]:
        """The networks whole."""
        at = cell.depth if cell.method.splits else "any"
        folder = self.nets / f"{cell.setting.name}-{cell.method.name}-{at}-{cell.seed}".replace(" ", "_")
        recipe = self.recipe.model_copy(update={"seed": cell.seed})
        files = {task.name: folder / f"{task.name}.safetensors" for task in tasks}
        with held(self.nets / f"{folder.name}.lock"):  # another process that trains them is waited for
            _only_of(folder, {"per_class": self.per_class, **recipe.model_dump(mode="json")})
            if not all(file.exists() for file in files.values()):
                for name, net in self._train(cell, tasks, recipe, folder).items():
                    net.save(files[name])
                for checkpoint in folder.glob("checkpoint-*"):
                    checkpoint.unlink()
            return {name: ModuleFile.load(file) for name, file in files.items()}

    def _train(self, cell: Cell, tasks: list[Task], recipe: CompatRecipe, folder: Path) -> dict[str, ModuleFile]:
        methods: tuple[CompatMethod, ...] = cell.method.methods
        # Each task has the classes that all have; DCC is about these.
        common = {name: (name,) for name in tasks[0].classes[: cell.setting.common]}
        image = tasks[0].train.x[:2]
        group = found(tasks[0].design, methods, image, common=common, preprocessing=PREPROCESSING, seed=cell.seed)
        rounds = [[task] for task in tasks] if cell.method.incremental else [tasks]
        nets: dict[str, ModuleFile] = {}
        for index, together in enumerate(rounds):
            kept = folder / f"checkpoint-{index}"
            learn = partial(
                train, together, group, recipe, progress=self.progress, checkpoint=partial(_save, kept), checkpoint_s=60
            )
            made = resumed(kept, partial(_from, learn))
            group = made.group
            nets |= {name: member.net for name, member in made.members.items()}
        return nets


def _save(path: Path, state: Checkpoint) -> None:
    state.save(path)


def _from(learn: Callable[..., Trained], checkpoint: Checkpoint | None) -> Trained:
    return learn(resume=checkpoint)


def _only_of(folder: Path, trained: dict[str, Any]) -> None:
    """Forget networks and checkpoints of a folder that learned otherwise than this."""
    said = folder / "trained.json"
    if not said.exists() or json.loads(said.read_text()) != trained:
        shutil.rmtree(folder, ignore_errors=True)
        write_whole(said, json.dumps(trained, indent=1, sort_keys=True))


def restated_on(x: Tensor, seed: int) -> Tensor:
    """Of a task's training images, which lie class by class, those that batch norms are re-estimated on: of all classes."""
    return x[torch.randperm(len(x), generator=generator(seed, "benchmark.compat.restated"))[:RESTATED]]


def quick(bench: Bench) -> Bench:
    """The same in minutes: few images, two epochs."""
    return replace(bench, per_class=150, recipe=RECIPE.model_copy(update={"epochs": 2}))


def _figures(matrix: Matrix) -> dict[str, Any]:
    own = matrix.raw.diagonal()
    return {
        "recombined": matrix.recombined,
        "normalised": matrix.normalised.tolist(),
        "raw": matrix.raw.tolist(),
        "chance": matrix.chance.tolist(),
        "own": float(own.mean()),
    }
