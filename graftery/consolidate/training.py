"""Learning on from all cells at once, and keeping the best state that harms none.

Shapes: N rows of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graftery.consolidate.lessons import Lesson
from graftery.learning.loop import Loop, optimise
from graftery.learning.pace import Pace
from graftery.nn.freezing import unchanged
from graftery.spec.recipes import ConsolidateRecipe, Objective
from graftery.transplant import objectives
from graftery.transplant.bank import Teacher
from graftery.transplant.layout import fast
from graftery.transplant.opgraph import widened
from graftery.transplant.sources import Batch

FAINTEST = 0.1
"""Of the cells' mean loss: where losses are balanced, a cell with less of it counts as if it had this."""

LEAST = 1e-3
"""Of D(constant, target), where a target says almost the same of all held-out inputs."""
CERTAIN = 30.0
"""Logits beyond it are as good as infinite."""


@dataclass(frozen=True)
class Learned:
    """What came of a training.

    Args:
        steps: that were done.
        before, after: the share that each cell explains of what its target says, in the order of the lessons.
        unchanged: no state was better than the first: everything is as it was.
    """

    steps: int
    before: list[float]
    after: list[float]
    unchanged: bool


def learn(
    lessons: Sequence[Lesson],
    parameters: Mapping[str, Tensor],
    frozen: Sequence[nn.Module],
    recipe: ConsolidateRecipe,
    loop: Loop,
) -> Learned:
    """Learn on, in place; what is left there is the best state, by the mean over cells of what they explain.

    Math: the mean over cells c of s_c a_c (sum over objectives o of w_o L_o(student_c, target_c)); a_c the anchor's weight
    where the cell has no teacher, else 1; s_c 1, or what `scales` gives. Of the states that were looked at, one is kept in
    which no cell explains less than at the start by more than the tolerance, and the cells explain most.

    Raises:
        TrainingFailed: `diverged`, `frozen_changed`.

    Source: ours (docs/methods/consolidate.md); Zhang et al. 2018 say that it can be done.
    """
    scaled = scales(lessons, recipe)
    best = _Best.of(lessons, parameters, recipe.tolerance)

    def terms(step: int) -> Mapping[str, Tensor]:
        return summed(lessons, scaled, recipe, step)

    with unchanged(*frozen):
        pace = Pace(recipe.steps, recipe.learning_rate, recipe.stop, best.look)
        optimise(parameters, terms, pace, loop, buffers=best.kept)
        best.look()
        best.restore()
    return Learned(pace.end, best.first, best.scores, bool(best.kept["best/unchanged"]))


def summed(
    lessons: Sequence[Lesson], scaled: Sequence[float], recipe: ConsolidateRecipe, step: int
) -> dict[str, Tensor]:
    """The weighted terms of a step: of all cells with a teacher by objective, and `anchor` of those without."""
    found: dict[str, list[Tensor]] = {}
    for lesson, scale in zip(lessons, scaled, strict=True):
        for name, loss in losses(lesson, lesson.batches(step), step).items():
            anchor = lesson.anchored and name != "direct"
            weight = lesson.recipe.objectives[name] * scale * (recipe.anchor_weight if anchor else 1.0)
            found.setdefault("anchor" if anchor else name, []).append(weight * loss)
    return {name: torch.stack(each).sum() / len(lessons) for name, each in found.items()}


def losses(lesson: Lesson, batch: Batch, step: int) -> dict[Objective, Tensor]:
    """The unweighted terms of a cell, by objective: scalars, differentiable in what learns."""
    wanted, recipe = lesson.recipe.objectives, lesson.recipe
    jacobian = "back_distillation" in wanted
    if batch.teacher is None:  # no bank has it
        batch = Teacher(lesson.target, lesson.recipe)(batch, step)
    assert batch.teacher is not None  # noqa: S101  for the type checker
    inputs = batch.features.detach().requires_grad_(jacobian)
    with fast(recipe, inputs.device):
        student = lesson.student(inputs)
    student = widened(student)
    found: dict[Objective, Tensor] = {}
    if "direct" in wanted and batch.labels is not None:
        found["direct"] = objectives.direct(
            student[: len(batch.labels)], batch.labels, lesson.semantics, lesson.units.labels
        )
    if "distillation" in wanted:
        found["distillation"] = objectives.distillation(
            student, batch.teacher, lesson.semantics, recipe.temperature, lesson.units.teacher
        )
    if jacobian and batch.direction is not None and batch.gradient is not None:
        gradient = objectives.input_gradient(student, inputs, batch.direction, create_graph=True)
        found["back_distillation"] = objectives.back_distillation(gradient, batch.gradient)
    return found


def scales(lessons: Sequence[Lesson], recipe: ConsolidateRecipe) -> list[float]:
    """What the cells' losses are multiplied by. Balanced, one over each cell's loss at the start; their mean is 1."""
    if recipe.balance == "mean":
        return [1.0] * len(lessons)
    found = [_weighted(lesson) for lesson in lessons]
    floor = max(FAINTEST * sum(found) / len(found), 1e-12)
    inverse = [1 / max(each, floor) for each in found]
    return [len(inverse) * each / sum(inverse) for each in inverse]


def _weighted(lesson: Lesson) -> float:
    """A cell's loss at the start."""
    weights = lesson.recipe.objectives
    return sum(float(weights[name] * loss.detach()) for name, loss in losses(lesson, lesson.batches(0), 0).items())


class Watch:
    """The share of what the target says that the student says, too, as a mean over groups of held-out inputs.

    Math: 1 - D(student, target) / D(constant, target); D the distillation loss, constant the best answer that looks at no input.
    For regression it is the share of variance that is explained.
    """

    def __init__(self, lesson: Lesson) -> None:
        self.lesson = lesson
        with torch.no_grad():
            self._wanted = [lesson.target(inputs) for inputs in lesson.held_out]
            self._whole = [self._apart(self._constant(y), y).clamp_min(LEAST) for y in self._wanted]

    @torch.no_grad()
    def __call__(self) -> float:
        groups = zip(self.lesson.held_out, self._wanted, self._whole, strict=True)
        shares = [1 - self._apart(self.lesson.student(x), y) / whole for x, y, whole in groups]
        return float(torch.stack(shares).mean())

    def _apart(self, output: Tensor, wanted: Tensor) -> Tensor:
        return objectives.distillation(output, wanted, self.lesson.semantics, self.lesson.recipe.temperature)

    def _constant(self, wanted: Tensor) -> Tensor:
        """Shaped like the target's outputs: their means; of logits, those of the mean of their probabilities."""
        others = [d for d in range(wanted.ndim) if d != 1]
        if self.lesson.semantics in ("regression", "feature"):
            return wanted.mean(others, keepdim=True).expand_as(wanted)
        temperature = self.lesson.recipe.temperature
        soft = wanted / temperature
        share = (torch.sigmoid(soft) if wanted.shape[1] == 1 else soft.softmax(1)).mean(others, keepdim=True)
        logits = torch.logit(share) if wanted.shape[1] == 1 else share.log()
        return (temperature * logits.clamp(-CERTAIN, CERTAIN)).expand_as(wanted)


class _Best:
    """The best state so far. Its tensors are changed in place, so that checkpoints carry them."""

    def __init__(self, watches: Sequence[Watch], parameters: Mapping[str, Tensor], tolerance: float) -> None:
        self._watches, self._parameters, self._tolerance = watches, parameters, tolerance
        self.first = [watch() for watch in watches]
        self.kept: dict[str, Tensor] = {
            "best/scores": torch.tensor(self.first, dtype=torch.float64),
            "best/unchanged": torch.tensor(True),
            **{f"best/{name}": value.detach().clone() for name, value in parameters.items()},
        }

    @classmethod
    def of(cls, lessons: Sequence[Lesson], parameters: Mapping[str, Tensor], tolerance: float) -> _Best:
        return cls([Watch(lesson) for lesson in lessons], parameters, tolerance)

    @property
    def scores(self) -> list[float]:
        found: list[float] = self.kept["best/scores"].tolist()
        return found

    def look(self) -> float:
        """Keep the state as it is, if it is better and no cell is worse than it may be; gives its mean score."""
        now = [watch() for watch in self._watches]
        harmless = all(a >= b - self._tolerance for a, b in zip(now, self.first, strict=True))
        if harmless and sum(now) > sum(self.scores):
            self.kept["best/scores"].copy_(torch.tensor(now, dtype=torch.float64))
            self.kept["best/unchanged"].fill_(False)
            for name, value in self._parameters.items():
                self.kept[f"best/{name}"].copy_(value.detach())
        return sum(now) / len(now)

    def restore(self) -> None:
        """Become the best state."""
        for name, value in self._parameters.items():
            value.detach().copy_(self.kept[f"best/{name}"])
