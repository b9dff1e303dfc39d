from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from graftery.cloning.insertion import Extension, Seen, class_loss, dropped, insert, insertion_adapter
from graftery.cloning.positions import above
from graftery.cloning.slicing import end_weights, with_linear_end
from graftery.cloning.stages import Stages
from graftery.module import ModuleFile
from graftery.spec.recipes import CloneRecipe
from tests.support import skills

RECIPE = CloneRecipe()


def _seen(z: torch.Tensor, features: torch.Tensor) -> Seen:
    rows = len(z)
    return Seen(
        z,
        torch.zeros(rows, 3),
        torch.zeros(rows, 2),
        features,
        torch.zeros(rows, dtype=torch.int64),
        tuple(z.shape[1:]),
    )


def test_the_loss_by_hand() -> None:
    old, new = torch.tensor([[0.0, math.log(2)], [math.log(3), 0.0]]), torch.tensor([[0.0], [0.0]])
    # Row 0 is the wanted class: 1 of 1 + 2 + 1. Row 1 is class 0: 3 of 3 + 1 + 1.
    expected = -(math.log(1 / 4) + math.log(3 / 5)) / 2
    assert class_loss(old, new, torch.tensor([2, 0])).item() == pytest.approx(expected)


def test_on_noise_the_target_is_asked() -> None:
    old, new = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0]])
    # The target says 1/4 and 3/4; with the new logit, 1/5 and 3/5.
    expected = -(0.25 * math.log(1 / 5) + 0.75 * math.log(3 / 5))
    assert class_loss(old, new, torch.tensor([-1])).item() == pytest.approx(expected)


def test_on_mixed_wanted_images_the_source_is_asked() -> None:
    old, new = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, math.log(2)]])
    said = torch.tensor([[0.0, math.log(3)]])
    # The source says 1/4 and 3/4; all together give 1/5 and 2/5.
    expected = -(0.25 * math.log(1 / 5) + 0.75 * math.log(2 / 5))
    assert class_loss(old, new, torch.tensor([-2]), said).item() == pytest.approx(expected)


def test_dropout_keeps_the_mean() -> None:
    mask = dropped((200, 50), RECIPE, 0)
    assert torch.unique(mask).tolist() == [0.0, pytest.approx(1 / (1 - RECIPE.dropout))]
    assert mask.mean().item() == pytest.approx(1, abs=0.02)
    assert not torch.equal(mask, dropped((200, 50), RECIPE, 1))
    assert torch.equal(dropped((2, 3), CloneRecipe(dropout=0), 0), torch.ones(2, 3))


def _behind() -> ModuleFile:
    return above(with_linear_end(skills.raw()), "0")[1]


def _joined(recipe: CloneRecipe) -> Extension:
    random = torch.Generator().manual_seed(0)
    behind = _behind()
    shape = tuple(behind.extras["probe.x"].shape[1:])
    z, features = torch.randn(40, 6, *shape[1:], generator=random), torch.rand(40, *shape, generator=random)
    y = torch.tensor([0, 1, *range(2, 7)] * 6)[:40]
    old = torch.randn(40, 2, generator=random)
    seen = Seen(z, torch.randn(40, 3, generator=random), old, features, y, tuple(z.shape[1:]))
    return insert(behind, seen, recipe, Stages(), "train")


def test_the_clone_learns_on_in_its_place_or_stays() -> None:
    short = CloneRecipe(steps=5, batch=16, mixed=0)
    learned, stayed = _joined(short.model_copy(update={"learn_on": True})), _joined(short)
    before, last = _behind().weights, end_weights(_behind())
    assert all(torch.equal(stayed.clone.weights[name], weight) for name, weight in before.items())
    changed = {name for name, weight in before.items() if not torch.equal(learned.clone.weights[name], weight)}
    assert changed == before.keys() - set(last) - {name for name in before if not before[name].is_floating_point()}
    assert not learned.own


def test_margins_move_new_logits_apart() -> None:
    """Images of original classes get lower new logits, wanted ones higher."""
    short = CloneRecipe(steps=40, batch=16, mixed=0, dropout=0, margin_original=0, margin_wanted=0)

    def new(changes: dict[str, float]) -> float:
        return _joined(short.model_copy(update=changes)).shift.detach().mean().item()

    assert new({"margin_original": 5.0}) < new({}) < new({"margin_wanted": 5.0})


@pytest.mark.parametrize(
    ("source", "target"), [((6, 4, 4), (4, 4, 4)), ((6, 8, 8), (4, 4, 4)), ((5, 6), (5, 4)), ((6,), (4,))]
)
def test_a_linear_relation_is_found_at_once(source: tuple[int, ...], target: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    z = torch.randn(300, *source, generator=random)
    weight, bias = torch.randn(4, 6, generator=random), torch.randn(4, generator=random)
    at = z if len(source) < 3 or source[1:] == target[1:] else F.interpolate(z, size=target[1:], mode="bilinear")
    last = at.movedim(1, -1) if at.ndim == 4 else at
    features = last @ weight.T + bias
    features = features.movedim(-1, 1) if at.ndim == 4 else features
    adapter = insertion_adapter(_seen(z, features), RECIPE)
    with torch.no_grad():
        found = adapter(z)
    assert ((found - features) ** 2).mean() < 1e-3 * (features**2).mean()


def test_features_that_are_never_negative_come_behind_a_relu() -> None:
    z = torch.randn(100, 6)
    adapter = insertion_adapter(_seen(z, torch.randn(100, 4).relu()), RECIPE)
    with torch.no_grad():
        assert (adapter(z) >= 0).all()


def test_other_kinds_of_features_are_crossed() -> None:
    z = torch.randn(20, 6, 4, 4)
    adapter = insertion_adapter(_seen(z, torch.randn(20, 16, 8)), RECIPE)
    with torch.no_grad():
        assert adapter(z).shape == (20, 16, 8)


def test_a_channel_that_never_changes_does_no_harm() -> None:
    z = torch.cat([torch.ones(50, 1), torch.randn(50, 2)], 1)
    adapter = insertion_adapter(_seen(z, torch.randn(50, 4)), RECIPE)
    with torch.no_grad():
        assert adapter(z).isfinite().all()
