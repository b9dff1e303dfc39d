"""What is measured, fixed before anything is run on test images.

A setting says which classes tasks have; a method, what networks are trained against; a depth, where they are split. Classes are dealt
to tasks by the seed, so that no pair of categories was picked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from graftery.spec.manifest import CompatMethod
from graftery.spec.recipes import AugmentRecipe, CompatRecipe

SEEDS = (0, 1, 2)
"""Of the dealt classes, the networks and the draws alike."""
DEPTHS = {"middle": "blocks.1", "early": "blocks.0", "late": "blocks.2"}
"""The layer at whose output a ResNet-8 is split; middle is before its last block."""
EPOCHS, BATCH, PER_CLASS = 12, 64, 1000
"""PER_CLASS: training images of a class for each task that has it; no two tasks have the same image."""
RECIPE = CompatRecipe(epochs=EPOCHS, batch=BATCH, augment=AugmentRecipe(shift=3, flip=True))
"""All else is the default, float32 for one: nothing was tuned on CIFAR-10."""
INCREMENTAL = "incremental IIW+DCC"
RESTATED = 2000
"""Training images of the extractor's task, without labels, that batch norms are re-estimated on."""


@dataclass(frozen=True)
class Method:
    """What networks are trained against; `incremental`: the second one against the heads of the first."""

    name: str
    methods: tuple[CompatMethod, ...] = ()
    incremental: bool = False

    @property
    def splits(self) -> bool:
        """Whether the training depends on where networks are split."""
        return "RP" in self.methods or "DCC" in self.methods


def _method(name: str) -> Method:
    found: dict[str, CompatMethod] = {"RP": "RP", "DCC": "DCC", "IIW": "IIW"}
    return Method(name, tuple(found[part] for part in name.split("+") if part in found))


METHODS = (
    *(_method(name) for name in ("none", "RP", "IIW", "DCC", "IIW+RP", "IIW+DCC", "IIW+RP+DCC")),
    Method(INCREMENTAL, ("IIW", "DCC"), incremental=True),
)


@dataclass(frozen=True)
class Setting:
    """Which classes tasks have.

    Args:
        name: as in the document.
        tasks: how many networks.
        common: classes that all tasks have.
        own: classes of each task alone.
        methods: by name.
        depths: of `DEPTHS`.
    """

    name: str
    tasks: int
    common: int
    own: int
    methods: tuple[str, ...]
    depths: tuple[str, ...] = ("middle",)


SETTINGS = (
    Setting("two tasks, 4 common classes", 2, 4, 3, tuple(method.name for method in METHODS), tuple(DEPTHS)),
    Setting("two tasks, no common class", 2, 0, 5, ("none", "RP", "IIW", "IIW+RP")),
    Setting("three tasks, 4 common classes", 3, 4, 2, ("none", "IIW+DCC", "IIW+RP+DCC")),
    Setting("five tasks, 4 common classes", 5, 4, 1, ("none", "IIW+DCC", "IIW+RP+DCC")),
)


@dataclass(frozen=True)
class Cell:
    """One training, measured at one depth."""

    setting: Setting
    method: Method
    depth: str
    seed: int

    @property
    def key(self) -> str:
        return "/".join([self.setting.name, self.depth, self.method.name, str(self.seed)])

    @property
    def where(self) -> dict[str, Any]:
        of = {"setting": self.setting.name, "depth": self.depth, "method": self.method.name, "seed": self.seed}
        return of | {"precision": RECIPE.precision}


def cells(seeds: tuple[int, ...] = SEEDS) -> Iterator[Cell]:
    """All cells in order: the middle split of each setting first, seed by seed."""
    for depth in DEPTHS:
        for setting in SETTINGS:
            if depth in setting.depths:
                for seed in seeds:
                    yield from (Cell(setting, m, depth, seed) for m in METHODS if m.name in setting.methods)


Means = Mapping[str, float]
"""Normalised recombination by method."""


@dataclass(frozen=True)
class Goal:
    """A bar.

    Args:
        what: as in the document.
        figure: that it is about.
        holds: whether this figure reaches it.
    """

    what: str
    figure: Callable[[Means], float]
    holds: Callable[[float], bool]


GOALS = (
    Goal("none is under 10 normalised", lambda f: f["none"], lambda x: x < 10),
    Goal("IIW is more than 20 above none", lambda f: f["IIW"] - f["none"], lambda x: x > 20),
    Goal("IIW+DCC is more than 40 above none", lambda f: f["IIW+DCC"] - f["none"], lambda x: x > 40),
    Goal("the best is 90 or more, without re-estimation", lambda f: max(f.values()), lambda x: x >= 90),
)
"""Of the means over seeds at the middle split of the first setting."""
OWN_POINTS, OWN_GOAL_POINTS = 3.0, 1.0
"""Points of own accuracy under `none`: what passes, and the goal."""
