"""What is refused before the first step, so that no training is lost to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from graftery.compat import AtChance, Design, Task, found, train
from graftery.data import SampleSet
from graftery.errors import GrafteryError
from graftery.spec.recipes import CompatRecipe
from tests.support.compatible import COMMON, DESIGN, A, B, Net, images, task

QUICK = CompatRecipe(epochs=1, batch=32)
X = images()[0][:4]
FEW = task("a", A, most=96, test=False)


class _Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x.detach()) * 0 + x


def _with(part: nn.Module) -> Callable[[int], Net]:
    def build(logits: int) -> Net:
        net = Net(logits)
        net.upper.insert(0, part)
        return net

    return build


def _frozen(logits: int, *, all_of_it: bool = False) -> Net:
    net = Net(logits)
    for parameter in list(net.parameters())[: None if all_of_it else 1]:
        parameter.requires_grad_(False)
    return net


def _measured(x: Tensor, y: Tensor) -> Task:
    return replace(FEW, test=SampleSet(x, y))


def _built(build: Callable[[int], nn.Module]) -> Task:
    return replace(FEW, design=Design(build, "lower"))


REFUSED: dict[str, tuple[Task, str]] = {
    "test images of another size": (_measured(torch.rand(42, 1, 9, 9), torch.arange(42) % 7), "shape_mismatch"),
    "test images of other channels": (_measured(torch.rand(42, 3, 8, 8), torch.arange(42) % 7), "shape_mismatch"),
    "too few test images": (_measured(torch.rand(2, 1, 8, 8), torch.arange(2)), "samples_invalid"),
    "all test images but few of one class": (
        _measured(torch.rand(50, 1, 8, 8), (torch.arange(50) < 2).long()),
        "samples_invalid",
    ),
    "an operator that no file can hold": (_built(_with(_Unknown())), "trace_unsupported"),
    "another number of logits": (_built(lambda logits: Net(logits + 1)), "shape_mismatch"),
    "a net for other images": (_built(_with(nn.Conv2d(3, 16, 1))), "shape_mismatch"),
    "nothing to learn": (_built(lambda logits: _frozen(logits, all_of_it=True)), "recipe_invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_only_fail_at_the_end_is_refused_before_the_first_step(what: str) -> None:
    given, code = REFUSED[what]
    steps: list[object] = []
    with pytest.raises(GrafteryError) as refused:
        train([given], found(DESIGN, (), X), QUICK, progress=steps.append)
    assert (refused.value.code, steps) == (code, [])


@pytest.mark.parametrize("device", ["foo", "meta", "cuda:99"])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(GrafteryError) as refused:
        train([FEW], found(DESIGN, (), X), QUICK, device=device)
    assert refused.value.code == "recipe_invalid"


def test_a_frozen_layer_stays_as_it_is() -> None:
    design = Design(_frozen, "lower")
    done = train([replace(FEW, design=design)], found(design, ("IIW",), X), QUICK)
    net = done.members["a"].net
    assert net is not None
    first = design.build(7, 0, "group").state_dict()
    assert torch.equal(net.weights["lower.0.weight"], first["lower.0.weight"])
    assert not torch.equal(net.weights["lower.3.weight"], first["lower.3.weight"])


@pytest.mark.slow
def test_images_of_double_precision_are_trained_on_as_any() -> None:
    group = found(DESIGN, ("RP", "DCC"), X, common=COMMON)
    double = replace(FEW, train=SampleSet(FEW.train.x.double(), FEW.train.y))
    assert train([double], group, QUICK).group.digest == train([FEW], group, QUICK).group.digest


@pytest.mark.slow
def test_one_network_at_chance_leaves_the_others() -> None:
    real = task("b", B)
    y = torch.randint(len(B), (96,), generator=torch.Generator().manual_seed(0))
    guess = Task("b", real.classes, SampleSet(real.train.x[:96], y), DESIGN, real.test)
    group = found(DESIGN, ("RP",), X)
    with pytest.raises(AtChance, match="the network of b is right on") as failed:
        train([task("a", A), guess], group, CompatRecipe(epochs=3, rotation_weight=0.1))
    done = failed.value.trained
    assert failed.value.code == "at_chance"
    assert done is not None and set(done.members) == {"a"} and done.group.digest != group.digest
    with pytest.raises(AtChance) as failed:
        train([guess], group, QUICK)
    assert failed.value.trained is None
