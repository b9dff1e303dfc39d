"""What to clone and how it is joined, learned together at one position.

Source: Ye et al. 2023 learn localization and insertion jointly; the sum of both losses, from gates that were learned alone, is
reconstructed (docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from graftery.cloning.insertion import Extension, Seen, class_loss, insertion_adapter, mismatch
from graftery.cloning.local import Balanced, Local
from graftery.cloning.localization import Gates, Wanted
from graftery.cloning.positions import above
from graftery.cloning.slicing import end_weights, masked
from graftery.cloning.stages import Stages
from graftery.learning.pace import Pace
from graftery.module.build import buffer_names
from graftery.spec.recipes import CloneRecipe


def joint_scores(
    gates: Gates, scores: Tensor, wanted: Wanted, seen: Seen, origin: str, *, recipe: CloneRecipe, stages: Stages
) -> Tensor:
    """The gates' scores [U] after they learned on, together with A, s, b, u and V.

    Math: localization's loss on S's own way + insertion's loss, through the same gates; batch norms on the batch's own statistics.

    Args:
        scores: [U] to begin with.
        wanted: localization's loss, over the rows of `seen`.
        seen: with the features of the whole source at `origin`.
        origin: the source's layer behind which the clone begins.

    Raises:
        TrainingFailed: `diverged`.
    """
    device = seen.z.device
    _, behind = above(gates.source, origin)
    names, moved = buffer_names(behind.graph), {name: w.to(device) for name, w in gates.source.weights.items()}
    made = Extension(behind, insertion_adapter(seen, recipe), seen.last.shape[1], device)
    draw = Balanced.of(Local(seen.z, seen.y.cpu(), seen.known), recipe.batch, recipe.seed)
    # One rate for all: scores in units in which localization's own rate is this one.
    unit = recipe.localization_learning_rate / recipe.learning_rate
    learned = {"scores": (scores / unit).requires_grad_(), **made.learned}
    last = end_weights(behind)[0]

    def terms(step: int) -> Mapping[str, Tensor]:
        rows = draw("joint", step).to(device)
        hard = gates.hard(unit * learned["scores"])
        shut = masked(gates.channels, moved, gates.roots, hard)
        given = {names[name]: weight for name, weight in shut.items() if name in names and name != last}
        # Not the last weight: the last features themselves are shut, for the rows u that are added to it, too.
        new, features = made(seen.z[rows], seen.last[rows], given, _open_features(gates, last, hard))
        losses = {
            "classes": class_loss(seen.old[rows], new[:, wanted.classes], seen.y[rows]),
            "features": recipe.feature_weight * mismatch(features, seen.features[rows]),
        }
        return losses | wanted.losses(hard, rows)

    others = [value for name, value in learned.items() if name != "scores"]
    groups: list[dict[str, Any]] = [{"params": [learned["scores"]], "weight_decay": 0.0}, {"params": others}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    stages.learn("joint", learned, terms, Pace(recipe.steps, recipe.learning_rate), optimiser)
    return unit * learned["scores"].detach()


def _open_features(gates: Gates, last: str, hard: Tensor) -> Tensor:
    """[D] The gate of each of the source's last features; 1 for those that always stay."""
    use = gates.channels.uses.get((last, 1))
    if use is None:
        return hard.new_ones(gates.channels.weight_shapes[last][1])
    at = gates.channels.positions(use, gates.roots).to(hard.device)
    return torch.cat([hard, hard.new_ones(1)])[at]
