"""Where the rest of a recombination is lost: on which classes, and whether another head would find it in the features."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from graftery.compat import Task
from graftery.compat.losses import own
from graftery.compat.recombination import chance_of, class_ids, features, through
from graftery.compat.training import drawn, sgd
from graftery.learning.loop import Loop, Progress, optimise
from graftery.learning.pace import Pace
from graftery.module import ModuleFile
from graftery.spec.recipes import CompatRecipe

Parts = Mapping[str, ModuleFile]


def limits(
    tasks: Sequence[Task],
    extractors: Parts,
    heads: Parts,
    common: int,
    recipe: CompatRecipe,
    *,
    progress: Callable[[Progress], None] | None = None,
) -> dict[str, float]:
    """Means over all pairs of an extractor a and a head b, on b's images.

    Args:
        common: the tasks' first classes, which all have.
        recipe: of a head that learns anew.

    Returns:
        `common` and `others`: accuracy on images of common and of other classes, `own` of b's network and `joined` of b's
        head on a's features; none where there is no such class. `anew`: normalised as recombination is, of a head of b's form
        that learned on a's features, which were frozen, from first weights, by b's training images and labels.
    """
    found: dict[str, list[float]] = {}
    for a, b in permutations(tasks, 2):
        assert b.test is not None
        y, seen = class_ids(b.test), features(extractors[a.name], b.test.x)
        mine = _decided(heads[b.name].net(), features(extractors[b.name], b.test.x)) == y
        joined = _decided(heads[b.name].net(), seen) == y
        learned = _decided(anew(b, extractors[a.name], recipe, progress), seen) == y
        chance = chance_of(b.test)
        told = {"anew": 100 * (_share(learned) - chance) / (_share(mine) - chance)}
        for name, of in (("common", y < common), ("others", y >= common)):
            if of.any():
                told |= {f"{name}_own": _share(mine[of]), f"{name}_joined": _share(joined[of])}
        for name, value in told.items():
            found.setdefault(name, []).append(value)
    return {name: statistics.mean(values) for name, values in found.items()}


def anew(
    task: Task, extractor: ModuleFile, recipe: CompatRecipe, progress: Callable[[Progress], None] | None = None
) -> nn.Module:
    """A head of the task's design that learned on an extractor's features, with labels and for as long as the task's network did."""
    head = task.design.split(len(task.classes), recipe.seed, "benchmark.compat.anew").head.train()
    frozen = extractor.net()

    def terms(step: int) -> dict[str, Tensor]:
        images, labels = drawn(task, recipe, step)
        assert labels is not None
        with torch.no_grad():
            seen = frozen(images)
        return {"own": own(head(seen), labels)}

    parameters = dict(head.named_parameters())
    pace = Pace(recipe.epochs * math.ceil(len(task.train) / recipe.batch), recipe.learning_rate, warm_up=recipe.warm_up)
    optimise(parameters, terms, pace, Loop("train", progress), optimiser=sgd(parameters, recipe))
    return head.eval()


def _decided(head: nn.Module, seen: Tensor) -> Tensor:
    return through(head, seen).argmax(1)


def _share(right: Tensor) -> float:
    return float(right.double().mean())
