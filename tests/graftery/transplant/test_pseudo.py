from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.data.streams import generator
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


def _linear(net: nn.Module, seed: int = 0) -> Callable[[Tensor], Tensor]:
    graph = op_graph(net, torch.rand(2, 4, 4, 4))

    def run(x: Tensor) -> Tensor:
        # Each run starts the generator anew: the same gates and picks, so that linearity can be seen.
        with torch.no_grad():
            found: Tensor = Linear(graph, generator(seed, "gates")).run(x)
        return found

    return run


@pytest.mark.parametrize("name", NETS)
def test_the_rewritten_net_is_linear(name: str) -> None:
    torch.manual_seed(0)
    run, (a, b) = _linear(NETS[name]()), torch.randn(2, 3, 4, 4, 4)
    assert torch.allclose(run(2 * a - 3 * b), 2 * run(a) - 3 * run(b), atol=1e-4)
    assert float(run(torch.zeros_like(a)).abs().max()) == 0
    assert float(run(a).abs().max()) > 0


def test_gates_and_picks_are_random_by_sample() -> None:
    x = torch.ones(2, 4, 4, 4)
    gated = _linear(nn.Sequential(nn.ReLU()))(x)
    assert set(gated.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(gated[0], gated[1])
    assert not torch.equal(gated, _linear(nn.Sequential(nn.ReLU()), seed=1)(x))


def test_a_pick_is_one_element_of_its_window() -> None:
    x = torch.arange(2 * 4 * 16.0).view(2, 4, 4, 4)
    picked = _linear(nn.MaxPool2d(2))(x)
    windows = F.unfold(x, 2, stride=2).view(2, 4, 4, 2, 2)
    assert bool((windows == picked[:, :, None]).any(2).all())


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
        Linear(graph, generator(0, "gates")).run(torch.rand(2, 3, 4))
