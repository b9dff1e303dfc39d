"""The nets of a seed, each trained once and kept: joint ones, adapters, consolidated task modules, fine-tuned ones."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.generic.protocol import DEPTH, FIRST, TASK
from benchmarks.locks import held
from benchmarks.resuming import resumed
from benchmarks.transplant.digests import digest
from benchmarks.transplant.worlds.cifar10 import Cifar10
from benchmarks.transplant.zoo import Zoo
from graftery.consolidate import Cell, consolidate_task
from graftery.learning.loop import Progress
from graftery.module import ModuleFile, cut
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.transplant import transplant

Say = Callable[[str], None]
Make = Callable[[], tuple[Mapping[str, ModuleFile], dict[str, object]]]


@dataclass(frozen=True)
class Kept:
    """Files that were made together, and what is known of them."""

    files: dict[str, ModuleFile]
    facts: dict[str, object]


class Store:
    """Folders of module files; one that is there is whole. What is made of other files, or otherwise, is another folder.

    Args:
        folder: where they are.
        say: told before something is made.
    """

    def __init__(self, folder: Path, say: Say = print) -> None:
        self._folder, self._say = folder, say

    def __call__(self, name: str, make: Make, *of: Any) -> Kept:
        """Args: `of`, all that it is made of, as JSON: digests of files, recipes."""
        folder = self._folder / f"{name}-{digest(*of)}"
        with held(self._folder / f"{folder.name}.lock"):  # another process that makes them is waited for
            if not folder.exists():
                self._say(f"making {name}")
                files, facts = make()
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
                for each, file in files.items():
                    file.save(part / f"{each}.safetensors")
                (part / "facts.json").write_text(json.dumps(facts))
                part.rename(folder)  # last: what was cut short is made again
        files = {path.stem: ModuleFile.load(path) for path in sorted(folder.glob("*.safetensors"))}
        return Kept(files, json.loads((folder / "facts.json").read_text()))


@dataclass(frozen=True)
class Nets:
    """The nets of a seed, whose categories come in this order.

    Args:
        zoo: of the teachers, the same as those of `benchmarks.transplant`.
        store: of all others.
        transplants, consolidation: their recipes; the defaults but for what a quick run shortens.
        progress: of what takes long.
    """

    zoo: Zoo
    store: Store
    seed: int
    order: tuple[str, ...]
    transplants: TransplantRecipe
    consolidation: ConsolidateRecipe
    progress: Callable[[Progress], None] | None = None

    @property
    def world(self) -> Cifar10:
        assert isinstance(self.zoo.world, Cifar10)
        return self.zoo.world

    def teacher(self, category: str) -> tuple[ModuleFile, ModuleFile]:
        """Its f and gT."""
        f, tasks = self.world.parts(self.zoo.teacher(category, self.seed, [TASK]), DEPTH)
        return f, tasks[TASK]

    def together(self, categories: Sequence[str]) -> tuple[dict[str, ModuleFile], ModuleFile, float]:
        """Trained together: the f of each category, the gS of all, and the seconds."""

        def make() -> tuple[Mapping[str, ModuleFile], dict[str, object]]:
            made = self.world.generic_nets(categories, self.seed, DEPTH, [TASK])
            return {name: net.file for name, net in made.items()}, {"seconds": made[categories[0]].seconds}

        learned = self.world.learned_by(len(categories), [TASK])
        kept = self.store(f"joint-{'+'.join(categories)}-{self.seed}", make, learned)
        parts = {name: cut(kept.files[name], self.world.cuts[DEPTH]) for name in categories}
        shared = parts[categories[0]][1][TASK]
        return {name: f for name, (f, _) in parts.items()}, shared, float(str(kept.facts["seconds"]))

    def cell(self, category: str) -> Cell:
        """A category in the grown network: from the generic net, or transplanted with no label."""
        first, shared, _ = self.together(self.order[:FIRST])
        if category in first:
            return Cell(category, first[category], shared)
        f, own = self.teacher(category)
        return Cell(category, f, shared, self.adapter(category).files["adapter"], own)

    def adapter(self, category: str) -> Kept:
        """Of the default recipe."""
        _, shared, _ = self.together(self.order[:FIRST])
        f, own = self.teacher(category)
        recipe = self.transplants.model_copy(update={"labels": 0, "seed": self.seed})

        def make() -> tuple[Mapping[str, ModuleFile], dict[str, object]]:
            began_s = time.perf_counter()
            made = transplant(f, shared, teacher_task=own, recipe=recipe, progress=self.progress)
            facts = {"seconds": time.perf_counter() - began_s, "agreement": made.metrics["agreement"]}
            return {"adapter": made.adapter}, {**facts, "steps": made.metrics["steps"]}

        of = [file.content_digest for file in (f, own, shared)]
        name = f"adapter-{category}-{'+'.join(self.order[:FIRST])}-{self.seed}"
        return self.store(name, make, of, recipe.model_dump(mode="json"))

    def consolidated(self, checkpoint: Path, *, images: bool = False) -> Kept:
        """gS, and the adapters, after they learned on over all cells, with no label; a training that was stopped goes on.

        Args:
            images: each cell has unlabelled training images, of the nine other categories.
        """
        cells = [self.cell(category) for category in self.order]
        recipe = self.consolidation.model_copy(update={"seed": self.seed})

        def make() -> tuple[Mapping[str, ModuleFile], dict[str, object]]:
            seen = [replace(c, unlabelled=self.world.unlabelled(c.name)) for c in cells] if images else cells
            began_s = time.perf_counter()
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            learn = partial(
                consolidate_task,
                cells[0].task,
                seen,
                recipe,
                progress=self.progress,
                checkpoint=lambda state: state.save(checkpoint),
                checkpoint_s=60,
            )
            done = resumed(checkpoint, lambda kept: learn(resume=kept))
            checkpoint.unlink(missing_ok=True)
            told = [report.model_dump(mode="json", include={"cell", "before", "after"}) for report in done.reports]
            facts = {"seconds": time.perf_counter() - began_s, "steps": done.steps, "unchanged": done.unchanged}
            adapters = {f"adapter-{category}": file for category, file in done.adapters.items()}
            return {"task": done.module, **adapters}, {**facts, "reports": told}

        name = "consolidated-images" if images else "consolidated"
        files = [(cell.category, cell.task, cell.adapter, cell.teacher_task) for cell in cells]
        of = [[None if file is None else file.content_digest for file in each] for each in files]
        return self.store(f"{name}-{'+'.join(self.order)}-{self.seed}", make, of, recipe.model_dump(mode="json"))
