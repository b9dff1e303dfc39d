"""Learning an adapter between frozen nets: the loss of a step, and the loop over steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from graftery.data.streams import generator
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.nn.freezing import unchanged
from graftery.spec.manifest import Semantics
from graftery.spec.plan import TEACHING
from graftery.spec.recipes import PSEUDO_RAMP, TransplantRecipe
from graftery.transplant import objectives
from graftery.transplant.layout import fast
from graftery.transplant.nets import Nets, differentiable_twice
from graftery.transplant.opgraph import op_graph, widened
from graftery.transplant.pseudo import Linear
from graftery.transplant.sources import Batch
from graftery.transplant.units import Units


@dataclass(frozen=True)
class Linears:
    """gS, gT and h as graphs of operators, for the pseudo-gradient."""

    task: fx.GraphModule
    teacher: fx.GraphModule
    adapter: fx.GraphModule

    @classmethod
    def of(cls, nets: Nets, adapter: nn.Module, features: Tensor) -> Linears:
        """Args: `features`, an example with a batch of at least 2."""
        if nets.teacher is None:
            raise ValueError("the pseudo-gradient needs the teacher's task module")
        with torch.no_grad():
            adapted = adapter(features)
        return cls(op_graph(nets.task, adapted), op_graph(nets.teacher, features), op_graph(adapter, features))


def train(
    nets: Nets,
    adapter: nn.Module,
    batches: Callable[[int], Batch],
    *,
    recipe: TransplantRecipe,
    semantics: Semantics,
    loop: Loop,
    score: Callable[[], float] | None = None,
    units: Units = Units(),  # noqa: B008  immutable
) -> int:
    """Learn the adapter in place. f, gS and gT stay as they are, to the last bit. Gives the number of steps that it took.

    Args:
        nets: f, gS, gT; frozen.
        adapter: h.
        batches: step to batch.
        recipe: complete (`graftery.spec.plan.complete`).
        semantics: what the output means.
        loop: progress, checkpoints, resumption.
        score: of the adapter as it is; it stops when this rises no more. None: it does all steps.
        units: of a regression or a feature.

    Raises:
        TrainingFailed: `diverged`; `frozen_changed`.

    Source: Zhang et al. 2018; recipe and sources are ours (docs/methods/transplant.md).
    """
    pseudo = "pseudo_gradient" in recipe.objectives
    linears = Linears.of(nets, adapter, batches(0).features) if pseudo else None

    def terms(step: int) -> Mapping[str, Tensor]:
        losses = step_losses(
            nets, adapter, batches(step), recipe=recipe, semantics=semantics, step=step, linears=linears, units=units
        )
        return {name: recipe.objectives[name] * loss for name, loss in losses.items()}  # type: ignore[index]

    with unchanged(*nets.all), differentiable_twice():
        pace = Pace(recipe.steps, recipe.learning_rate, recipe.stop, score)
        optimise(dict(adapter.named_parameters()), terms, pace, loop)
    return pace.end


def step_losses(
    nets: Nets,
    adapter: nn.Module,
    batch: Batch,
    *,
    recipe: TransplantRecipe,
    semantics: Semantics,
    step: int,
    linears: Linears | None = None,
    units: Units = Units(),  # noqa: B008  immutable
) -> dict[str, Tensor]:
    """The unweighted loss terms of a step, by objective.

    Args:
        step: what the random directions and gates depend on, beside the recipe's seed.
        linears: needed for `pseudo_gradient` only.
        units: of a regression or a feature.

    Returns:
        Scalars, differentiable in the adapter's parameters.
    """
    named = recipe.objectives
    jacobian = "back_distillation" in named
    features = batch.features.detach().requires_grad_(jacobian)
    with fast(recipe, features.device):
        student = nets.task(adapter(features))
    student = widened(student)
    losses: dict[str, Tensor] = {}
    if "direct" in named and batch.labels is not None:
        losses["direct"] = objectives.direct(student[: len(batch.labels)], batch.labels, semantics, units.labels)
    if nets.teacher is None or not TEACHING & named.keys():
        return losses
    teacher = batch.teacher if batch.gradient is not None or not jacobian else None
    teacher = nets.teacher(features) if teacher is None else teacher
    if "distillation" in named:
        losses["distillation"] = objectives.distillation(
            student, teacher.detach(), semantics, recipe.temperature, units.teacher
        )
    if jacobian and batch.direction is not None and batch.gradient is not None:
        d_student = objectives.input_gradient(student, features, batch.direction, create_graph=True)
        losses["back_distillation"] = objectives.back_distillation(d_student, batch.gradient)
    elif jacobian:
        losses["back_distillation"] = _back_distillation(features, student, teacher, recipe.seed, step)
    if linears is not None:
        spread = objectives.distribution_mismatch(student, teacher.detach())
        rows = features[: max(2, student[0].numel())]  # no more than the output has directions
        share = min(1.0, step / max(1.0, PSEUDO_RAMP * recipe.steps))  # first the direction
        losses["pseudo_gradient"] = _pseudo_gradient(linears, rows, recipe.seed, step) + share * spread
    return losses


def _back_distillation(features: Tensor, student: Tensor, teacher: Tensor, seed: int, step: int) -> Tensor:
    direction = objectives.directions(student, generator(seed, "direction", step))
    d_teacher = objectives.input_gradient(teacher, features, direction, create_graph=False)
    d_student = objectives.input_gradient(student, features, direction, create_graph=True)
    return objectives.back_distillation(d_student, d_teacher)


def _pseudo_gradient(linears: Linears, features: Tensor, seed: int, step: int) -> Tensor:
    """Args: `features`, whose shape alone counts; a direction each."""
    x = torch.zeros_like(features).requires_grad_()
    student = Linear(linears.task).run(Linear(linears.adapter).run(x))
    teacher = Linear(linears.teacher).run(x)
    direction = objectives.directions(student, generator(seed, "direction", step))
    d_teacher = objectives.input_gradient(teacher, x, direction, create_graph=False)
    d_student = objectives.input_gradient(student, x, direction, create_graph=True)
    return objectives.back_distillation_cosine(d_student, d_teacher)
