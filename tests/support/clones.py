"""Two small classifiers of different widths, cut into modules, and a few images to clone one's classes for the other."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from graftery.cloning import clone
from graftery.compat import Design, found
from graftery.data.samples import SampleSet
from graftery.module import ModuleFile, cut, trace
from graftery.module.joining import join
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import CloneRecipe
from tests.support import files

CUT = "features"
ANIMALS = ("cat", "dog")
BIRDS = ("owl", "jay", "wren")
QUICK: dict[str, Any] = {
    "keep": 0.5,
    "localization_steps": 2,
    "healing_steps": 2,
    "steps": 4,
    "views": 1,
    "tolerance": 1.0,
    "batch": 8,
}
"""A recipe for random weights: nothing is learned, and nothing is refused for it."""
EACH = 6
"""Images of a class."""


class _Classifier(nn.Module):
    """[N, channels, 8, 8] -> logits [N, K], over features [N, width, 4, 4]. `flat`: images of no other size."""

    def __init__(self, classes: int, width: int, channels: int = 1, *, flat: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.block = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.flat = flat
        self.head = nn.Linear(2 * width * (16 if flat else 1), classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.block(self.features(x))
        logits: Tensor = self.head(maps.flatten(1) if self.flat else maps.mean((2, 3)))
        return logits


@cache
def teacher(
    classes: tuple[str, ...] | int, width: int = 4, seed: int = 0, channels: int = 1, *, flat: bool = False
) -> ModuleFile:
    """A whole net with random weights; its output is called `is`, its classes by these names, or by none."""
    torch.manual_seed(seed)
    count, names = (classes, None) if isinstance(classes, int) else (len(classes), classes)
    meaning = OutputMeaning(semantics="classification", class_names=names)
    x = torch.zeros(2, channels, files.SIDE, files.SIDE)
    return trace(_Classifier(count, width, channels, flat=flat).eval(), x, outputs={"is": meaning})


@cache
def parts(
    classes: tuple[str, ...] | int, width: int = 4, seed: int = 0, channels: int = 1
) -> tuple[ModuleFile, ModuleFile]:
    category, tasks = cut(teacher(classes, width, seed, channels), CUT)
    return category, tasks["is"]


def animals() -> tuple[ModuleFile, ModuleFile]:
    """The target's modules: cats and dogs."""
    return parts(ANIMALS)


def birds() -> tuple[ModuleFile, ModuleFile]:
    """The source's: wider, with other classes."""
    return parts(BIRDS, 6, 1)


@cache
def groups() -> tuple[ModuleFile, ModuleFile]:
    """Two groups that ask nothing but the shape of the animals' features."""
    design, x = Design(partial(_Classifier, width=4), CUT), torch.zeros(2, 1, files.SIDE, files.SIDE)
    first, second = (found(design, (), x, description=text) for text in ("one", "another"))
    return first, second


def network(modules: tuple[ModuleFile, ModuleFile]) -> ModuleFile:
    return join(dict(zip(("category", "task"), modules, strict=True)))


@cache
def images(classes: int, each: int = EACH, seed: int = 0) -> SampleSet:
    """Noise, as many images of each class, its labels from 0."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(classes).repeat(each)
    return SampleSet(torch.randn(len(y), 1, files.SIDE, files.SIDE, generator=generator), y)


@cache
def samples(classes: int, each: int = EACH, seed: int = 0) -> bytes:
    """`images` as the bytes of a file."""
    made = images(classes, each, seed)
    assert made.y is not None
    return save({"x": made.x, "y": made.y})


@cache
def made(
    want: tuple[str, ...] = ("owl",),
    position: str = "category.features.3",
    seed: int = 0,
    source: tuple[str, ...] = BIRDS,
) -> ModuleFile:
    """A clone for the animals: of some birds, or of another net of the same form."""
    recipe = CloneRecipe.model_validate({**QUICK, "positions": (position,), "seed": seed})
    local = images(len(ANIMALS) + len(want))
    return clone(network(parts(source, 6, 1)), network(animals()), local, want, recipe=recipe).clone
