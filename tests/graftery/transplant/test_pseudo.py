"""The linear stand-ins: linear, and the mean over every choice of gates and picks."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.errors import RecipeRefused
from graftery.transplant.opgraph import op_graph
from graftery.transplant.pseudo import Linear
from tests.support.transplants import image_task, token_task, warmed


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.offset = nn.Parameter(torch.ones(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x + self.two(F.gelu(self.one(x))) + self.offset, 2) * 0.5 - 1


def _norm() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(2), nn.LayerNorm(16), nn.Flatten(1), nn.Linear(64, 2)).eval()


NETS: dict[str, Callable[[], nn.Module]] = {
    "conv, bn, relu, max pool, linear": image_task,
    "residual": lambda: Residual().eval(),
    "layer norm": _norm,
    "padded pooling": lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    "transposed": lambda: nn.ConvTranspose2d(4, 3, 2, stride=2).eval(),
}


def _linear(net: nn.Module) -> Callable[[Tensor], Tensor]:
    graph = op_graph(net, torch.rand(2, 4, 4, 4))

    def run(x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = Linear(graph).run(x)
        return found

    return run


@pytest.mark.parametrize("name", NETS)
def test_the_rewritten_net_is_linear(name: str) -> None:
    torch.manual_seed(0)
    run, (a, b) = _linear(NETS[name]()), torch.randn(2, 3, 4, 4, 4)
    assert torch.allclose(run(2 * a - 3 * b), 2 * run(a) - 3 * run(b), atol=1e-4)
    assert float(run(torch.zeros_like(a)).abs().max()) == 0
    assert float(run(a).abs().max()) > 0


def test_it_is_the_mean_over_all_gates() -> None:
    torch.manual_seed(0)
    first, second, third, skip = (nn.Linear(4, 4, bias=False) for _ in range(4))

    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            low = F.relu(first(x))
            return third(F.relu(second(low))) + skip(low)

    x, gates = torch.randn(2, 4), list(product((0.0, 1.0), repeat=4))
    runs = []
    for low, high in product(map(torch.tensor, gates), repeat=2):
        gated = first(x) * low
        runs.append(third(second(gated) * high) + skip(gated))
    net = Net().eval()
    net.layers = nn.ModuleList([first, second, third, skip])  # type: ignore[assignment]
    found = Linear(op_graph(net, x)).run(x)
    assert torch.allclose(found, torch.stack(runs).mean(0), atol=1e-6)


POOLS = {"plain": nn.MaxPool2d(2), "overlapping": nn.MaxPool2d(3, 2), "padded": nn.MaxPool2d(3, 2, 1, ceil_mode=True)}


@pytest.mark.parametrize("name", POOLS)
def test_a_pick_is_any_element_of_its_window_but_of_the_padding(name: str) -> None:
    pool, x, drawn = POOLS[name], torch.arange(2 * 4 * 16.0).view(2, 4, 4, 4), 4000
    _, index = F.max_pool2d(
        torch.rand(drawn, 1, 4, 4), pool.kernel_size, pool.stride, pool.padding, 1, pool.ceil_mode, return_indices=True
    )
    picks = F.one_hot(index.flatten(1), 16).float().mean(0)
    found = _linear(pool)(x)
    assert torch.allclose(found.flatten(2), x.flatten(2) @ picks.T, atol=0.3)
    assert torch.equal(_linear(pool)(torch.ones_like(x)), torch.ones_like(found))


def test_a_dilated_pooling_is_refused() -> None:
    graph = op_graph(nn.MaxPool2d(2, dilation=2), torch.rand(2, 4, 4, 4))
    with pytest.raises(RecipeRefused, match="dilated"):
        Linear(graph).run(torch.rand(2, 4, 4, 4))


def test_batch_norm_keeps_its_scale_only() -> None:
    torch.manual_seed(0)
    norm = warmed(nn.BatchNorm2d(4), torch.randn(8, 4, 4, 4) * 3 + 1)
    nn.init.uniform_(norm.weight)  # type: ignore[arg-type]
    x = torch.randn(2, 4, 4, 4)
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # type: ignore[operator]
    assert torch.allclose(_linear(norm)(x), x * scale.view(1, 4, 1, 1))  # type: ignore[operator]


def test_what_has_no_linear_stand_in_is_refused_by_name() -> None:
    graph = op_graph(token_task(), torch.rand(2, 3, 4))
    with pytest.raises(RecipeRefused, match=r"aten\.scaled_dot_product_attention"):
        Linear(graph).run(torch.rand(2, 3, 4))


class _Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x


class _Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


def test_a_feature_times_itself_is_no_product_with_a_constant() -> None:
    with pytest.raises(RecipeRefused, match=r"aten\.mul"):
        _linear(_Square())(torch.rand(2, 4, 4, 4))
    x = torch.rand(2, 4, 4, 4)
    assert torch.equal(_linear(_Twice())(x), 2 * x)
