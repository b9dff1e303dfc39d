from __future__ import annotations

import torch

from benchmarks.serving.nets import NETS, parts, whole
from benchmarks.serving.peers.common import INPUTS
from benchmarks.transplant.worlds.cifar10 import Net


def _shapes(net: torch.nn.Module) -> list[tuple[int, ...]]:
    return [tuple(value.shape) for value in net.state_dict().values()]


def test_the_small_net_is_that_of_the_table_with_an_adapter() -> None:
    made, table = parts("small"), Net(["is"])
    assert _shapes(made["f"]) == _shapes(table.stages)
    assert _shapes(made["g"]) == _shapes(table.heads["is"])
    assert made["f"](torch.zeros(1, 3, 32, 32)).shape == (1, 48, 8, 8)


def test_resnet_18_has_the_parameters_of_the_paper() -> None:
    assert sum(p.numel() for net in parts("resnet").values() for p in net.parameters()) == 11_689_512


def test_weights_are_a_function_of_the_seeds() -> None:
    x = torch.ones(2, *INPUTS["small"])
    one, same, other = (whole("small", {"f": seed, "h": seed})(x) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    shared = (parts("small", {"f": seed})["g"].state_dict() for seed in (1, 2))
    first, second = shared
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert set(NETS) == set(INPUTS)
