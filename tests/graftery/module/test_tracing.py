from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graftery.errors import ModuleFileError, TraceRefused
from graftery.module import ModuleFile, save, trace
from graftery.spec.manifest import OutputMeaning, Preprocessing


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, x + 1


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0)


def test_the_net_stays_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.BatchNorm1d(3)).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    trace(net, torch.zeros(2, 4))
    assert net.training
    assert net[1].training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_names_of_outputs() -> None:
    linear = nn.Linear(4, 3)
    assert list(trace(linear, torch.zeros(2, 4)).graph.outputs) == ["output"]
    assert list(trace(linear, torch.zeros(2, 4), kind="category").graph.outputs) == ["features"]
    assert list(trace(linear, torch.zeros(2, 4), outputs={"is_cat": OutputMeaning()}).graph.outputs) == ["is_cat"]
    assert list(trace(Pair(), torch.zeros(2, 4)).graph.outputs) == ["output0", "output1"]
    named = trace(Pair(), torch.zeros(2, 4), outputs={"twice": OutputMeaning(), "next": OutputMeaning()})
    values = named.net()(torch.ones(1, 4))
    assert torch.equal(values["twice"], torch.full((1, 4), 2.0))
    assert torch.equal(values["next"], torch.full((1, 4), 2.0))


def test_meanings_reach_the_manifest() -> None:
    meaning = OutputMeaning(semantics="classification", class_names=("a", "b", "c"))
    shown = Preprocessing(mean=(0.5,), std=(0.25,))
    file = trace(
        nn.Linear(4, 3),
        torch.zeros(2, 4),
        outputs={"animal": meaning},
        preprocessing=shown,
        description="text",
        licence="MIT",
        metadata={"by": "me"},
        sketch={"count": torch.tensor(3.0)},
    )
    assert file.manifest.outputs["animal"].meaning == meaning
    assert file.manifest.preprocessing == shown
    assert (file.manifest.description, file.manifest.licence, file.manifest.metadata) == ("text", "MIT", {"by": "me"})
    assert file.extras["sketch.count"] == 3.0


@pytest.mark.parametrize(
    ("shape", "semantics"), [((2, 4), "classification"), ((2, 4, 8, 8), "segmentation"), ((2, 4, 8), "regression")]
)
def test_default_meaning_follows_the_shape(shape: tuple[int, ...], semantics: str) -> None:
    assert trace(nn.Tanh(), torch.zeros(shape)).manifest.outputs["output"].semantics == semantics


@pytest.mark.parametrize("names", [{"a", "b"}, {"a b"}, {"../a"}])
def test_names_that_do_not_fit_are_refused(names: set[str]) -> None:
    with pytest.raises(TraceRefused):
        trace(nn.Linear(4, 3), torch.zeros(2, 4), outputs={name: OutputMeaning() for name in names})


def test_class_names_have_to_fit_the_logits() -> None:
    meaning = OutputMeaning(semantics="classification", class_names=("a", "b"))
    with pytest.raises(ModuleFileError, match="3 logits and 2 class names"):
        trace(nn.Linear(4, 3), torch.zeros(2, 4), outputs={"y": meaning})


def test_a_net_that_mixes_the_batch_is_refused_at_the_owner_s() -> None:
    with pytest.raises(ModuleFileError) as caught:
        trace(Mixing(), torch.zeros(2, 4))
    assert caught.value.code == "batch_mixing"


def test_a_batch_of_one_is_enough_as_example() -> None:
    assert trace(nn.Linear(4, 3), torch.zeros(1, 4)).net()(torch.zeros(7, 4)).shape == (7, 3)


def test_weight_norm_becomes_its_weight() -> None:
    net = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    file = trace(net, torch.zeros(2, 4))
    assert file.weights.keys() == {"weight", "bias"}
    x = torch.randn(5, 4)
    torch.testing.assert_close(file.net()(x), net(x).detach())


def test_submodules_named_like_our_own_tensors_are_held() -> None:
    net = nn.Sequential()
    net.add_module("probe", nn.Linear(4, 3))
    assert not any(name.startswith("probe.") for name in trace(net, torch.zeros(2, 4)).weights)


def test_same_net_gives_the_same_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    first = save(net, tmp_path / "a", torch.zeros(2, 3, 8, 8))
    assert save(net, tmp_path / "b", torch.randn(3, 3, 8, 8)) == first
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_probe_is_not_the_example() -> None:
    example = torch.full((2, 4), 123.0)
    probe = trace(nn.Linear(4, 3), example).extras["probe.x"]
    assert not bool((probe == 123.0).any())


class Patches(nn.Module):
    """Positions for 2 x 2 patches of 16 x 16: a few pixels more leave them 2 x 2, and export sees no limit."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.position = nn.Conv2d(3, 4, 16, 16), nn.Parameter(torch.randn(4, 4))

    def forward(self, x: Tensor) -> Tensor:
        return (self.patch(x).flatten(2).transpose(1, 2) + self.position).mean(1)


def test_height_that_is_free_for_a_few_pixels_alone_is_fixed() -> None:
    assert trace(Patches(), torch.zeros(2, 3, 32, 32)).graph.input.shape == ("N", 3, 32, 32)


def test_trace_of_a_built_net_is_the_same_net() -> None:
    """What is loaded from a file can be written again: an adapter's worker does."""
    file = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.zeros(2, 4))
    again = trace(file.net(), torch.zeros(2, 4))
    x = torch.randn(5, 4)
    assert torch.equal(again.net()(x), file.net()(x))
    assert isinstance(again, ModuleFile)


class _Deciding(nn.Module):
    """Does something else beyond some size."""

    def __init__(self, dim: int, beyond: int) -> None:
        super().__init__()
        self.body, self.dim, self.beyond = nn.Conv2d(3, 4, 3), dim, beyond

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return 2 * y if x.shape[self.dim] > self.beyond else y


@pytest.mark.parametrize("beyond", [200, 20, 31])
def test_heights_are_fixed_where_a_net_decides_by_them(beyond: int) -> None:
    file = trace(_Deciding(2, beyond).eval(), torch.randn(2, 3, 32, 32))
    assert file.manifest.input.shape == ("N", 3, 32, 32)


def test_a_net_that_decides_by_its_batch_is_refused() -> None:
    with pytest.raises(TraceRefused, match="dimension 0"):
        trace(_Deciding(0, 8).eval(), torch.randn(2, 3, 32, 32))
