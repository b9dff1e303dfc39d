"""Feature sources: where the features come from on which student and teacher are compared.

Shapes: B rows of a batch.
Source: `samples` Zhang et al. 2018; the others are ours (docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.data.augment import augment
from graftery.data.noise import noise_images
from graftery.data.placing import onto
from graftery.data.samples import SampleSet
from graftery.data.streams import generator
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import Source, TransplantRecipe
from graftery.transplant.moments import gaussian_features

Draw = Callable[[int, int], tuple[Tensor, Tensor | None]]
"""(step, count) to inputs or features [count, ...] and labels, if there are any. A function of its arguments only."""


@dataclass(frozen=True)
class Batch:
    """Features [B, ...]; `labels` belong to the first `len(labels)` rows.

    What gT says of them is there where it was computed before: its output, the directions G [B, ...], and its gradient in
    them, shaped like the features.
    """

    features: Tensor
    labels: Tensor | None = None
    teacher: Tensor | None = None
    direction: Tensor | None = None
    gradient: Tensor | None = None


def shares(size: int, parts: int) -> list[int]:
    """A batch's rows from each of its sources: as equal as can be."""
    return [size // parts + (index < size % parts) for index in range(parts)]


@dataclass(frozen=True)
class Batches:
    """The batch of a step, in equal parts from every source. Labelled samples come first.

    Args:
        draws: sources of inputs.
        features: sources of features, which need no f.
        category: f without a graph.
        size: rows of a batch.
    """

    draws: Mapping[Source, Draw]
    features: Mapping[Source, Draw]
    category: Callable[[Tensor], Tensor]
    size: int

    @property
    def parts(self) -> int:
        """How many sources there are."""
        return len(self.draws) + len(self.features)

    def __call__(self, step: int) -> Batch:
        counts = shares(self.size, self.parts)
        given = [draw(step, count) for draw, count in zip(self.draws.values(), counts, strict=False)]
        ready = [draw(step, count) for draw, count in zip(self.features.values(), counts[len(given) :], strict=True)]
        computed = [self.category(torch.cat([inputs for inputs, _ in given]))] if given else []
        labels = [y for _, y in given if y is not None]
        return Batch(torch.cat([*computed, *(x for x, _ in ready)]), labels[0] if labels else None)


@dataclass(frozen=True)
class Noise:
    """Inputs from noise: dead leaves for images [C, H, W]; Gaussian for inputs of any other shape.

    Args:
        shape: of one input.
        preprocessing: of f's input, if it is known.
        recipe: seed and noise recipe.
    """

    shape: tuple[int, ...]
    preprocessing: Preprocessing | None
    recipe: TransplantRecipe

    def __call__(self, count: int, stream: str, step: int = 0) -> Tensor:
        """`count` inputs, a function of the arguments only."""
        random = generator(self.recipe.seed, stream, step)
        if len(self.shape) != 3:
            return torch.randn((count, *self.shape), generator=random)
        channels, height, width = self.shape
        return noise_images((count, channels, height, width), self.preprocessing, self.recipe.noise, random)

    def draw(self, device: torch.device) -> Draw:
        return lambda step, count: (onto(self(count, "noise", step), device), None)


def from_images(images: Tensor, stream: str, recipe: TransplantRecipe, device: torch.device) -> Draw:
    """Rows of a set of inputs, drawn with replacement and lightly augmented."""
    return from_samples(SampleSet(images), stream, recipe, device, balanced=False)


def from_samples(
    samples: SampleSet, stream: str, recipe: TransplantRecipe, device: torch.device, *, balanced: bool
) -> Draw:
    """Samples drawn with replacement and lightly augmented; balanced, every class is as frequent as the others."""
    weights = _class_weights(samples.y) if balanced and samples.y is not None else torch.ones(len(samples))

    def draw(step: int, count: int) -> tuple[Tensor, Tensor | None]:
        rows = torch.multinomial(weights, count, replacement=True, generator=generator(recipe.seed, stream, step))
        inputs = samples.x[onto(rows, samples.x.device)]
        labels = None if samples.y is None else samples.y[rows]
        if labels is None or labels.ndim < 3:
            inputs = augment(inputs, recipe.augment, generator(recipe.seed, f"{stream}.augment", step))
        elif labels.shape[-2:] == inputs.shape[2:]:
            # The labels of pixels move with their image: the same stream draws the same shifts.
            inputs, moved = (
                augment(each, recipe.augment, generator(recipe.seed, f"{stream}.augment", step))
                for each in (inputs, labels.reshape(len(labels), -1, *labels.shape[-2:]))
            )
            labels = moved.reshape(labels.shape)
        # Labels of another resolution would have to move by parts of a pixel: their images stay where they are.
        return onto(inputs, device), None if labels is None else onto(labels, device)

    return draw


def from_moments(tensors: Mapping[str, Tensor], recipe: TransplantRecipe, device: torch.device) -> Draw:
    """Gaussian features with the moments of a sketch."""

    def draw(step: int, count: int) -> tuple[Tensor, None]:
        random = generator(recipe.seed, "moments", step)
        return onto(gaussian_features(tensors, count, recipe.moments.directions, random), device), None

    return draw


def _class_weights(labels: Tensor) -> Tensor:
    _, index, counts = torch.unique(labels.flatten(), return_inverse=True, return_counts=True)
    weights: Tensor = 1 / counts[index].double()
    return weights
