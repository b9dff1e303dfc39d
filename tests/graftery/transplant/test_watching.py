from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.transplant.nets import Nets
from graftery.transplant.watching import watch
from tests.support.transplants import image_task


def test_the_score_is_the_share_of_the_teachers_variance() -> None:
    task, features = image_task(outputs=3), torch.rand(64, 4, 4, 4)
    same = watch(Nets(nn.Identity(), task, task), nn.Identity(), features)
    assert same is not None and same() == pytest.approx(1)
    with torch.no_grad():
        outputs = task(features)
    constant = watch(Nets(nn.Identity(), _Constant(outputs.mean(0)), task), nn.Identity(), features)
    assert constant is not None and constant() == pytest.approx(0, abs=1e-5)


def test_it_follows_the_adapter() -> None:
    task, features, h = image_task(), torch.rand(64, 4, 4, 4), nn.Conv2d(4, 4, 1)
    score = watch(Nets(nn.Identity(), task, task), h, features)
    assert score is not None
    before = score()
    nn.init.dirac_(h.weight)
    nn.init.zeros_(h.bias)  # type: ignore[arg-type]
    assert before < score() == pytest.approx(1)


def test_without_a_teacher_nobody_watches() -> None:
    assert watch(Nets(nn.Identity(), image_task()), nn.Identity(), torch.rand(4, 4, 4, 4)) is None


class _Constant(nn.Module):
    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(x), -1)
