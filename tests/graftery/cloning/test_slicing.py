from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from graftery.cloning.channels import Channels
from graftery.cloning.localization import Gates
from graftery.cloning.slicing import end_weights, masked, plain_linear, sliced, with_linear_end
from graftery.errors import Misfit
from graftery.module import ModuleFile, trace, verify
from graftery.module.build import buffer_names
from graftery.spec.manifest import OutputMeaning
from tests.support.families import category_module, task_module


class Mixed(nn.Module):
    """Depthwise convolution, PReLU, a gate, concatenation, pooling, and a view with its size written down."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.steep = nn.PReLU(8)
        self.side = nn.Conv2d(8, 4, 1)
        self.scale = nn.Parameter(torch.rand(4, 1, 1))
        self.last = nn.Linear(12 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.steep(self.depthwise(self.first(x)))
        both = torch.cat([y * y.mean((2, 3), keepdim=True), torch.sigmoid(self.side(y)) * self.scale], 1)
        pooled = nn.functional.adaptive_avg_pool2d(both, 3)
        logits: Tensor = self.last(pooled.view(pooled.shape[0], 108))
        return logits


class _Convolutions(nn.Module):
    """Small nets on [N, 1, 8, 8] that use a weight twice, or reshape one."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.scale = nn.Parameter(3 * torch.rand(8, 1, 1))
        self.last = nn.Linear(8, 5)

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(x).mean((2, 3)))
        return logits


class SharedBehindANorm(_Convolutions):
    """Its first use reads channels that stay, its second one channels that may go."""

    def features(self, x: Tensor) -> Tensor:
        return self.again(self.again(self.norm(self.first(x))).relu()).relu()


class SharedScale(_Convolutions):
    """Cut to one number, the scale would be broadcast over the channels that stay, and nothing would tell."""

    def features(self, x: Tensor) -> Tensor:
        return self.again(self.norm(self.first(x)).relu() * self.scale).relu() * self.scale


class SharedFree(_Convolutions):
    def features(self, x: Tensor) -> Tensor:
        return self.again(self.again(self.first(x)).relu()).relu()


class ReshapedWeights(_Convolutions):
    """A parameter is viewed, cut, permuted and summed before it meets a value."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(10))
        self.kernel = nn.Parameter(torch.rand(3, 3, 8, 8))
        self.side = nn.Conv2d(8, 6, 1)
        self.back = nn.Conv2d(6, 8, 1)

    def features(self, x: Tensor) -> Tensor:
        y = self.first(x).relu()
        y = y + self.gamma[:8].reshape(1, -1, 1, 1) * self.back(self.side(y).relu())
        kernel = self.kernel.permute(2, 3, 0, 1)
        return nn.functional.conv2d(y, kernel - kernel.mean((1, 2, 3), keepdim=True))


class Branches(_Convolutions):
    """Two layers side by side, added to a third that is as wide as both."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(1, 4, 1), nn.Conv2d(1, 4, 5, padding=2)

    def features(self, x: Tensor) -> Tensor:
        return (self.first(x) + torch.cat([self.left(x), self.right(x)], 1)).relu()


def _family(name: str) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(category_module(name), task_module(name, outputs=5))  # type: ignore[arg-type]


NETS: dict[str, Callable[[], nn.Module]] = {name: _family(name) for name in ("vgg", "resnet", "vit", "mlp")} | {
    "mixed": Mixed,
    "shared behind a norm": SharedBehindANorm,
    "shared scale": SharedScale,
    "shared": SharedFree,
    "reshaped weights": ReshapedWeights,
    "branches": Branches,
}


@cache
def _net(name: str) -> ModuleFile:
    torch.manual_seed(3)
    net = NETS[name]()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            for value in (part.running_mean, part.bias):
                assert value is not None
                nn.init.normal_(value)
            assert part.running_var is not None
            nn.init.uniform_(part.running_var, 0.5, 2)
    meaning = {"is": OutputMeaning(semantics="classification", class_names=tuple("abcde"))}
    return with_linear_end(trace(net.eval(), torch.randn(3, 1, 8, 8), outputs=meaning))


@pytest.mark.parametrize("name", sorted(NETS))
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_slicing_is_masking(name: str, data: st.DataObject) -> None:
    """Whatever goes: the smaller net is the masked one's function, for each class that stays."""
    file = _net(name)
    channels = Channels.of(file)
    ((_, end),) = file.graph.outputs.items()
    roots = [root for layer in channels.units(free=channels.flows[end].atoms).values() for root in layer]
    layers = channels.units(free=channels.flows[end].atoms).values()
    gone = {root for layer in layers for root in data.draw(st.sets(st.sampled_from(layer), max_size=len(layer) - 1))}
    gone -= {min(some) for layer in layers for some in channels.never_empty(layer) if some <= gone}
    classes = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True))
    gates = torch.tensor([0.0 if root in gone else 1.0 for root in roots])
    names = buffer_names(file.graph)
    given_weights = {names[key]: value for key, value in masked(channels, file.weights, roots, gates).items()}
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = functional_call(file.net(), given_weights, (x,))[:, classes]
    made = sliced(file, channels, gone, classes)
    torch.testing.assert_close(made.net()(x), expected, rtol=1e-4, atol=1e-5)
    size = sum(weight.numel() for weight in made.weights.values())
    assert size < sum(weight.numel() for weight in file.weights.values()) or (not gone and len(classes) == 5)
    assert made.manifest.outputs["is"].class_names == tuple("abcde"[at] for at in classes)


@pytest.mark.parametrize(("name", "free"), [("shared behind a norm", 0), ("shared scale", 0), ("shared", 8)])
def test_a_weight_that_is_not_followed_everywhere_stays(name: str, free: int) -> None:
    channels = Channels.of(_net(name))
    end = next(iter(_net(name).graph.outputs.values()))
    assert sum(map(len, channels.units(free=channels.flows[end].atoms).values())) == free


def test_of_layers_side_by_side_each_keeps_something() -> None:
    file = _net("branches")
    gates = Gates.of(file, 0.1)
    for sign in (1, -1):
        scores = sign * torch.arange(float(len(gates.roots)))
        hard = gates.hard(scores)
        assert int(hard.sum()) == sum(gates.keep) == 3
        made = gates.cut(scores, None)
        assert all(0 not in weight.shape for weight in made.weights.values())
        x = torch.randn(4, 1, 8, 8)
        torch.testing.assert_close(made.net()(x), functional_call(file.net(), gates.weights(hard), (x,)))


def test_gates_that_are_open_change_nothing_and_have_gradients() -> None:
    file = _net("vgg")
    channels = Channels.of(file)
    roots = next(iter(channels.units().values()))
    gates = torch.ones(len(roots), requires_grad=True)
    made = masked(channels, file.weights, roots, gates)
    assert all(torch.equal(value, file.weights[name]) for name, value in made.items())
    (gradient,) = torch.autograd.grad(sum(value.sum() for value in made.values()), gates)
    assert (gradient != 0).all()


def test_a_sliced_file_is_a_module_file(tmp_path: object) -> None:
    file = _net("mixed")
    channels = Channels.of(file)
    gone = [units[0] for units in channels.units().values() if len(units) > 1][:1]
    path = f"{tmp_path}/sliced"
    sliced(file, channels, gone, (1, 0)).save(path)
    assert verify(path).outputs["is"].shape == ("N", 2)


class _Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(x).log_softmax(1)
        return logits


def _small(net: nn.Module) -> ModuleFile:
    return trace(net.eval(), torch.randn(2, 6), outputs={"is": OutputMeaning(semantics="classification")})


@pytest.mark.parametrize("net", [nn.Linear(6, 3, bias=False), nn.Linear(6, 3), _Log()])
def test_any_classifier_gets_a_linear_end_that_changes_nothing(net: nn.Module) -> None:
    file = _small(net)
    made = with_linear_end(file)
    assert plain_linear(made) is not None
    weight, bias = end_weights(made)
    assert made.weights[weight].shape[0] == len(made.weights[bias]) == 3
    x = torch.randn(4, 6)
    torch.testing.assert_close(made.net()(x), file.net()(x))
    assert with_linear_end(made) is made


def test_two_outputs_or_one_logit_are_no_classes_to_clone() -> None:
    with pytest.raises(Misfit, match="two classes or more") as caught:
        with_linear_end(_small(nn.Linear(6, 1)))
    assert caught.value.code == "semantics_mismatch"
