from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from graftery.cloning.channels import Channels
from graftery.errors import CutRefused
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning
from tests.support import skills


def _file(net: nn.Module, x: Tensor) -> ModuleFile:
    return trace(net.eval(), x, outputs={"is": OutputMeaning(semantics="classification")})


def _sizes(file: ModuleFile) -> list[int]:
    channels = Channels.of(file)
    ((_, end),) = file.graph.outputs.items()
    flow = channels.flows[end]
    return [len(units) for units in channels.units(free=flow.atoms).values()]


def test_every_convolution_of_a_chain_has_channels_of_its_own() -> None:
    assert _sizes(skills.raw("vgg")) == [16, 16, 32, 32]


def test_channels_that_are_added_are_one() -> None:
    # The stem's 12 channels pass the first shortcut, the 32 of the third convolution the second one.
    assert _sizes(skills.raw("resnet")) == [12, 12, 32, 32]


def test_a_transformer_gives_what_is_between_its_layers_alone() -> None:
    # Tokens and heads stay: a layer norm and the attention look at all channels at once.
    assert _sizes(skills.raw("vit")) == [16, 48, 48]


def test_the_images_own_channels_and_the_logits_stay() -> None:
    file = _file(nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(2, 12))
    assert _sizes(file) == []


class _Odd(nn.Module):
    """A step that no rule knows, before the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.first(x).softmax(1).cumsum(1))
        return logits


def test_what_no_rule_knows_pins_what_reaches_it() -> None:
    assert _sizes(_file(_Odd(), torch.randn(2, 6))) == []


class _Outer(nn.Module):
    """Two layers whose channels lie across each other."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.last = nn.Linear(6, 5), nn.Linear(6, 4), nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        product = self.left(x).relu()[:, :, None] * self.right(x).relu()[:, None, :]
        logits: Tensor = self.last(product.flatten(1))
        return logits


def test_an_outer_product_pins_both_of_its_sides() -> None:
    assert _sizes(_file(_Outer(), torch.randn(2, 6))) == []


class _Shared(nn.Module):
    """One layer that is used twice: its channels go with those of both places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        logits: Tensor = self.last(self.twice(self.twice(x).relu()).relu())
        return logits


def test_a_weight_that_is_used_twice_joins_both_places() -> None:
    assert _sizes(_file(_Shared(), torch.randn(2, 6))) == [8]


def test_without_a_probe_the_sizes_are_unknown() -> None:
    with pytest.raises(CutRefused, match="no probe"):
        Channels.of(replace(skills.raw(), extras={}))
