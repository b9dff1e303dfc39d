from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from graftery.cloning.insertion import Seen, class_loss, insertion_adapter
from graftery.spec.recipes import CloneRecipe

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
