from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.errors import TrainingFailed
from graftery.nn.freezing import freeze, state_digest, unchanged


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_freezing_ends_training_mode_and_gradients() -> None:
    net = freeze(_net())
    assert not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_the_digest_is_of_bits() -> None:
    net, same = _net(), _net()
    assert state_digest(net) == state_digest(same)
    with torch.no_grad():
        net[0].weight[0, 0] = torch.nextafter(net[0].weight[0, 0], torch.tensor(10.0))
    assert state_digest(net) != state_digest(same)


def test_the_digest_sees_buffers_that_are_not_saved() -> None:
    net = nn.Module()
    net.register_buffer("kept", torch.zeros(1), persistent=False)
    before = state_digest(net)
    net.kept += 1
    assert state_digest(net) != before


def test_a_zero_of_the_other_sign_is_another_bit() -> None:
    one, other = nn.Module(), nn.Module()
    one.register_buffer("x", torch.tensor([0.0]))
    other.register_buffer("x", torch.tensor([-0.0]))
    assert state_digest(one) != state_digest(other)


def test_unchanged_passes_what_only_looks() -> None:
    net = freeze(_net())
    with unchanged(net):
        net(torch.randn(4, 3))


@pytest.mark.parametrize("breach", ["batch norm in training mode", "a step on the weights"])
def test_unchanged_fails_on_a_changed_net(breach: str) -> None:
    net = freeze(_net())
    with pytest.raises(TrainingFailed, match="changed") as caught, unchanged(_net(), net):
        if breach == "a step on the weights":
            net[0].weight.data.add_(1e-6)
        else:
            net.train()(torch.randn(4, 3))
    assert caught.value.code == "frozen_changed"
