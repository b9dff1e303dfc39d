from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graftery.compat import Design, split_at
from graftery.errors import CutRefused, TraceRefused
from tests.support.compatible import Net, block
from tests.support.families import Attention, Residual


class Around(nn.Module):
    """A shortcut around `body`."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.end = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(x + self.body(x))


class Again(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self.body(x))


class Deciding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.sum() > 0 else x


NETS = {
    "convolutions": (lambda: Net(5), "lower", (1, 8, 8)),
    "a layer within": (lambda: Net(5), "upper.2", (1, 8, 8)),
    "residual": (lambda: nn.Sequential(*block(1, 4), Residual(4), Residual(4), nn.Flatten()), "3", (1, 8, 8)),
    "attention": (lambda: nn.Sequential(Attention(8), Attention(8), nn.Flatten()), "0", (5, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_parts_are_the_net(name: str) -> None:
    make, layer, shape = NETS[name]
    split = split_at(make().eval(), layer)
    x = torch.randn(3, *shape)
    assert torch.equal(split.head(split.extractor(x)), split.net(x))


def test_the_parts_learn_as_the_net_does() -> None:
    split = split_at(Net(5), "lower")
    split.net.train()
    split.head(split.extractor(torch.randn(4, 1, 8, 8))).sum().backward()
    assert all(value.grad is not None for value in split.net.parameters())
    norm = split.net.get_submodule("lower.1")
    assert isinstance(norm, nn.BatchNorm2d) and norm.num_batches_tracked == 1


def test_a_design_begins_with_the_weights_of_its_seed() -> None:
    design = Design(Net, "lower")
    one, same, other = (design.split(3, seed, "x").net.state_dict() for seed in (0, 0, 1))
    assert torch.equal(one["fc.weight"], same["fc.weight"])
    assert not torch.equal(one["fc.weight"], other["fc.weight"])


def test_building_a_net_leaves_the_callers_randomness_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    Design(Net, "lower").build(3, 0, "x")
    assert torch.equal(torch.rand(1), wanted)


def test_an_unknown_layer_is_refused_with_those_near_it() -> None:
    with pytest.raises(CutRefused, match="near it: lower") as refused:
        split_at(Net(2), "lowr")
    assert refused.value.code == "cut_not_found"


@pytest.mark.parametrize(("net", "layer"), [(Around(), "body"), (Again(), "body")])
def test_a_layer_that_not_everything_passes_once_is_refused(net: nn.Module, layer: str) -> None:
    with pytest.raises(CutRefused) as refused:
        split_at(net, layer)
    assert refused.value.code == "cut_not_separating"


def test_a_net_that_decides_by_values_is_refused() -> None:
    with pytest.raises(TraceRefused, match="cannot be split"):
        split_at(Deciding(), "body")
