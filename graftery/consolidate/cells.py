"""The cells of a generic network that a shared module learns on from: checks, and each cell's own recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.errors import GrafteryError, Misfit, RecipeRefused
from graftery.module import ModuleFile
from graftery.spec.consolidating import MOST_CELLS, Shared
from graftery.spec.fit import check_join
from graftery.spec.manifest import Parent
from graftery.spec.plan import complete
from graftery.spec.recipes import ConsolidateRecipe, Source, TransplantRecipe
from graftery.transplant.crops import CROPS
from graftery.transplant.given import SKETCH, Given
from graftery.transplant.opgraph import batch_norms

FEATURES: frozenset[Source] = frozenset({"moments", "crops"})
"""Sources that give features: a category module, which makes features, learns nothing from them."""
OBJECTIVES = {"distillation": 4.0, "direct": 0.25}
"""Of a cell, where none are named. The gradient term, which helps a transplant, stood in the way here (docs/methods/consolidate.md)."""


@dataclass(frozen=True)
class Cell:
    """A category under a task: gS(h(f(x))), and what tells how good it should be.

    Args:
        name: of its own among the cells.
        category: f.
        task: gS.
        adapter: h; None: gS takes f's features as they are.
        teacher_task: gT, which takes f's features; None: the cell is held to what it answers now.
        samples: labelled samples; the recipe says how many of them are used.
        unlabelled: inputs without labels.
        evaluate_on: labelled samples to measure on; never trained on.
    """

    name: str
    category: ModuleFile
    task: ModuleFile
    adapter: ModuleFile | None = None
    teacher_task: ModuleFile | None = None
    samples: SampleSet | None = None
    unlabelled: SampleSet | None = None
    evaluate_on: SampleSet | None = None

    def shared(self, kind: Shared) -> ModuleFile:
        return self.task if kind == "task" else self.category

    @cached_property
    def given(self) -> Given:
        """The same as a transplant has it, checked.

        Raises:
            Misfit, SamplesRefused: with the cell's name.
        """
        with named(self.name):
            joint = None if self.adapter is None else self.adapter.manifest
            check_join(self.category.manifest, self.task.manifest, adapter=joint, with_adapter=False, force=True)
            return Given(self.category, self.task, self.teacher_task, self.samples, self.unlabelled, self.evaluate_on)


@contextmanager
def named(cell: str) -> Iterator[None]:
    """An error inside says which cell it is about."""
    try:
        yield
    except GrafteryError as error:
        message = f"cell {cell}: {error.message}"
        raise type(error)(message, code=error.code, hint=error.hint, **error.details) from error


def check(kind: Shared, module: ModuleFile, cells: Sequence[Cell], recipe: ConsolidateRecipe) -> None:
    """Refuse cells that no module learns on from.

    Raises:
        Misfit: `cells_differ`; a cell has another module than the one that is to learn on.
        RecipeRefused: `recipe_invalid`; no cell or too many, a name twice, nothing to learn from.
    """
    if not 1 <= len(cells) <= MOST_CELLS:
        raise RecipeRefused(f"there are {len(cells)} cells: a module learns on from 1 to {MOST_CELLS}")
    if len({cell.name for cell in cells}) < len(cells):
        raise RecipeRefused("two cells have the same name", hint="name each cell once")
    others = [cell.name for cell in cells if cell.shared(kind).content_digest != module.content_digest]
    if others:
        raise Misfit(
            f"the {kind} module of {', '.join(others)} is not the one that is to learn on",
            code="cells_differ",
            hint="name only cells of this version",
            cells=others,
        )
    taught = [cell for cell in cells if cell.teacher_task is not None or (cell.samples and recipe.labels != 0)]
    if not taught:
        raise RecipeRefused(
            "no cell has a teacher's task module or a labelled sample: there is nothing to learn",
            hint="name the teacher_task of a cell, or give labelled samples",
        )
    if kind == "category" and recipe.sources and not set(recipe.sources) - FEATURES:
        raise RecipeRefused(
            "moments and crops are features: a category module learns from images",
            hint="name noise, inversion, unlabelled or samples",
        )


def recipe_of(cell: Cell, kind: Shared, recipe: ConsolidateRecipe) -> TransplantRecipe:
    """The cell's own recipe, complete: the terms and sources of this recipe that the cell has what they need for.

    Raises:
        RecipeRefused: `recipe_invalid`, where it has none of them; `samples_missing`, fewer labels than are asked for.
        SamplesRefused: `samples_invalid`; labels of one class.
    """
    given = cell.given
    labels = 0 if given.samples is None else given.samples.labels
    used = min(recipe.labels or 0, labels) if labels == 0 else recipe.labels
    dense = given.meaning.semantics == "segmentation"
    there = _there(cell, kind, labels if used is None else used)
    sources = tuple(source for source in recipe.sources if there[source])
    if recipe.sources and not sources:
        raise RecipeRefused(f"cell {cell.name} has nothing of the sources {list(recipe.sources)}")
    objectives = dict(recipe.objectives or OBJECTIVES)
    if not there["samples"] or (sources and "samples" not in sources):
        objectives = {name: weight for name, weight in objectives.items() if name != "direct"}
    if not objectives:
        raise RecipeRefused(
            f"cell {cell.name} has nothing to learn by {list(recipe.objectives or OBJECTIVES)}: it has no labels",
            hint="name distillation among the objectives, or give the cell samples",
        )
    same = {"batch", "learning_rate", "precision", "augment", "noise", "inversion", "bank", "steps", "stop"}
    fields = {name: getattr(recipe, name) for name in same}
    whole = TransplantRecipe().model_copy(
        update={**fields, "seed": _seed(recipe.seed, cell.name), "objectives": objectives, "sources": sources}
    )
    with named(cell.name):
        found = complete(
            whole.model_copy(update={"labels": used}),
            labels=labels,
            unlabelled=there["unlabelled"],
            teacher_task=True,  # at least what the cell was
            batch_norm=there["inversion"],
            sketch=there["moments"],
            dense=dense,
            image_input=len(given.input_shape()) == 3,
            crops=there["crops"],
        )
        given.check_taught(found)
    # Rounds need an adapter that begins anew.
    return found.model_copy(update={"inversion": found.inversion.model_copy(update={"rounds": 0})})


def _there(cell: Cell, kind: Shared, labels: int) -> dict[Source, bool]:
    nets, given = (cell.category, cell.teacher_task or cell.task), cell.given
    features = kind == "task"
    return {
        "samples": labels > 0,
        "unlabelled": cell.unlabelled is not None,
        "inversion": any(batch_norms(file.net()) for file in nets),
        "moments": features and SKETCH in cell.category.extras and given.is_sketched(given.features_shape()),
        "crops": features and CROPS in cell.category.extras,
        "noise": True,
    }


def _seed(seed: int, cell: str) -> int:
    """Each cell draws its own."""
    return generator(seed, f"cell/{cell}").initial_seed() % 2**53


def parents(kind: Shared, module: ModuleFile, cells: Sequence[Cell]) -> tuple[Parent, ...]:
    """The lineage of what learned on: what it was, and what the cells taught it with."""
    others: list[Parent] = []
    for cell in cells:
        parts = {
            "category" if kind == "task" else "task": cell.category if kind == "task" else cell.task,
            "adapter": cell.adapter,
            "teacher_task": cell.teacher_task,
        }
        others += [Parent(role=role, digest=file.content_digest) for role, file in parts.items() if file is not None]
    return Parent(role=kind, digest=module.content_digest), *dict.fromkeys(others)


def fingerprint(recipe: ConsolidateRecipe, cells: Sequence[Cell], recipes: Sequence[TransplantRecipe]) -> str:
    """sha256 of all that the module depends on."""
    digest = hashlib.sha256(recipe.model_dump_json().encode())
    for cell, own in zip(cells, recipes, strict=True):
        adapter = "none" if cell.adapter is None else cell.adapter.content_digest
        digest.update(f"{cell.name} {adapter} {cell.given.fingerprint(own)}".encode())
    return digest.hexdigest()
