"""The images of the examples: CIFAR-10 where a folder has it, else the digits of scikit-learn.

Values are from 0 to 1 until `World.prepared`. Test images are read for the figures alone; what a protocol fixes was chosen without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks.transplant.worlds import cifar10
from examples.compat.nets import Plain, Residual, design
from graftery.compat import Design
from graftery.data import SampleSet
from graftery.data.streams import generator
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import AugmentRecipe, CompatRecipe

Split = Literal["train", "validation", "test"]
DIGITS = {"train": 900, "validation": 397, "test": 500}
DIGITS_PER_CLASS = 26
"""So that three teams have as many of each: the rarest digit has 80 training images."""


@dataclass(frozen=True)
class World:
    """Images with their classes, and how networks for them are built and trained.

    Args:
        title: in the documents.
        classes: their names.
        images: x uint8 or float [n, C, S, S] from 0 to `white`, and classes int64 [n], by split.
        white: the largest value.
        size: channels, width and halvings of the nets.
        recipe: of networks that are trained from the beginning.
        per_class: training images of a class for each network.
    """

    title: str
    classes: tuple[str, ...]
    images: dict[str, tuple[Tensor, Tensor]]
    white: float
    preprocessing: Preprocessing
    size: tuple[int, int, int]
    recipe: CompatRecipe
    per_class: int

    @property
    def plain(self) -> Design:
        return design(Plain, *self.size)

    def recipe_of(self) -> dict[str, int]:
        """What a page says of the trainings; all else is in its file's defaults."""
        return {"epochs": self.recipe.epochs, "batch": self.recipe.batch, "per_class": self.per_class}

    @property
    def residual(self) -> Design:
        return design(Residual, *self.size)

    def raw(self, split: Split, classes: tuple[str, ...], share: int = 0, seed: int = 0) -> SampleSet:
        """Images from 0 to 1, labelled by their place in `classes`; of training images, those of one share: no two overlap."""
        x, y = self.images[split]
        rows, labels = [], []
        for label, name in enumerate(classes):
            own = (y == self.classes.index(name)).nonzero()[:, 0]
            if split == "train":
                if len(own) < (share + 1) * self.per_class:
                    raise ValueError(
                        f"{name} has {len(own)} images: too few for {share + 1} shares of {self.per_class}"
                    )
                order = torch.randperm(len(own), generator=generator(seed, f"examples.share.{name}"))
                own = own[order][share * self.per_class :][: self.per_class]
            rows.append(own)
            labels.append(torch.full((len(own),), label))
        return SampleSet(x[torch.cat(rows)].float() / self.white, torch.cat(labels))

    def prepared(self, x: Tensor) -> Tensor:
        """From 0 to 1 to what the nets take."""
        said = self.preprocessing
        mean, std = torch.tensor(said.mean), torch.tensor(said.std)
        return (x - mean[:, None, None]) / std[:, None, None]

    def samples(self, split: Split, classes: tuple[str, ...], share: int = 0, seed: int = 0) -> SampleSet:
        """`raw`, as the nets take it."""
        raw = self.raw(split, classes, share, seed)
        return SampleSet(self.prepared(raw.x), raw.y)


WORLDS = ("cifar10", "digits")


def world_of(data: Path | None, scratch: Path, *, quick: bool, name: str | None = None) -> World:
    """CIFAR-10 where it is, decoded once into `scratch`; else the digits. Or the one that is named."""
    kept = (scratch / "cifar10.npz").exists()
    found = data is not None and any((data / name).exists() for name in ("cifar10.zip", "cifar-10-binary.tar.gz"))
    if name == "digits" or (name is None and not found and not kept):
        return digits(quick=quick)
    source = cifar10.Cifar10(data, scratch)
    images = {split: source.images_of(split) for split in ("train", "validation", "test")}
    recipe = CompatRecipe(epochs=2 if quick else 12, augment=AugmentRecipe(shift=3, flip=True))
    classes = cifar10.CLASSES
    return World(
        f"CIFAR-10{', quick' if quick else ''}",
        classes,
        images,
        255,
        cifar10.PREPROCESSING,
        (3, 16, 2),
        recipe,
        per_class=100 if quick else 400,
    )


def digits(*, quick: bool) -> World:
    """8x8 images, in the splits that the other examples have."""
    data = load_digits()
    x, y = torch.as_tensor(data.images, dtype=torch.float32)[:, None], torch.as_tensor(data.target).long()
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(20260101))
    images, start = {}, 0
    for split, size in DIGITS.items():
        rows = order[start : start + size]
        images[split], start = (x[rows], y[rows]), start + size
    recipe = CompatRecipe(epochs=4 if quick else 20, batch=32)
    said = Preprocessing(mean=(0.3,), std=(0.38,), colour_order="grey")
    names = tuple(str(digit) for digit in range(10))
    return World(
        f"the digits{', quick' if quick else ''}",
        names,
        images,
        16,
        said,
        (1, 8, 0),
        recipe,
        per_class=DIGITS_PER_CLASS,
    )
