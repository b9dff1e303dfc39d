from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.errors import ShapesRefused
from graftery.module import trace
from graftery.module.fakes import output_shapes


class _Two(nn.Module):
    """Logits of pixels at twice the size, and of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, stride=2)
        self.up = nn.Upsample(scale_factor=4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(x)
        return {"mask": self.up(features), "is": features.mean((2, 3))}


def test_shapes_of_outputs_are_told_at_any_size_and_nothing_is_computed() -> None:
    net = _Two().eval()
    file = trace(net, torch.randn(2, 3, 9, 9))
    # Weights without data: only their shapes are asked for.
    weights = {name: weight.to("meta") for name, weight in file.weights.items()}
    for size in ((9, 9), (20, 7)):
        found = output_shapes(file.graph, weights, (1, 3, *size))
        assert found == {name: tuple(y.shape) for name, y in net(torch.randn(1, 3, *size)).items()}


def test_an_input_that_it_does_not_run_on_is_refused() -> None:
    file = trace(_Two().eval(), torch.randn(2, 3, 9, 9))
    with pytest.raises(ShapesRefused, match=r"an input of \[1, 3, 2, 2\]"):
        output_shapes(file.graph, file.weights, (1, 3, 2, 2))
