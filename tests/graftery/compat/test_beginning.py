"""What is refused before the first step, so that no training is lost to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from graftery.compat import AtChance, Design, Task, check_member, found, train
from graftery.compat.groups import CHECK_FEATURES, Group, with_heads
from graftery.data import SampleSet
from graftery.errors import GrafteryError, Misfit
from graftery.module import ModuleFile
from graftery.spec.manifest import Parent
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


def _parametrised(logits: int) -> nn.Module:
    net = Net(logits)
    weight_norm(net.lower[0])
    return net


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
    "weights that a file calls otherwise": (_built(_parametrised), "architecture_mismatch"),
    "nothing to learn": (_built(lambda logits: _frozen(logits, all_of_it=True)), "recipe_invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_could_only_fail_at_the_end_is_refused_before_the_first_step(what: str) -> None:
    given, code = REFUSED[what]
    steps: list[object] = []
    with pytest.raises(GrafteryError) as refused:
        # With IIW where the net itself is one of the group's.
        iiw = given.design.net is _parametrised
        train([given], found(given.design if iiw else DESIGN, ("IIW",) if iiw else (), X), QUICK, progress=steps.append)
    assert (refused.value.code, steps) == (code, [])


def test_shared_heads_that_no_file_can_hold_are_refused_before_the_first_step() -> None:
    """A net of the task's number of logits can be one; RP's head has four."""

    def build(logits: int) -> Net:
        net = Net(logits)
        if logits == 4:
            net.upper.append(_Unknown())
        return net

    group, steps = found(DESIGN, ("RP",), X), list[object]()
    with pytest.raises(GrafteryError) as refused:
        train([_built(build)], group, QUICK, progress=steps.append)
    assert (refused.value.code, steps) == ("trace_unsupported", [])


class _Halved(Net):
    """Features half as high and wide at the same cut, under a head that takes any size."""

    def __init__(self, logits: int) -> None:
        super().__init__(logits)
        self.lower.append(nn.MaxPool2d(2))


def test_features_of_other_sizes_are_refused_before_the_first_step() -> None:
    halved = replace(FEW, name="b", design=Design(_Halved, "lower"))
    steps: list[object] = []
    with pytest.raises(
        Misfit, match=r"the features differ: those of a \[16, 8, 8\], those of b \[16, 4, 4\]"
    ) as refused:
        train([FEW, halved], found(DESIGN, ("RP",), X), QUICK, progress=steps.append)
    assert (refused.value.code, steps) == ("shape_mismatch", [])


def _least_size(side: int) -> ModuleFile:
    """A trained group whose head takes features of any size from this one on."""
    made = Group(found(DESIGN, ("RP",), X, check=SampleSet(X.repeat(20, 1, 1, 1))))
    head = nn.Sequential(nn.AvgPool2d(side), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    return with_heads(made, {"rotation": head}, torch.rand(2, 16, 8, 8))


def test_features_that_the_groups_heads_do_not_take_are_refused_before_the_first_step() -> None:
    group, steps = _least_size(6), list[object]()
    with pytest.raises(Misfit, match="the group's heads do not take features of b") as refused:
        train([replace(FEW, name="b", design=Design(_Halved, "lower"))], group, QUICK, progress=steps.append)
    assert (refused.value.code, steps) == ("shape_mismatch", [])
    small = train([replace(FEW, design=Design(_Halved, "lower"))], found(DESIGN, (), X), QUICK).members["a"].extractor
    named = small.manifest.model_copy(update={"parents": (Parent(role="group", digest=group.digest),)})
    with pytest.raises(Misfit, match="the module and its group do not take each other's features") as refused:
        check_member(replace(small, manifest=named), group)
    assert refused.value.code == "shape_mismatch"


class _Asking(Net):
    """What it drops depends on `self.training`, which is asked when it is called; below the cut and above."""

    def forward(self, x: Tensor) -> Tensor:
        features = self.lower(functional.dropout(x, 0.3, self.training))
        logits: Tensor = self.fc(functional.dropout(self.upper(features), 0.3, self.training))
        return logits


def test_a_net_that_asks_whether_it_is_trained_becomes_a_member() -> None:
    design, kept = Design(_Asking, "lower"), SampleSet(images()[0][:40])
    group = found(design, ("RP",), X, check=kept)
    done = train([replace(FEW, design=design)], group, QUICK)
    extractor = done.members["a"].extractor.net()
    with torch.no_grad():
        wanted = extractor(kept.x)
    assert torch.allclose(done.group.extras[CHECK_FEATURES], wanted, atol=1e-5), "nothing is dropped in what goes along"
    bare = replace(FEW, name="b", classes=(), design=design, train=SampleSet(FEW.train.x))
    alone = train([bare], done.group, QUICK).members["b"].extractor.net()
    assert torch.equal(alone(kept.x), alone(kept.x)), "nothing is dropped in a member of images alone"


class _Indexing(Net):
    """Features are put in an order that a table says, and scaled by a buffer that no state dict has."""

    def __init__(self, logits: int) -> None:
        super().__init__(logits)
        self.lower.append(_Ordered())


class _Ordered(nn.Module):
    order: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(16).flip(0))
        self.register_buffer("scale", torch.rand(16, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order] * self.scale


def test_with_iiw_buffers_that_are_no_weights_are_no_other_architecture() -> None:
    design = Design(_Indexing, "lower")
    group = found(design, ("IIW",), X)
    members = train([replace(FEW, design=design)], group, QUICK).members
    check_member(members["a"].extractor, group)
    scales = [value for name, value in members["a"].extractor.weights.items() if name.endswith("scale")]
    assert len(scales) == 1 and torch.equal(scales[0], Group(group).initial["lower.6.scale"])


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
