"""In-place operators become functional ones without changing what anyone else sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graftery.module import trace
from graftery.module.opset import operators


class Calls(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _alias_seen_after(x: Tensor) -> Tensor:
    y = x * 2
    z = y
    z += 1
    return y + z


def _view_not_seen_again(x: Tensor) -> Tensor:
    return (x * 2).flatten(1).relu_() + 1


def _dropped_and_changed(x: Tensor) -> Tensor:
    y = x * 2
    z = F.dropout(y, 0.5, False)
    z.add_(1)
    return y * z


def _chain(x: Tensor) -> Tensor:
    y = x + 1
    y.mul_(2).sub_(3).clamp_(-1, 1)
    return y


def _constant_changed(x: Tensor) -> Tensor:
    bias = torch.tensor([1.0, 2.0, 3.0, 4.0])
    bias += 1
    return x + bias


@pytest.mark.parametrize(
    "function",
    [
        _alias_seen_after,
        _view_not_seen_again,
        _dropped_and_changed,
        _chain,
        _constant_changed,
        lambda x: F.relu_(x) * 2,
    ],
    ids=["alias", "view", "dropout", "chain", "constant", "input"],
)
def test_in_place(function: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(3, 4)
    file = trace(Calls(function), torch.zeros(2, 4))
    assert torch.equal(file.net()(x), function(x.clone()))
    assert all(node.op in operators() for node in file.graph.nodes)


def test_the_built_net_leaves_its_input_alone() -> None:
    net = trace(nn.ReLU(inplace=True), torch.zeros(2, 4)).net()
    x = -torch.ones(2, 4)
    net(x)
    assert torch.equal(x, -torch.ones(2, 4))


def test_dropout_leaves_no_step_but_a_name() -> None:
    file = trace(nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Tanh()), torch.zeros(2, 4))
    assert file.graph.operators() == ("aten.linear.default", "aten.tanh.default")
    assert file.graph.names["1"] == file.graph.names["0"]


def test_hardsigmoid_is_rewritten_exactly() -> None:
    file = trace(nn.Hardsigmoid(), torch.zeros(2, 4))
    assert file.graph.operators() == ("aten.add.Scalar", "aten.div.Scalar", "aten.relu6.default")
    x = torch.linspace(-5, 5, 400).reshape(-1, 4)
    assert torch.equal(file.net()(x), F.hardsigmoid(x))


def test_an_instance_norm_of_statistics_becomes_the_batch_norm_that_it_is() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    x = torch.randn(7, 3, 5, 5)
    net.train()(x)
    file = trace(net.eval(), x)
    assert "aten.batch_norm.default" in file.graph.operators()
    before = {name: weight.clone() for name, weight in file.weights.items()}
    torch.testing.assert_close(file.net()(x), net(x))
    assert all(torch.equal(weight, before[name]) for name, weight in file.weights.items())


def test_names_are_the_last_tensor_made_in_a_layer() -> None:
    file = trace(nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True)), nn.Tanh()), torch.zeros(2, 4))
    assert file.graph.names == {"0": "v1", "0.0": "v0", "0.1": "v1", "1": "v2"}


def test_batch_size_is_no_step() -> None:
    file = trace(Calls(lambda x: x.view(x.shape[0], 2, -1)), torch.zeros(2, 4))
    (node,) = file.graph.nodes
    assert node.args[1] == [{"N": 1}, 2, -1]


def test_device_of_the_file_is_the_input_s() -> None:
    file = trace(Calls(lambda x: x + torch.ones(4, device=x.device)), torch.zeros(2, 4))
    assert any(node.kwargs.get("device") == {"device": 1} for node in file.graph.nodes)
    assert "device" in file.net().code


def test_infinite_arguments_are_held() -> None:
    file = trace(Calls(lambda x: x.masked_fill(x > 0, float("-inf")).clamp(min=-1.0)), torch.zeros(2, 4))
    assert any({"f": "-inf"} in node.args for node in file.graph.nodes)
