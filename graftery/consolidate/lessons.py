"""What a cell teaches: inputs, what its target says of them, and the student that learns on.

For a task module inputs are features of f, for a category module they are images: what stands between input and output is
what learns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from graftery.consolidate.cells import Cell
from graftery.data.samples import choose
from graftery.data.streams import generator
from graftery.learning.loop import Loop
from graftery.spec.consolidating import Shared
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import WATCHED_IMAGES, Source, TransplantRecipe
from graftery.transplant.bank import Bank
from graftery.transplant.crops import from_crops
from graftery.transplant.guidance import Guidance
from graftery.transplant.inversion import Inversion
from graftery.transplant.matched import matched_features
from graftery.transplant.nets import Nets
from graftery.transplant.opgraph import op_graph
from graftery.transplant.sources import Batch, Batches, Draw, Noise, from_images, from_moments, from_samples
from graftery.transplant.units import Units

HELD_OUT_STEP = 10**7
"""A step that no training comes to: what a source draws at it was not trained on."""


@dataclass(frozen=True)
class Lesson:
    """A cell, ready to be learned from.

    Args:
        name: the cell's.
        anchored: its target is what it was.
        recipe: its own, complete.
        semantics: of the outputs.
        student: inputs to outputs, through what learns.
        target: inputs to the outputs that the student should have; frozen.
        batches: step to inputs, as `features`, with what the target says of them where that was computed before.
        held_out: groups of inputs [n, ...] that nothing learns from.
        units: of a regression or a feature.
    """

    name: str
    anchored: bool
    recipe: TransplantRecipe
    semantics: Semantics
    student: nn.Module
    target: nn.Module
    batches: Callable[[int], Batch]
    held_out: tuple[Tensor, ...]
    units: Units = field(default_factory=Units)


@dataclass(frozen=True)
class Place:
    """A cell's nets where they are trained.

    Args:
        cell: whose nets they are.
        kind: of what learns on.
        recipe: the cell's own, complete.
        nets: f, gS as it learns on or is, and the target: gT, or gS(h(x)) as they were.
        adapter: h as it learns on or is; the identity where there is none.
        category: f as it learns on; `nets.category`, where it does not.
    """

    cell: Cell
    kind: Shared
    recipe: TransplantRecipe
    nets: Nets
    adapter: nn.Module
    category: nn.Module

    @property
    def noise(self) -> Noise:
        """Inputs of f, from nobody's data."""
        return Noise(self.cell.given.input_shape(), self.cell.category.manifest.preprocessing, self.recipe)

    @property
    def target(self) -> nn.Module:
        assert self.nets.teacher is not None  # noqa: S101  for the type checker
        return self.nets.teacher

    def invert(self, device: torch.device, loop: Loop) -> Tensor:
        """Images of an inversion, on the CPU."""
        start = self.noise(self.recipe.inversion.images, "inversion").to(device)
        example = self.nets.features(start[:2])
        semantics = self.cell.given.meaning.semantics
        invert = Inversion(
            op_graph(self.nets.category, start[:2]),
            op_graph(self.target, example),
            semantics,
            self.noise.preprocessing,
            self.recipe,
            Guidance.of_category(self.cell.category.extras, example, semantics),
        )
        return invert(start, loop).cpu()

    @property
    def unlabelled(self) -> Tensor | None:
        """Images without labels, where the cell learns from them."""
        there = self.cell.unlabelled is not None and "unlabelled" in self.recipe.sources
        return self.cell.unlabelled.x if there and self.cell.unlabelled is not None else None

    def sees(self, other: Place) -> bool:
        """Whether f takes the other cell's images: they are of one shape, and prepared alike."""
        ours, theirs = self.noise, other.noise
        return (ours.shape, ours.preprocessing) == (theirs.shape, theirs.preprocessing)

    def lesson(self, images: Tensor | None, others: Tensor | None, held_out: float, device: torch.device) -> Lesson:
        """The lesson of this cell.

        Args:
            images: of its inversion.
            others: images of other cells.
            held_out: the share of images without labels that are not trained on.
        """
        given: dict[Source, Tensor | None] = {"unlabelled": _pooled(self.unlabelled, others), "inversion": images}
        sets = {source: parted(x, held_out) for source, x in given.items() if x is not None}
        learned = {source: x for source, (x, _) in sets.items()}
        looked_at = [self._inputs(x[:WATCHED_IMAGES].to(device)) for _, x in sets.values() if len(x) > 1]
        if "noise" in self.recipe.sources or not looked_at:
            looked_at.append(self._noise_inputs(WATCHED_IMAGES, "watch", 0, device))
        student: list[nn.Module] = [self.adapter, self.nets.task]
        target = self.target
        if self.kind == "category":
            student, target = [self.category, *student], nn.Sequential(self.nets.category, target)
        rows = Bank.of(self._batches(learned, device), target, self.recipe)
        semantics, samples = self.cell.given.meaning.semantics, self.cell.given.samples
        return Lesson(
            self.cell.name,
            self.cell.teacher_task is None,
            self.recipe,
            semantics,
            nn.Sequential(*student),
            target,
            rows,
            tuple(looked_at),
            Units.of(semantics, None if samples is None else samples.y, target, rows),
        )

    def _inputs(self, images: Tensor) -> Tensor:
        """What the student gets of these images."""
        return images if self.kind == "category" else self.nets.features(images)

    def _noise_inputs(self, count: int, stream: str, step: int, device: torch.device) -> Tensor:
        if self.kind == "category" or not self.recipe.noise.matched:
            return self._inputs(self.noise(count, stream, step).to(device))
        return matched_features(self._category, self.noise, count, stream, step)

    @cached_property
    def _category(self) -> fx.GraphModule:
        """f as a graph of operators."""
        net, example = self.nets.category, self.noise(2, "example")
        device = next((value.device for value in net.parameters()), example.device)
        return op_graph(net, example.to(device))

    def _batches(self, sets: dict[Source, Tensor], device: torch.device) -> Batches:
        recipe, given = self.recipe, self.cell.given
        draws: dict[Source, Draw] = {}
        if "samples" in recipe.sources and given.samples is not None:
            by_class = given.meaning.semantics == "classification"
            chosen = choose(given.samples, recipe.labels or 0, recipe.seed, by_class=by_class)
            draws["samples"] = from_samples(chosen, "samples", recipe, device, balanced=by_class)
        for source, x in sets.items():
            draws[source] = from_images(x, source, recipe, device)
        features: dict[Source, Draw] = {}
        if "noise" in recipe.sources and recipe.noise.matched:
            features["noise"] = lambda step, count: (self._noise_inputs(count, "noise", step, device), None)
        elif "noise" in recipe.sources:
            draws["noise"] = self.noise.draw(device)
        if "moments" in recipe.sources:
            features["moments"] = from_moments(given.category.extras, recipe, device)
        if "crops" in recipe.sources:
            features["crops"] = from_crops(given.category.extras, self._map_size(device), recipe, device)
        return Batches(draws, features, self._inputs, recipe.batch)

    def _map_size(self, device: torch.device) -> tuple[int, int]:
        height, width = self.nets.features(self.noise(2, "example").to(device)).shape[2:]
        return height, width


def _pooled(own: Tensor | None, others: Tensor | None) -> Tensor | None:
    """Images without labels, the cell's own and others, in an order in which first and last ones are of all cells alike."""
    if others is None:
        return own
    whole = others if own is None else torch.cat([own, others])
    return whole[torch.randperm(len(whole), generator=generator(0, "consolidate.pool"))]


def parted(images: Tensor, held_out: float) -> tuple[Tensor, Tensor]:
    """Images to learn from, and those that are only looked at.

    Which one an image is among is said by its own bytes, so that no cell learns from what another one, or a copy of it in
    the pool, holds out. Of so few that none would be left to learn from, all are learned from.

    Args:
        images: [n, ...].
        held_out: the share that is only looked at, about.
    """
    only_looked_at = torch.tensor([_draw(image) < held_out for image in images.cpu()])
    if bool(only_looked_at.all()):
        return images, images[:0]
    return images[~only_looked_at], images[only_looked_at]


def _draw(image: Tensor) -> float:
    """A number in [0, 1) that is the same wherever these bytes are met, and as good as random."""
    digest = hashlib.sha256(image.contiguous().numpy().tobytes()).digest()
    return int.from_bytes(digest[:6]) / 2**48
