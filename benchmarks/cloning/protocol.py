"""What is measured, fixed before anything is run on test images.

Classes are dealt to the source and the target by the seed, half each. The wanted classes are the first k of the source's; the local
set, 50 images of a wanted and 20 of an original class, is drawn by the seed. Every row has the same local set.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from graftery.spec.recipes import CloneRecipe

SEEDS = (10, 11, 12, 13, 14)
"""Of the dealt classes, the nets, the local sets and the draws alike. 0 to 4 were measured while the default recipe was made: it knows them."""
KS = (1, 2, 3, 4, 5)
"""How many classes are wanted."""
KNOWN = 5
"""Classes of each net."""
PER_WANTED, PER_ORIGINAL = 50, 20
"""Images of a class in the local set."""
PRECISION = "float32"
"""That nets learn in, whatever the processor has units for."""
STEPS = 300
"""Of each baseline, Adam, cosine to zero, in batches of the recipe's size: half wanted, half original images."""
TEMPERATURE = 2.0
"""Of the distillation of the old logits (LwF)."""

TUNING_SEEDS, TUNING_KS = (100, 101), (1, 5)
"""What baselines are tuned on, with validation images; a choice is one for all k of a world."""
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
"""Of whole nets."""
LAYER_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
"""Of one linear layer."""
BEYOND = 3
"""Values that are tried beyond each edge of a row's rates and strengths, at most: one after the other, as long as the choice lies there."""

Kind = Literal["clone", "tuning", "two nets", "unattainable"]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name: as in the document.
        kind: `tuning`: it learns the target's own parameters.
        changes: of the recipe, for a clone.
        rates, strengths: that are tried, for a baseline, the least first; strengths are weights of what holds the old parameters.
    """

    name: str
    kind: Kind
    changes: dict[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = ()
    strengths: tuple[float, ...] = (0.0,)

    @property
    def tuned(self) -> bool:
        return len(self.rates) * len(self.strengths) > 1

    def choices(self) -> list[dict[str, float]]:
        """What is tried, the least that changes the target first."""
        return [{"rate": rate, "strength": strength} for strength in self.strengths for rate in self.rates]


CLONING = "cloning"
FINE, LWF, EWC, HEAD = "fine-tuning", "fine-tuning + LwF", "fine-tuning + EWC", "head alone"
ENSEMBLE, LINEAR, JOINT = "ensemble", "linear on both nets", "joint training"
JOINT_FORM, NO_HEALING = "cloning, joint form", "cloning, no healing"


def _keeps(default: float) -> tuple[Row, ...]:
    return tuple(Row(f"cloning, keep {keep:g}", "clone", {"keep": keep}) for keep in (0.25, 0.5) if keep != default)


ROWS = (
    Row(CLONING, "clone"),
    Row(FINE, "tuning", rates=RATES),
    Row(LWF, "tuning", rates=RATES, strengths=(0.1, 0.3, 1.0, 3.0)),
    Row(EWC, "tuning", rates=(*RATES, 3e-2), strengths=(0.1, 3.0, 100.0, 3000.0)),
    Row(HEAD, "tuning", rates=LAYER_RATES),
    Row(ENSEMBLE, "two nets", rates=(0.05,)),
    Row(LINEAR, "two nets", rates=LAYER_RATES),
    Row(JOINT, "unattainable"),
    *_keeps(CloneRecipe().keep),
    Row(NO_HEALING, "clone", {"healing_steps": 0, "tolerance": 1.0}),
    Row("cloning, weights that learn on", "clone", {"learn_on": True}),
    Row("cloning, noise for originals", "clone", {"originals": "noise"}),
    Row(JOINT_FORM, "clone", {"joint": True}),
)
"""In the order in which they are measured: what the goals are about first. Without healing none is refused, so that its loss is seen."""


@dataclass(frozen=True)
class Cell:
    """One row at one k of one seed in a world."""

    world: str
    k: int
    row: Row
    seed: int

    @property
    def key(self) -> str:
        return "/".join([self.world, str(self.k), self.row.name, str(self.seed)])

    @property
    def where(self) -> dict[str, Any]:
        return {"world": self.world, "k": self.k, "row": self.row.name, "seed": self.seed}


def cells(worlds: Sequence[str], seeds: Sequence[int] = SEEDS, ks: Sequence[int] = KS) -> Iterator[Cell]:
    """All cells in order: world by world, row by row."""
    for world in worlds:
        for row in ROWS:
            yield from (Cell(world, k, row, seed) for seed in seeds for k in ks)


POINTS = {"cifar10": 5.0}
"""By how many points the mean of cloning has to be above each parameter-tuning baseline's; elsewhere: above."""
CHANGED_SHARE = 0.5
"""Of fine-tuning's share of original-class predictions that changed."""
ADDED_SHARE = 0.3
"""Parameters that a clone may add, of the target's."""
