from __future__ import annotations

import copy

import torch
from torch import nn

from graftery.module import trace
from graftery.module.build import buffer_names
from graftery.nn.statistics import on_batch, reestimated
from tests.support.compatible import block


def test_statistics_are_those_that_torch_gathers_in_training() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*block(4, 6), *block(6, 5), nn.Flatten(), nn.Linear(5 * 36, 3)).eval()
    x = torch.randn(40, 4, 6, 6) * 3 + 1
    found = reestimated(trace(net, x, kind="task"), x)
    wanted = copy.deepcopy(net).train()
    for part in wanted.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = 1.0
    wanted(x)
    for name, value in wanted.eval().state_dict().items():
        if "running" in name:
            torch.testing.assert_close(found.weights[name], value)
    torch.testing.assert_close(found.net()(x), wanted(x))


def test_nothing_else_of_a_head_changes() -> None:
    net = nn.Sequential(*block(4, 6), nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    head = trace(net, torch.randn(2, 4, 6, 6), kind="task")
    found = reestimated(head, torch.randn(30, 4, 6, 6))
    changed = {name for name, value in head.weights.items() if not torch.equal(value, found.weights[name])}
    assert changed and all("running" in name for name in changed)
    assert found.manifest == head.manifest


def test_a_head_without_batch_norm_stays_as_it_is() -> None:
    head = trace(nn.Linear(4, 2), torch.zeros(2, 4), kind="task")
    assert reestimated(head, torch.randn(8, 4)) is head


def test_on_a_batch_it_is_what_training_computes_also_with_other_weights() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(*block(4, 6), nn.Flatten(), nn.Linear(6 * 36, 3)).eval()
    x = torch.randn(20, 4, 6, 6) * 2 + 1
    file = trace(net, x, kind="task")
    torch.testing.assert_close(on_batch(file.net(), x, {}), copy.deepcopy(net).train()(x))
    bias = buffer_names(file.graph)["4.bias"]
    other = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    found = on_batch(file.net(), x, {bias: other})
    torch.testing.assert_close(found - on_batch(file.net(), x, {}), (other - file.weights["4.bias"]).expand(20, 3))
    (gradient,) = torch.autograd.grad(found.sum(), other)
    assert gradient.tolist() == [20, 20, 20]
