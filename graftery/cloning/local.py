"""The local set: the few images that a skill is cloned with.

Shapes: n images, R views of them, K the target's classes, k wanted ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.data.augment import augment
from graftery.data.noise import noise_images
from graftery.data.samples import SampleSet
from graftery.data.streams import generator
from graftery.errors import SamplesRefused
from graftery.spec.cloning import CLONE_NOISE_RATE, FEWEST_IMAGES
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import CloneRecipe

UNKNOWN = -1
"""The label of noise and of mixed original images: what the target says of them is right."""
OF_SOURCE = -2
"""The label of mixed wanted images: what the source says of them is right."""
NOISE_IMAGES = 512
"""Noise images that stand for the target's classes."""


@dataclass(frozen=True)
class Local:
    """Inputs and what they show.

    Args:
        x: [n, ...].
        y: int64 [n]: the target's classes from 0, then the wanted ones from K; -1 for noise; -1 and -2 for mixed images.
        known: K.
        mixed: so many of the last ones are mixed images.
    """

    x: Tensor
    y: Tensor
    known: int
    mixed: int = 0

    @property
    def labelled(self) -> Local:
        """All but the mixed images."""
        count = len(self.y) - self.mixed
        return Local(self.x[:count], self.y[:count], self.known)

    @property
    def wanted(self) -> Tensor:
        """Where wanted classes are."""
        return (self.y >= self.known).nonzero()[:, 0]

    @property
    def original(self) -> Tensor:
        """Where the target's classes, or noise, are."""
        return (self.y < self.known).nonzero()[:, 0]

    def take(self, rows: Tensor) -> Local:
        return Local(self.x[rows], self.y[rows], self.known)

    def views(self, recipe: CloneRecipe, stream: str) -> Local:
        """The images as they are, and augmented, `recipe.views` of each; noise is not augmented."""
        made = [self.x]
        for view in range(1, recipe.views):
            changed = augment(self.x, recipe.augment, generator(recipe.seed, f"{stream}.views", view))
            shown = (self.y != UNKNOWN).view(-1, *[1] * (self.x.ndim - 1))
            made.append(torch.where(shown, changed, self.x))
        return Local(torch.cat(made), self.y.repeat(recipe.views), self.known)

    def split(self, share: float, seed: int) -> tuple[Local, Local]:
        """Two parts, the second with this share of each class, at least one image, and not all."""
        second: list[Tensor] = []
        for label in torch.unique(self.y).tolist():
            rows = (self.y == label).nonzero()[:, 0]
            order = rows[torch.randperm(len(rows), generator=generator(seed, "held out", label + 1))]
            second.append(order[: min(len(rows) - 1, max(1, round(share * len(rows))))])
        held = torch.zeros(len(self.y), dtype=torch.bool)
        held[torch.cat(second)] = True
        return self.take((~held).nonzero()[:, 0]), self.take(held.nonzero()[:, 0])


@dataclass(frozen=True)
class Balanced:
    """Rows of a step: half of wanted classes, half of the others, every class as frequent as the others of its half.

    Args:
        halves: rows and their weights; the wanted ones first.
        size: of a batch, at least 2.
        seed: what is drawn depends on it, on the stream and on the step.
    """

    halves: tuple[tuple[Tensor, Tensor], ...]
    size: int
    seed: int

    @classmethod
    def of(cls, local: Local, size: int, seed: int) -> Balanced:
        halves = []
        for rows in (local.wanted, local.original):
            counts = torch.bincount(local.y[rows] + 1)
            halves.append((rows, 1.0 / counts[local.y[rows] + 1]))
        return cls(tuple(halves), size, seed)

    def __call__(self, stream: str, step: int) -> Tensor:
        """Indices, the first half of wanted classes."""
        random = generator(self.seed, stream, step)
        count = self.size // 2
        return torch.cat(
            [
                rows[torch.multinomial(weights, count, replacement=True, generator=random)]
                for rows, weights in self.halves
            ]
        )


def effective(recipe: CloneRecipe) -> CloneRecipe:
    """What is done: noise tells too little of where original images lie for margins, mixtures, dropout, learning on and a high rate."""
    if recipe.originals == "images":
        return recipe
    off = {"learn_on": False, "mixed": 0, "margin_original": 0.0, "margin_wanted": 0.0, "dropout": 0.0}
    return recipe.model_copy(update={**off, "learning_rate": min(recipe.learning_rate, CLONE_NOISE_RATE)})


def local_set(
    samples: SampleSet,
    known: Sequence[str],
    wanted: Sequence[str],
    recipe: CloneRecipe,
    preprocessing: Preprocessing | None = None,
) -> Local:
    """Check a local set, and add noise where it stands for the target's classes.

    Args:
        samples: y is int64 [n]: the target's classes from 0, then the wanted ones.
        known, wanted: names of the target's classes and of the wanted ones.
        preprocessing: of the images, for noise.

    Raises:
        SamplesRefused: `samples_invalid`, labels that are none of these; `samples_missing`, too few of a class.
    """
    classes = [*known, *wanted]
    y = samples.y
    if y is None or y.ndim != 1 or bool((y != y.round()).any() if y.is_floating_point() else False):
        raise SamplesRefused(
            f"the images to clone with need a label each: 0 to {len(classes) - 1}",
            hint="first the target's classes, then the wanted ones",
        )
    y = y.long()
    if int(y.min()) < 0 or int(y.max()) >= len(classes):
        raise SamplesRefused(
            f"the labels are {int(y.min())} to {int(y.max())}, the classes 0 to {len(classes) - 1}",
            hint=f"first the target's {len(known)} classes, then the wanted {len(wanted)}",
        )
    with_noise = recipe.originals == "noise"
    counts = torch.bincount(y, minlength=len(classes)).tolist()
    for index, (name, count) in enumerate(zip(classes, counts, strict=True)):
        needed = 0 if with_noise and index < len(known) else FEWEST_IMAGES
        if count < needed:
            raise SamplesRefused(
                f"the class {name!r} has {count} images, {needed} are needed",
                code="samples_missing",
                hint="give more"
                + ("" if index >= len(known) else '; or take noise instead of the target\'s images: originals "noise"'),
            )
    x = samples.x.float()
    if not with_noise:
        return Local(x, y, len(known))
    shown = y >= len(known)  # of the target's classes nothing is used
    noise = _noise(tuple(x.shape[1:]), preprocessing, recipe)
    unknown = torch.full((len(noise),), UNKNOWN)
    return Local(torch.cat([x[shown], noise]), torch.cat([y[shown], unknown]), len(known))


def _noise(shape: tuple[int, ...], preprocessing: Preprocessing | None, recipe: CloneRecipe) -> Tensor:
    random = generator(recipe.seed, "clone noise")
    if len(shape) != 3:
        return torch.randn((NOISE_IMAGES, *shape), generator=random)
    channels, height, width = shape
    return noise_images((NOISE_IMAGES, channels, height, width), preprocessing, recipe.noise, random)
