"""The public door: cells in, the shared module that learned on from them out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from graftery.consolidate.cells import Cell, check, fingerprint, named, parents, recipe_of
from graftery.consolidate.lessons import Place
from graftery.consolidate.modules import Learning
from graftery.consolidate.reports import Explained, report
from graftery.consolidate.training import Learned, learn
from graftery.errors import RecipeRefused
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop, Progress
from graftery.learning.memory import within_memory
from graftery.learning.repeating import repeatable
from graftery.module import ModuleFile
from graftery.nn.layout import lie_as
from graftery.spec.consolidating import CellReport, Shared
from graftery.spec.manifest import Parent
from graftery.spec.recipes import ConsolidateRecipe, TransplantRecipe
from graftery.transplant.layout import laid_out
from graftery.transplant.nets import Nets, differentiable_twice
from graftery.transplant.sources import Noise

IMAGES = "images."
"""Before the number of a cell, in the name of its inversion's images in a checkpoint."""


@dataclass(frozen=True)
class Consolidated:
    """What a consolidation gives.

    Args:
        module: the shared module, learned on: of the same kind and meaning; what was given, where `unchanged`.
        adapters: by cell, where they learned on, too; else empty, and the cells keep theirs.
        recipe: what was done.
        reports: of each cell, before and after, in their order.
        unchanged: no state was better than the start.
        steps: of the training.
        history: about fifty entries a phase: phase, step and loss.
    """

    module: ModuleFile
    adapters: Mapping[str, ModuleFile]
    recipe: ConsolidateRecipe
    reports: tuple[CellReport, ...]
    unchanged: bool
    steps: int
    history: list[dict[str, float | int | str]] = field(default_factory=list)


def consolidate_task(
    task: ModuleFile,
    cells: Sequence[Cell],
    recipe: ConsolidateRecipe = ConsolidateRecipe(),  # noqa: B008  immutable
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_s: float = 3.0,
    resume: Checkpoint | None = None,
) -> Consolidated:
    """Let a task module gS learn on over the features of several categories: gS(h(f(x))) is to do what gT(f(x)) does, in each cell.

    A cell without a teacher is held to what it answers now. No f, gT or old gS changes by a bit: what comes out is a module of
    its own, and nothing is used in its place before somebody promotes it.

    Args:
        task: gS, the task module of all cells.
        cells: each with its f, h, gT and samples, as far as there are.
        recipe: what it leaves open each cell fills in by what it has (`graftery.spec.plan`).
        device, progress, checkpoint, checkpoint_s, resume: as of `graftery.transplant.transplant`.

    Raises:
        Misfit: `cells_differ`, `shape_mismatch`, `kind_mismatch`.
        RecipeRefused: `recipe_invalid`, `samples_missing`.
        SamplesRefused: samples that do not fit.
        TrainingFailed: `diverged`, `out_of_memory`, `frozen_changed`.

    Source: Zhang et al. 2018 say that it can be done; how is ours (docs/methods/consolidate.md).
    """
    hooks = Loop("train", progress, checkpoint, checkpoint_s, resume)
    return _consolidate("task", task, cells, recipe, hooks, device=torch.device(device))


def consolidate_category(
    category: ModuleFile,
    cells: Sequence[Cell],
    recipe: ConsolidateRecipe = ConsolidateRecipe(),  # noqa: B008  immutable
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[Progress], None] | None = None,
    checkpoint: Callable[[Checkpoint], None] | None = None,
    checkpoint_s: float = 3.0,
    resume: Checkpoint | None = None,
) -> Consolidated:
    """Let a category module f learn on with the gradients of several tasks: gS(h(f(I))) is to do what gT(f_old(I)) does, for each.

    Args:
        category: f, the category module of all cells.
        cells: each with its h, gS, gT and samples, as far as there are.
        recipe, device, progress, checkpoint, checkpoint_s, resume: as of `consolidate_task`.

    Raises:
        GrafteryError: as `consolidate_task` does.

    Source: Zhang et al. 2018 say that it can be done; how is ours (docs/methods/consolidate.md).
    """
    hooks = Loop("train", progress, checkpoint, checkpoint_s, resume)
    return _consolidate("category", category, cells, recipe, hooks, device=torch.device(device))


def _consolidate(
    kind: Shared,
    module: ModuleFile,
    cells: Sequence[Cell],
    recipe: ConsolidateRecipe,
    hooks: Loop,
    *,
    device: torch.device,
) -> Consolidated:
    check(kind, module, cells, recipe)
    recipes = [recipe_of(cell, kind, recipe) for cell in cells]
    hooks = replace(hooks, fingerprint=fingerprint(recipe, cells, recipes))
    with within_memory("use a smaller batch, or fewer cells"), differentiable_twice(), repeatable(device):
        run = _Run.of(kind, module, list(zip(cells, recipes, strict=True)), recipe, device)
        done = run.learn(hooks)
        made, adapters = run.files(done)
        reports = run.reports(done, made, adapters, hooks)
    return Consolidated(made, adapters, recipe, reports, done.unchanged, done.steps, hooks.history)


@dataclass(frozen=True)
class _Run:
    kind: Shared
    recipe: ConsolidateRecipe
    device: torch.device
    places: list[Place]
    shared: Learning
    adapters: dict[str, Learning]
    """Of the cells whose adapters learn on."""

    @classmethod
    def of(
        cls,
        kind: Shared,
        module: ModuleFile,
        cells: Sequence[tuple[Cell, TransplantRecipe]],
        recipe: ConsolidateRecipe,
        device: torch.device,
    ) -> _Run:
        shared = Learning.of(module, device)
        learned = recipe.adapters == "learned"
        adapters = {c.name: Learning.of(c.adapter, device) for c, _ in cells if learned and c.adapter is not None}
        run = cls(kind, recipe, device, [], shared, adapters)
        run = replace(run, places=[run._place(cell, own) for cell, own in cells])
        for place in run.places:
            run._check_batch(place)
        return run

    def _check_batch(self, place: Place) -> None:
        """Images of other cells are one source more where the cell has no such images itself."""
        sources = [*place.recipe.sources]
        if place.unlabelled is None and any(
            other.unlabelled is not None or "inversion" in other.recipe.sources for _, other in self._seen_by(place)
        ):
            sources.append("unlabelled")
        if place.recipe.batch < len(sources):
            raise RecipeRefused(
                f"cell {place.cell.name}: a batch of {place.recipe.batch} has no row for each of its {len(sources)} sources"
                f" {', '.join(sources)}, other cells' images among them",
                hint="make batch larger, name fewer sources, or let cells learn from their own images alone: pooled false",
            )

    def _seen_by(self, place: Place) -> list[tuple[int, Place]]:
        """The other cells whose images this one learns from, each with its number."""
        others = [(index, other) for index, other in enumerate(self.places) if other is not place]
        return [(index, other) for index, other in others if self.recipe.pooled and place.sees(other)]

    def _place(self, cell: Cell, recipe: TransplantRecipe) -> Place:
        category, task = self._net(cell.category), self._net(cell.task)
        was = nn.Identity() if cell.adapter is None else self._net(cell.adapter)
        target = nn.Sequential(was, task) if cell.adapter is not None else task
        if cell.teacher_task is not None:
            target = self._net(cell.teacher_task)
        learning = self.shared.net
        nets = Nets(category, learning if self.kind == "task" else task, target)
        adapter = self.adapters[cell.name].net if cell.name in self.adapters else was
        inputs = Noise(cell.given.input_shape(), cell.category.manifest.preprocessing, recipe)(2, "example")
        with named(cell.name):
            cell.given.check_features(tuple(nets.features(inputs.to(self.device)).shape[1:]))
        example = laid_out(nets, adapter, inputs.to(self.device))
        for net in (adapter, learning):
            lie_as(net, example)
        return Place(cell, self.kind, recipe, nets, adapter, learning if self.kind == "category" else category)

    def _net(self, file: ModuleFile) -> nn.Module:
        return file.net().to(self.device)

    @property
    def _parameters(self) -> dict[str, Tensor]:
        named = {f"{self.kind}/{name}": value for name, value in self.shared.parameters.items()}
        for cell, adapter in self.adapters.items():
            named |= {f"adapter/{cell}/{name}": value for name, value in adapter.parameters.items()}
        return named

    @property
    def _frozen(self) -> list[nn.Module]:
        """All that stays as it is, each once."""
        found: list[nn.Module] = []
        for place in self.places:
            found += [place.nets.category, place.target]
            found += [place.nets.task] if self.kind == "category" else []
            found += [] if place.cell.name in self.adapters else [place.adapter]
        return found

    def learn(self, hooks: Loop) -> Learned:
        """Make the images of the cells' inversions, one cell after the other, then train on all cells at once."""
        hooks.phase_of("train", {})  # refuses a checkpoint of another consolidation
        kept = self._inverted(hooks)
        lessons = [
            place.lesson(kept.get(f"{IMAGES}{index}"), self._others(place, kept), self.recipe.held_out, self.device)
            for index, place in enumerate(self.places)
        ]
        loop = replace(hooks, phase="train", kept=kept, resume=_of_phase(hooks.resume, "train", kept))
        return learn(lessons, self._parameters, self._frozen, self.recipe, loop)

    def _others(self, place: Place, kept: Mapping[str, Tensor]) -> Tensor | None:
        """Images of the other cells that this one's f takes: none of them is labelled."""
        found: list[Tensor] = []
        for index, other in self._seen_by(place):
            of = (other.unlabelled, kept.get(f"{IMAGES}{index}"))
            found += [images for images in of if images is not None]
        return torch.cat(found) if found else None

    def _inverted(self, hooks: Loop) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        for index, place in enumerate(self.places):
            if "inversion" not in place.recipe.sources:
                continue
            name = f"{IMAGES}{index}"
            known = None if hooks.resume is None else hooks.resume.tensors.get(name)
            if known is None:
                resume = _of_phase(hooks.resume, "inversion", kept)
                loop = replace(hooks, phase="inversion", kept=dict(kept), resume=resume)
                known = place.invert(self.device, loop)
            kept[name] = known
        return kept

    def files(self, done: Learned) -> tuple[ModuleFile, dict[str, ModuleFile]]:
        """The shared module and the adapters that learned on, as files; where nothing changed, what was given."""
        if done.unchanged:
            return self.shared.file, {}
        metadata = {"consolidation": self.recipe.model_dump_json()}
        cells = [place.cell for place in self.places]
        made = self.shared.made(parents(self.kind, self.shared.file, cells), metadata)
        adapters = {}
        for cell in cells:
            if cell.name in self.adapters:
                now = self._now(cell, made, {})
                roles = {"adapter": cell.adapter, "category": now.category, "task": now.task}
                lineage = [Parent(role=r, digest=f.content_digest) for r, f in roles.items() if f is not None]
                adapters[cell.name] = self.adapters[cell.name].made(tuple(lineage), metadata)
        return made, adapters

    def _now(self, cell: Cell, made: ModuleFile, adapters: Mapping[str, ModuleFile]) -> Cell:
        adapter = adapters.get(cell.name, cell.adapter)
        if self.kind == "task":
            return replace(cell, task=made, adapter=adapter)
        return replace(cell, category=made, adapter=adapter)

    def reports(
        self, done: Learned, made: ModuleFile, adapters: Mapping[str, ModuleFile], hooks: Loop
    ) -> tuple[CellReport, ...]:
        found = []
        for place, before, after in zip(self.places, done.before, done.after, strict=True):
            now = self._now(place.cell, made, adapters)
            found.append(report(place.cell, now, place.recipe, Explained(before, after), self.device))
            told = Progress("evaluate", len(found), len(self.places), 0.0)
            hooks.note(told)
            hooks.tell(told)
        return tuple(found)


def _of_phase(resume: Checkpoint | None, phase: str, kept: Mapping[str, Tensor]) -> Checkpoint | None:
    """The checkpoint, if it was made where these images were there, and no others."""
    if resume is None or resume.phase != phase:
        return None
    return resume if {name for name in resume.tensors if name.startswith(IMAGES)} == kept.keys() else None
