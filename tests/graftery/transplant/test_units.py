from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.data.streams import generator
from graftery.transplant import objectives
from graftery.transplant.sources import Batch
from graftery.transplant.units import Units


def _batch(step: int) -> Batch:
    return Batch(torch.randn(16, 3, generator=generator(0, "units", step)) * torch.tensor([1.0, 10.0, 100.0]))


def test_units_are_of_many_of_the_teachers_outputs_and_of_all_labels() -> None:
    labels = torch.tensor([[0.0], [2.0]])
    found = Units.of("regression", labels, nn.Identity(), _batch)
    assert found.labels is not None and found.labels.tolist() == [[1.0]]
    assert found.teacher is not None and found.teacher.flatten().tolist() == pytest.approx([10, 100, 1e4], rel=0.4)
    ready = Units.of(
        "feature", None, nn.Linear(1, 1), lambda step: Batch(torch.zeros(16, 1), None, _batch(step).features)
    )
    assert ready.labels is None and torch.equal(ready.teacher, found.teacher)  # type: ignore[arg-type]


def test_logits_need_no_unit() -> None:
    assert Units.of("classification", torch.zeros(4), nn.Identity(), _batch) == Units()


def test_each_output_is_worth_the_same_whatever_a_batch_happens_to_hold() -> None:
    unit, teacher = torch.tensor([[1.0, 1e4]]), torch.tensor([[1.0, 10.0], [-1.0, -10.0]])
    wrong = [teacher + torch.tensor(by) for by in ([0.5, 0.0], [0.0, 50.0])]
    one, other = (objectives.distillation(each, teacher, "regression", 1.0, unit.clamp_min(10)) for each in wrong)
    assert float(other) == pytest.approx(10 * float(one))
