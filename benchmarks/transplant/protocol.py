"""What is measured, fixed before anything is run on test samples.

A row is a way to join a target's f to gS; a setting is a generic net and a depth of the cut. Recipes name what the row is
about; all else is the default. Direct-learn is tried with several rates and lengths, and the one that is best on the
target's validation samples is reported: more labels than any other row may look at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graftery.spec.recipes import AugmentRecipe

SEEDS = (0, 1, 2)
"""Of the nets, the labelled subsets and the recipes alike."""
TEACHING = {"distillation": 4.0, "back_distillation": 1.0}


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
    chosen: tuple[Mapping[str, Any], ...] = ({},)
    sketched: bool = False
    crops: int = 0
    every: int = 1


def rows(dense: bool, augment: AugmentRecipe) -> tuple[Row, ...]:
    """The rows of the table."""
    return (*_direct(augment), *_without_labels(dense), *_with_labels(dense))


CORE = ("direct-learn, 100", "back-distillation on noise, 0", "default, 0", "default, 100")
"""The rows of the settings beside the table's: four are enough to see whether they differ."""


def _variants(augment: AugmentRecipe) -> tuple[Mapping[str, Any], ...]:
    """Of direct-learn: rate and number of steps, with the augmentation that suits the world's images."""
    tried = ((2e-3, 100), (1e-3, 400), (5e-3, 400), (5e-3, 1000))
    return tuple({"learning_rate": rate, "steps": steps, "augment": augment.model_dump()} for rate, steps in tried)


def _direct(augment: AugmentRecipe) -> tuple[Row, ...]:
    variants = _variants(augment)
    direct = tuple(
        Row(f"direct-learn, {n}", "direct", "labelled", {"objectives": {"direct": 1.0}}, n, chosen=variants)
        for n in (10, 20, 50, 100)
    )
    both = {"objectives": {"direct": 1.0, "distillation": 4.0}, "sources": ["samples"]}
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
        Row("default, 0", default, "default"),
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
        every: each how manieth of the world's targets is measured.
    """

    name: str
    rows: tuple[Row, ...]
    categories: int | None = None
    depth: str | None = None
    tasks: int = 1
    every: int = 1


def settings(dense: bool, augment: AugmentRecipe) -> tuple[Setting, ...]:
    """The table first. The others are over every second target: they ask whether a setting matters, not how good a row is.

    Args:
        dense: the world's outputs are per pixel.
        augment: what direct-learn does with the world's images.
    """
    every = rows(dense, augment)
    few = tuple(row for row in every if row.name in CORE)
    pair = tuple(row for row in few if row.name.startswith(("direct", "default, 0")))
    return (
        Setting("table", every),
        Setting("generic net of one category", few, categories=1, every=2),
        Setting("lower cut", few, depth="lower", every=2),
        Setting("two tasks in one request", pair, categories=2, tasks=2, every=2),
    )
