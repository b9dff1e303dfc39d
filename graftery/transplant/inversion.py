"""Inversion: images for a transplant without data, optimised until the nets' batch norms see what they saw in training.

Shapes: N images, K outputs.
Source: ours for transplants (DeepInversion, Yin et al. 2020, does it for whole classifiers); docs/methods/transplant.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from graftery.data.augment import augment
from graftery.data.noise import value_bounds
from graftery.data.streams import generator
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.spec.manifest import Preprocessing, Semantics
from graftery.spec.recipes import RIVALRY_FLOOR, TransplantRecipe
from graftery.transplant import objectives
from graftery.transplant.guidance import Guidance
from graftery.transplant.layout import fast
from graftery.transplant.opgraph import Statistics, widened


@dataclass(frozen=True)
class Inversion:
    """What an inversion needs.

    Args:
        category, teacher: f and gT as graphs of operators.
        semantics, preprocessing: what their output and input mean.
        recipe: complete.
        guidance: what a sketch says of f.
        rival: gS(h(x)) of features x, from which the images shall let gT differ.
    """

    category: fx.GraphModule
    teacher: fx.GraphModule
    semantics: Semantics
    preprocessing: Preprocessing | None
    recipe: TransplantRecipe
    guidance: Guidance | None = None
    rival: Callable[[Tensor], Tensor] | None = None

    def __call__(self, start: Tensor, loop: Loop) -> Tensor:
        """Images [N, ...] that started as `start`.

        Raises:
            TrainingFailed: `diverged`.
        """
        images = start.clone().requires_grad_()
        bounds = _bounds(start, self.preprocessing)

        def terms(step: int) -> dict[str, Tensor]:
            moved = augment(images, self.recipe.augment, generator(self.recipe.seed, "inversion.augment", step))
            return self.terms(moved)

        def clamp() -> None:
            with torch.no_grad():
                images.clamp_(*bounds)

        recipe = self.recipe.inversion
        optimise({"images": images}, terms, Pace(recipe.steps, recipe.learning_rate), loop, after=clamp)
        return images.detach()

    def terms(self, images: Tensor) -> dict[str, Tensor]:
        """The weighted loss terms of these images."""
        recipe = self.recipe.inversion
        with fast(self.recipe, images.device):
            features, below = _run(self.category, images)
            logits, above = _run(self.teacher, features)
        features, logits = widened(features), widened(logits)
        terms = {"statistics": recipe.statistics_weight * torch.stack([*below, *above]).mean()}
        if self.guidance is not None:
            terms["sketch"] = recipe.sketch_weight * self.guidance.mismatch(features)
        if self.rival is not None:
            with fast(self.recipe, images.device):
                theirs = self.rival(features)
            apart = objectives.distillation(widened(theirs), logits, self.semantics, self.recipe.temperature)
            # The logarithm: as strong a pull however far they are apart.
            terms["rivalry"] = -recipe.rivalry_weight * (apart + RIVALRY_FLOOR).log()
        if self.semantics == "classification":
            terms["class"] = recipe.class_weight * class_loss(logits)
        if images.ndim == 4:
            terms["variation"] = recipe.variation_weight * total_variation(images)
        return terms


def class_loss(logits_NK: Tensor) -> Tensor:
    """Cross entropy to balanced classes: image i is to be of class i mod K (K = 1: of class i mod 2)."""
    index_N = torch.arange(len(logits_NK), device=logits_NK.device)
    if logits_NK.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits_NK[:, 0], (index_N % 2).to(logits_NK))
    return F.cross_entropy(logits_NK, index_N % logits_NK.shape[1])


def total_variation(images_NCHW: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels."""
    return images_NCHW.diff(dim=2).abs().mean() + images_NCHW.diff(dim=3).abs().mean()


def _run(net: fx.GraphModule, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    statistics = Statistics(net)
    return statistics.run(x), statistics.mismatches


def _bounds(start: Tensor, preprocessing: Preprocessing | None) -> tuple[Tensor | None, Tensor]:
    """Least and greatest value of a real image; where nothing is known, only what no input would have."""
    if preprocessing is None or start.ndim != 4:
        wide = torch.tensor(10.0, device=start.device)
        return -wide, wide
    low, high = value_bounds(preprocessing, start.shape[1])
    return low.to(start), high.to(start)
