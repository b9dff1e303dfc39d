"""A clone's kept weights learn to do what the whole source does.

Source: ours; Ye et al. 2023 keep the source's own weights (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from graftery.cloning.local import Balanced, Local
from graftery.cloning.localization import collapsed, divergence, restated, to_learn
from graftery.cloning.mixing import Mixing, mixed
from graftery.cloning.stages import Stages
from graftery.cloning.taps import outputs
from graftery.learning.pace import Pace
from graftery.module import ModuleFile
from graftery.module.build import buffer_names
from graftery.module.probes import PROBE_X, with_probe
from graftery.nn.layout import placed
from graftery.nn.learnable import learnable
from graftery.nn.statistics import on_batch
from graftery.spec.recipes import CloneRecipe


def healed(
    masked: ModuleFile,
    source: ModuleFile,
    wanted: Sequence[int],
    local: Local,
    *,
    recipe: CloneRecipe,
    stages: Stages,
    device: torch.device,
) -> ModuleFile:
    """The masked source, whose weights have learned from the whole one on the local set.

    Math: the mean of KL(c(S(x)) || c(M(x))), c as in `graftery.cloning.localization.collapsed`, half of the batch wanted and half original images, `healing_mixed` mixed ones beside them, batch norms on the batch's own statistics.

    Args:
        masked: M, with the logits of all of S's classes.
        source: S; it does not change.
        wanted: indices of S's classes.
        local: views of the local set.
        stages: this is one.

    Raises:
        TrainingFailed: `diverged`.
    """
    if not recipe.healing_steps:
        return masked
    shown = mixed(local, recipe.healing_mixed, recipe.seed)
    (net, x, layout), names = to_learn(masked, shown.x, device), buffer_names(masked.graph)
    moved = {name: placed(masked.weights[name], device, layout) for name in learnable(masked)}
    learned = {name: weight.clone().requires_grad_() for name, weight in moved.items()}
    chosen = torch.tensor(list(wanted), device=device)
    draw = Mixing(Balanced.of(local, recipe.batch, recipe.seed), shown, recipe.healing_mixed)
    said = collapsed(outputs(source, shown.x, device), chosen)

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("heal", step).to(device)
        given = {names[name]: value for name, value in learned.items()}
        return {"healed": divergence(said[rows], collapsed(on_batch(net, x[rows], given), chosen))}

    stages.learn("heal", learned, terms, Pace(recipe.healing_steps, recipe.healing_learning_rate))
    weights = {**masked.weights, **{name: value.detach().cpu().contiguous() for name, value in learned.items()}}
    made = restated(replace(masked, weights=weights), local, recipe)
    return with_probe(made, made.extras[PROBE_X])
