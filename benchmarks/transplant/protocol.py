"""What is measured, fixed before anything is run on test samples.

A row is a way to join a target's f to gS; a setting is a generic net and a depth of the cut. Recipes name what the row is
about; all else is the default. Direct-learn is tried with several rates, lengths and augmentations, and the one that is best on the
target's validation samples is reported: more labels than any other row may look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.transplant.worlds.base import World
from benchmarks.transplant.zoo import Nets
from graftery.spec.recipes import AugmentRecipe, TransplantRecipe

SEEDS = (0, 1, 2)
"""Of the nets, the labelled subsets and the recipes alike."""
TEACHING = {"distillation": 4.0, "back_distillation": 1.0}
LEAST_TEACHER = {"iou": 0.2}
"""By metric: a teacher below this, in the mean over seeds, has hardly learned its target. Differences are told without such targets too.
Fixed after the teachers were known; the targets stay."""


@dataclass(frozen=True)
class Variant:
    """A recipe among which direct-learn chooses; `augmented`: as suits the task's images, else not at all."""

    learning_rate: float
    steps: int
    augmented: bool = True

    def fields(self, augment: AugmentRecipe) -> dict[str, Any]:
        """Of the recipe."""
        chosen = augment if self.augmented else AugmentRecipe(shift=0)
        return {"learning_rate": self.learning_rate, "steps": self.steps, "augment": chosen.model_dump()}


@dataclass(frozen=True)
class Row:
    """A way to learn the adapter.

    Args:
        name: as in the table.
        losses, features: what ran, for the reader.
        recipe: all that is not the default.
        labels: labelled samples.
        unlabelled: training images that do not show the target are given.
        chosen: recipes of which the best on validation samples is taken.
        sketched: f's file carries a sketch of its features.
        crops: of feature maps in that sketch.
        every: each how manieth of the setting's targets is measured.
    """

    name: str
    losses: str
    features: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    labels: int = 0
    unlabelled: bool = False
    chosen: tuple[Variant, ...] = ()
    sketched: bool = False
    crops: int = 0
    every: int = 1

    def recipes(self, seed: int, augment: AugmentRecipe) -> tuple[TransplantRecipe, ...]:
        """All that are tried, with a task's augmentation."""
        fields = {"seed": seed, "labels": self.labels, **self.recipe}
        tried = [variant.fields(augment) for variant in self.chosen] or [{}]
        return tuple(TransplantRecipe.model_validate({**fields, **each}) for each in tried)


REFERENCES = Row("references", "", "")
"""Teacher and identity adapter: measured once for all rows. It has no recipe."""
DEFAULT = "default, 0"
COSTS = "cost"
"""Where the turns of a transplant beside its teacher stand, as a setting of its own."""


def rows(dense: bool) -> tuple[Row, ...]:
    """The rows of the table."""
    return (*_direct(dense), *_without_labels(dense), *_with_labels(dense))


CORE = ("direct-learn, 100", "back-distillation on noise, 0", DEFAULT, "default, 100")
"""The rows of the settings beside the table's: four are enough to see whether they differ."""


VARIANTS = (
    *(Variant(rate, steps) for rate, steps in ((2e-3, 100), (1e-3, 400), (5e-3, 400), (5e-3, 1000), (5e-3, 2000))),
    *(Variant(rate, steps, augmented=False) for rate, steps in ((2e-3, 100), (1e-3, 400), (5e-3, 400))),
)
"""Of direct-learn. Few images are soon known by heart: without augmentation, it is not tried for long."""
DENSE_VARIANTS = (
    *(Variant(rate, steps) for rate, steps in ((2e-3, 100), (1e-3, 400), (5e-3, 400), (5e-3, 2000))),
    Variant(5e-3, 1000, augmented=False),
)
"""The same where outputs are dense and a step costs many times as much: the ends of each choice, and one without augmentation."""


def _direct(dense: bool) -> tuple[Row, ...]:
    variants = DENSE_VARIANTS if dense else VARIANTS
    direct = tuple(
        Row(f"direct-learn, {n}", "direct", "labelled", {"objectives": {"direct": 1.0}}, n, chosen=variants)
        for n in (10, 20, 50, 100)
    )
    both = {"objectives": {"direct": 1.0, "distillation": 4.0}, "sources": ["samples"]}
    # Agreement on noise, which it never learns from, would end it before it is as long as the variant says.
    both |= {"stop": {"patience": 0}}
    return (*direct, Row("direct + distillation, 100", "direct, distillation", "labelled", both, 100, chosen=variants))


def _without_labels(dense: bool) -> tuple[Row, ...]:
    """Where outputs are dense, a transplant takes minutes: rows that ask what a part does are over every second target."""
    both, noise = "distillation, Jacobian", {"sources": ["noise"]}
    default, every = ("distillation", 2) if dense else (both, 1)
    forward, pseudo = {"objectives": {"distillation": 4.0}}, {"objectives": {"pseudo_gradient": 1.0}}
    inverted = {"sources": ["inversion"]}
    return (
        Row("pseudo-gradient, 0", "pseudo-gradient", "inversion", {**pseudo, **inverted}, every=every),
        Row("distillation on noise, 0", "distillation", "noise", {**forward, **noise}, every=every),
        Row("back-distillation on noise, 0", both, "noise", {"objectives": TEACHING, **noise}, every=every),
        Row("back-distillation on inversion, 0", both, "inversion", {"objectives": TEACHING, **inverted}, every=every),
        Row(DEFAULT, default, "default"),
        # The default of dense outputs is distillation alone.
        Row("default, both losses, 0", both, "default", {"objectives": TEACHING}, every=2)
        if dense
        else Row("default, distillation alone, 0", "distillation", "default", forward),
        Row(
            "default, Jacobian alone, 0", "Jacobian", "default", {"objectives": {"back_distillation": 1.0}}, every=every
        ),
        Row("default in bfloat16, 0", default, "default", {"precision": "bfloat16"}, every=2),
        Row("unlabelled images, 0", default, "unlabelled, default", unlabelled=True),
        *(_with_sketch(default) if dense else ()),
    )


def _with_sketch(losses: str) -> tuple[Row, ...]:
    crops = {"sources": ["crops"]}
    return (
        Row("sketch, 0", losses, "sketch, default", sketched=True),
        Row("sketch with crops, 0", losses, "crops", crops, sketched=True, crops=512, every=2),
    )


def _with_labels(dense: bool) -> tuple[Row, ...]:
    losses = "distillation, direct" if dense else "distillation, Jacobian, direct"
    return tuple(Row(f"default, {n}", losses, "labelled, default", labels=n) for n in (10, 100))


@dataclass(frozen=True)
class Setting:
    """A generic net and a depth.

    Args:
        name: as in the document.
        rows: of its table.
        categories: how many the generic net knows.
        depth: of the cut, a key of the world's cuts; None: its first.
        tasks: how many of the world's tasks are transplanted together.
        every: each how manieth of the world's targets is measured, where there are more than two.
    """

    name: str
    rows: tuple[Row, ...]
    categories: int | None = None
    depth: str | None = None
    tasks: int = 1
    every: int = 1

    def targets(self, world: World) -> tuple[str, ...]:
        """Those of the world that are measured."""
        return world.targets[:: self.every] if len(world.targets) > 2 else world.targets

    def nets(self, world: World, target: str, seed: int) -> Nets:
        """A target's teacher, and the generic net."""
        known = world.generic[-self.categories :] if self.categories else world.generic
        outputs = tuple(task.output for task in world.tasks[: self.tasks])
        return Nets(target, known, outputs, self.depth or next(iter(world.cuts)), seed)


SHORT = {
    "steps": 20,
    "batch": 8,
    "bank": {"rows": 64},
    "inversion": {"images": 8, "steps": 5, "rival_steps": 5, "round_images": 4, "round_steps": 3},
}
"""Of the recipes of a quick run: whether it works, not how good it is."""


def _short(row: Row) -> Row:
    first_and_last = (row.chosen[0], row.chosen[-1]) if row.chosen else ()
    chosen = tuple(replace(variant, steps=10) for variant in first_and_last)
    stop = {"every": 5, **row.recipe.get("stop", {})}
    return replace(row, recipe={**row.recipe, **SHORT, "stop": stop}, chosen=chosen)


def key_of(names: Mapping[str, Any]) -> str:
    """Where a cell of these names is kept."""
    order = ("row", "target", "seed") if names["setting"] == COSTS else ("setting", "target", "task", "seed", "row")
    return "/".join(str(names[name]) for name in order)


def settings(dense: bool, *, quick: bool = False) -> tuple[Setting, ...]:
    """The table first. The others are over every second target: they ask whether a setting matters, not how good a row is.

    Args:
        dense: the world's outputs are per pixel.
        quick: recipes are short.
    """
    every = tuple(map(_short, rows(dense))) if quick else rows(dense)
    few = tuple(row for row in every if row.name in CORE)
    pair = tuple(row for row in few if row.name.startswith(("direct", DEFAULT)))
    return (
        Setting("table", every),
        Setting("generic net of one category", few, categories=1, every=2),
        Setting("lower cut", few, depth="lower", every=2),
        Setting("two tasks in one request", pair, categories=2, tasks=2, every=2),
    )
