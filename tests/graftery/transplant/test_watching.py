from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.transplant.nets import Nets
from graftery.transplant.watching import watch
from tests.support.transplants import image_task


def test_the_score_is_the_share_of_the_teachers_variance() -> None:
    task, features = image_task(outputs=3), torch.rand(64, 4, 4, 4)
    same = watch(Nets(nn.Identity(), task, task), nn.Identity(), features, "classification")
    assert same is not None and same() == pytest.approx(1)
    with torch.no_grad():
        outputs = task(features)
    constant = watch(Nets(nn.Identity(), _Constant(outputs.mean(0)), task), nn.Identity(), features, "classification")
    assert constant is not None and constant() == pytest.approx(0, abs=1e-5)


def test_each_output_of_a_regression_counts_the_same_in_whatever_unit() -> None:
    """The second one, in a small unit, is not explained at all."""
    features = torch.rand(64, 2) * torch.tensor([1.0, 0.1])
    half = _Half(features.mean(0))
    score = watch(Nets(nn.Identity(), half, nn.Identity()), nn.Identity(), features, "regression")
    assert score is not None and score() == pytest.approx(0.5, abs=1e-5)


def test_it_follows_the_adapter() -> None:
    task, features, h = image_task(), torch.rand(64, 4, 4, 4), nn.Conv2d(4, 4, 1)
    score = watch(Nets(nn.Identity(), task, task), h, features, "classification")
    assert score is not None
    before = score()
    nn.init.dirac_(h.weight)
    nn.init.zeros_(h.bias)  # type: ignore[arg-type]
    assert before < score() == pytest.approx(1)


def test_without_a_teacher_nobody_watches() -> None:
    assert watch(Nets(nn.Identity(), image_task()), nn.Identity(), torch.rand(4, 4, 4, 4), "regression") is None


class _Half(nn.Module):
    """The first output, and a constant for the second."""

    def __init__(self, mean: torch.Tensor) -> None:
        super().__init__()
        self.mean = nn.Parameter(mean)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[:, 0], self.mean[1].expand(len(x))], 1)


class _Constant(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(x), -1)
