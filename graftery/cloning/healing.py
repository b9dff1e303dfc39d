"""A clone's kept weights learn to do what the whole source does.

Source: ours; Ye et al. 2023 keep the source's own weights (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from graftery.cloning.localization import divergence
from graftery.data.streams import generator
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.module import ModuleFile
from graftery.module.build import buffer_names
from graftery.module.probes import PROBE_X, with_probe
from graftery.nn.statistics import on_batch, reestimated
from graftery.spec.recipes import CloneRecipe

BATCH_NORM = "aten.batch_norm.default"


def healed(masked: ModuleFile, source: ModuleFile, images: Tensor, recipe: CloneRecipe, loop: Loop) -> ModuleFile:
    """The masked source, whose weights have learned from the whole one on these images.

    Math: the mean over images of KL(S(x) || M(x)), batch norms on the batch's own statistics.

    Args:
        masked: M, with the logits of all of S's classes.
        source: S; it does not change.
        images: [n, ...], n at least 2, of wanted classes.
        loop: progress.

    Raises:
        TrainingFailed: `diverged`.
    """
    if not recipe.healing_steps:
        return masked
    net, whole, names = masked.net().to(images.device), source.net().to(images.device), buffer_names(masked.graph)
    learned = {name: masked.weights[name].to(images.device).clone().requires_grad_() for name in _learnable(masked)}
    with torch.no_grad():
        said = torch.cat([whole(chunk) for chunk in torch.split(images, 256)])

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = torch.randint(len(images), (recipe.batch,), generator=generator(recipe.seed, "heal", step))
        rows = rows.to(images.device)
        given = {names[name]: value for name, value in learned.items()}
        return {"healed": divergence(said[rows], on_batch(net, images[rows], given))}

    optimise(learned, terms, Pace(recipe.healing_steps, recipe.healing_learning_rate), loop)
    weights = {**masked.weights, **{name: value.detach().cpu() for name, value in learned.items()}}
    made = reestimated(replace(masked, weights=weights), images.cpu())
    return with_probe(made, made.extras[PROBE_X])


def _learnable(file: ModuleFile) -> list[str]:
    """Floating weights; what batch norms have seen is no weight."""
    running = {name for node in file.graph.nodes if node.op == BATCH_NORM for name in _running(node.args)}
    return sorted(name for name in file.graph.weights() - running if file.weights[name].is_floating_point())


def _running(args: tuple[object, ...]) -> list[str]:
    return [argument["w"] for argument in args[3:5] if isinstance(argument, dict)]
