from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from graftery.learning.loop import Loop
from graftery.spec.plan import complete
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import Checkpoint, Transplant, transplant
from graftery.transplant.choosing import Score, best_json, learn_best, score
from graftery.transplant.nets import Nets
from tests.support import transplants as t

CHOICE = TransplantRecipe.model_validate({"adapter": {"choose": [1, 2, 3]}})
SHORT = TransplantRecipe.model_validate(
    {"steps": 6, "batch": 8, "sources": ["inversion", "noise"], "inversion": {"images": 8, "steps": 3}}
)


def _scores(*ranks: tuple[float | None, float]) -> tuple[TransplantRecipe, list[Score], list[int]]:
    """What is chosen among depths with these kappas and losses, every score, and the depths that were learned."""
    learned: list[int] = []

    def learn(recipe: TransplantRecipe, _: nn.Module, __: Loop) -> int:
        learned.append(recipe.adapter.layers or 0)
        return 7

    def judge(recipe: TransplantRecipe, _: nn.Module) -> Score:
        layers = recipe.adapter.layers or 0
        return Score(layers, *ranks[layers - 1])

    best, scores = learn_best(CHOICE, learn, lambda _: nn.Linear(1, 1), judge, Loop("train"))
    assert best.steps == 7
    return best.recipe, scores, learned


@pytest.mark.parametrize(
    "ranks, layers",
    [
        (((0.5, 1.0), (0.6, 9.0), (0.4, 0.1)), 2),
        (((0.5, 1.0), (0.5, 0.9), (0.5, 0.95)), 2),
        (((0.5, 1.0), (0.5, 1.0), (0.5, 1.0)), 1),
        (((None, 0.3), (None, 0.2), (None, 0.1)), 3),
    ],
)
def test_the_best_agreement_is_kept_then_the_least_loss_then_the_shallowest(ranks: Any, layers: int) -> None:
    recipe, scores, learned = _scores(*ranks)
    assert learned == [1, 2, 3]
    assert (recipe.adapter.layers, recipe.adapter.choose) == (layers, ())
    assert best_json(recipe, scores).keys() == {"layers", "1", "2", "3"}


def test_the_score_is_of_the_student_and_its_teacher() -> None:
    nets = Nets(t.image_category(), t.image_task(outputs=3, seed=1), t.image_task(outputs=3))
    same = Nets(nets.category, nets.teacher, nets.teacher)  # type: ignore[arg-type]
    x = nets.features(torch.randn(64, 1, 8, 8))
    found, perfect = (score(each, x, "classification", SHORT, nn.Identity()) for each in (nets, same))
    assert perfect.kappa == 1
    assert abs(perfect.loss) < 1e-6
    assert found.kappa is not None
    assert found.kappa < 0.9
    assert found.loss > 0.01
    assert score(nets, x, "regression", SHORT, nn.Identity()).kappa is None
    with pytest.raises(ValueError, match="teacher"):
        score(Nets(nets.category, nets.task), x, "classification", SHORT, nn.Identity())


def _run(recipe: TransplantRecipe, choose: tuple[int, ...] = (), **options: Any) -> Transplant:
    f, task, teacher = t.image_files()
    if choose:
        recipe = recipe.model_copy(update={"adapter": recipe.adapter.model_copy(update={"choose": choose})})
    return transplant(f, task, teacher_task=teacher, recipe=recipe, **options)


def test_what_is_chosen_is_what_a_recipe_of_this_depth_gives() -> None:
    done = _run(SHORT, (1, 2, 3))
    choice = done.metrics["choice"]
    assert done.recipe.adapter.layers == choice["layers"]
    assert done.recipe.adapter.choose == ()
    best = max(("1", "2", "3"), key=lambda layers: (choice[layers].get("kappa", 0), -choice[layers]["loss"]))
    assert str(choice["layers"]) == best
    again = _run(done.recipe)
    assert again.adapter.content_digest == done.adapter.content_digest
    assert "choice" not in again.metrics


def test_a_broken_choice_goes_on_and_ends_at_the_same_bits() -> None:
    kept: list[Checkpoint] = []
    unbroken = _run(SHORT, (1, 2), checkpoint=kept.append, checkpoint_s=0.0)
    assert [(c.phase, c.step) for c in kept] == [
        *[("inversion", step + 1) for step in range(3)],
        *[("train", step + 1) for step in range(6)] * 2,
    ]
    for index in (1, 5, 11):
        steps: list[Checkpoint] = []
        resumed = _run(SHORT, (1, 2), resume=kept[index], checkpoint=steps.append, checkpoint_s=0.0)
        assert resumed.adapter.content_digest == unbroken.adapter.content_digest, index
        assert resumed.metrics["choice"] == unbroken.metrics["choice"]
        assert resumed.metrics["steps"] == unbroken.metrics["steps"] == 6
        assert len(steps) == len(kept) - index - 1


@pytest.mark.parametrize("told", [5, None])
def test_one_that_was_learned_before_a_break_keeps_its_steps(told: int | None) -> None:
    """Where its checkpoint tells them: one of an older version does not."""
    state = {f"layers1.{name}": value for name, value in nn.Linear(1, 1).state_dict().items()}
    state |= {} if told is None else {"layers1.steps": torch.tensor(told)}
    learned: list[int | None] = []

    def learn(recipe: TransplantRecipe, _: nn.Module, __: Loop) -> int:
        learned.append(recipe.adapter.layers)
        return 7

    def judge(recipe: TransplantRecipe, _: nn.Module) -> Score:
        return Score(recipe.adapter.layers or 0, None, float(recipe.adapter.layers or 0))

    loop = Loop("train", resume=Checkpoint(1, state, "train"))
    best, _ = learn_best(CHOICE, learn, lambda _: nn.Linear(1, 1), judge, loop)
    assert (best.recipe.adapter.layers, best.steps, learned) == (1, told, [2, 3])


def test_a_dense_output_is_chosen_by_its_loss() -> None:
    f = t.image_files()[0]
    tasks = [t.task_file(t.dense_task(seed=seed), torch.rand(2, 4, 4, 4), "segmentation") for seed in (1, 0)]
    recipe = TransplantRecipe.model_validate(
        {"steps": 4, "batch": 8, "sources": ["noise"], "adapter": {"choose": [2, 1]}}
    )
    choice = transplant(f, tasks[0], teacher_task=tasks[1], recipe=recipe).metrics["choice"]
    assert choice[str(choice["layers"])] == {"loss": min(choice["1"]["loss"], choice["2"]["loss"])}


def test_the_completed_recipe_keeps_the_choice_open() -> None:
    at_hand = {
        "labels": 0,
        "unlabelled": False,
        "batch_norm": False,
        "sketch": False,
        "dense": True,
        "image_input": True,
    }
    done = complete(CHOICE, teacher_task=True, **at_hand)
    assert (done.adapter.layers, done.adapter.choose) == (None, (1, 2, 3))
