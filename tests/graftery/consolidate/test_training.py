"""The loss of a step against numbers by hand and of a fixed seed; what is kept of a training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graftery.consolidate.lessons import Lesson
from graftery.consolidate.training import Learned, Watch, learn, losses, scales, summed
from graftery.data.streams import generator
from graftery.errors import TrainingFailed
from graftery.learning.checkpoint import Checkpoint
from graftery.learning.loop import Loop
from graftery.nn.freezing import freeze
from graftery.spec.recipes import ConsolidateRecipe, StopRecipe, TransplantRecipe
from graftery.transplant.sources import Batch

RECIPE = ConsolidateRecipe(steps=40, learning_rate=0.05, stop=StopRecipe(every=5, patience=0), tolerance=1.0)


def _linear(*rows: list[float]) -> nn.Module:
    net = nn.Linear(2, len(rows), bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(rows))
    return net


def _x(step: int) -> Tensor:
    return torch.randn(16, 2, generator=generator(0, "x", step))


def _lesson(
    student: nn.Module, target: nn.Module, *, anchored: bool = False, name: str = "cell", **objectives: float
) -> Lesson:
    recipe = TransplantRecipe.model_validate({"objectives": objectives or {"distillation": 1.0}})
    held = (_x(1000), 2 * _x(1001))
    return Lesson(name, anchored, recipe, "regression", student, freeze(target), lambda s: Batch(_x(s)), held)


def test_the_terms_are_what_the_equations_say() -> None:
    student, target = _linear([1.0, 0.0]), _linear([0.0, 2.0])
    x = _x(3)
    found = losses(_lesson(student, target, distillation=1.0, back_distillation=1.0), Batch(x), 3)
    y, wanted = x[:, :1], 2 * x[:, 1:]
    by_hand = ((y - wanted).square().mean() / wanted.var(correction=0)).item()
    assert found["distillation"].item() == pytest.approx(by_hand, rel=1e-5)
    # ||(1, 0) - (0, 2)||² / ||(0, 2)||² for every direction, which is a sign.
    assert found["back_distillation"].item() == pytest.approx(5 / 4, rel=2e-3)


def test_the_loss_of_a_fixed_seed() -> None:
    """Moves only if the objective, the draws or the sum over cells change."""
    one, other = _linear([0.5, -0.25]), _linear([1.0, 1.0])
    lessons = [
        _lesson(one, _linear([0.0, 2.0]), distillation=4.0, back_distillation=1.0),
        _lesson(one, other, anchored=True, name="held", distillation=4.0, back_distillation=1.0),
    ]
    recipe = RECIPE.model_copy(update={"anchor_weight": 0.5})
    found = summed(lessons, [1.0, 1.0], recipe, 7)
    assert {name: round(value.item(), 4) for name, value in found.items()} == GOLDEN


GOLDEN = {"distillation": 2.758, "back_distillation": 0.6634, "anchor": 1.1119}


def test_cells_are_balanced_by_what_their_loss_is_at_the_start() -> None:
    student = _linear([1.0, 0.0])
    lessons = [_lesson(student, _linear([0.0, w]), name=str(w)) for w in (1.0, 4.0)]
    lessons.append(_lesson(student, _linear([1.0, 0.0]), anchored=True, name="held"))
    assert scales(lessons, RECIPE) == [1.0, 1.0, 1.0]
    found = scales(lessons, RECIPE.model_copy(update={"balance": "loss"}))
    assert sum(found) == pytest.approx(3)
    at_start = [losses(lesson, Batch(_x(0)), 0)["distillation"].item() for lesson in lessons]
    assert found[0] * at_start[0] == pytest.approx(found[1] * at_start[1])
    # A cell whose loss is zero does not outweigh all others without bound.
    assert found[2] < 10 * 3 * max(at_start) / min(at_start[:2])


def test_the_watched_share_is_a_mean_over_groups() -> None:
    target = _linear([0.0, 2.0])
    assert Watch(_lesson(_linear([0.0, 2.0]), target))() == 1.0
    lesson = _lesson(_linear([0.0, 1.0]), target)
    shares = []
    for x in lesson.held_out:
        y = target(x)
        shares.append(1 - ((y / 2 - y).square().mean() / (y - y.mean(0)).square().mean()).item())
    assert Watch(lesson)() == pytest.approx(sum(shares) / 2, rel=1e-5)


@pytest.mark.parametrize("outputs", [1, 3])
def test_of_logits_the_best_constant_explains_nothing(outputs: int) -> None:
    target = _linear(*([1.0, float(k)] for k in range(outputs)))
    lesson = replace(_lesson(target, target), semantics="classification")
    assert Watch(lesson)() == pytest.approx(1, abs=1e-6)
    soft = target(lesson.held_out[0]) / 2
    share = soft.sigmoid() if outputs == 1 else soft.softmax(1)
    mean = share.mean(0)
    constant = _Constant(2 * (torch.logit(mean) if outputs == 1 else mean.log()))
    one = replace(lesson, student=constant, held_out=lesson.held_out[:1])
    assert Watch(one)() == pytest.approx(0, abs=1e-5)
    off = replace(one, student=_Constant(constant.logits + torch.arange(outputs) + 0.5))
    assert Watch(off)() < -0.01


class _Constant(nn.Module):
    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.logits.expand(len(x), -1)


def _learned(student: nn.Module, lessons: list[Lesson], recipe: ConsolidateRecipe = RECIPE, *frozen: nn.Module):  # type: ignore[no-untyped-def]
    return learn(lessons, dict(student.named_parameters()), frozen, recipe, Loop("train"))


def test_a_student_learns_what_two_targets_have_in_common() -> None:
    student, target = _linear([0.2, 1.5]), _linear([0.0, 2.0])
    done = _learned(student, [_lesson(student, target, name=name) for name in ("one", "other")])
    assert not done.unchanged
    assert min(done.after) > max(*done.before, 0.99)
    assert (student.weight - target.weight).abs().max() < 0.1


def test_a_state_in_which_a_cell_loses_more_than_the_tolerance_is_not_kept() -> None:
    student = _linear([1.0, 1.0])
    before = student.weight.clone()
    held = _lesson(student, _linear([1.0, 1.0]), anchored=True, name="held")
    away = _lesson(student, _linear([-3.0, 3.0]), name="away")
    strict = _learned(student, [away, held], RECIPE.model_copy(update={"tolerance": 0.0}))
    assert strict.unchanged and strict.before == strict.after
    assert torch.equal(student.weight, before)
    loose = _learned(student, [away, held])
    assert not loose.unchanged
    assert loose.after[1] < loose.before[1]


def test_the_best_state_survives_a_break() -> None:
    """Early states harm nobody; the later ones, of which one is resumed, do."""

    def run(**hooks: Any) -> tuple[Learned, Tensor]:
        student = _linear([1.0, 1.0])
        away = _lesson(student, _linear([-3.0, 3.0]), name="away")
        held = _lesson(student, _linear([1.0, 1.0]), anchored=True, name="held")
        stop = StopRecipe(every=1, patience=100)
        recipe = RECIPE.model_copy(update={"tolerance": 0.1, "stop": stop})
        done = learn([away, held], dict(student.named_parameters()), [], recipe, Loop("train", **hooks))
        return done, student.weight

    kept: list[Checkpoint] = []
    whole, weight = run(checkpoint=kept.append, checkpoint_s=0.0)
    assert not whole.unchanged
    late, again = run(resume=kept[-2])
    assert late == whole
    assert torch.equal(again, weight)


def test_what_changes_that_is_frozen_is_an_error() -> None:
    student, target = _linear([0.2, 1.5]), _linear([0.0, 2.0])
    with pytest.raises(TrainingFailed) as caught:
        _learned(student, [_lesson(student, target)], RECIPE, student)
    assert caught.value.code == "frozen_changed"
