from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.cloning.positions import MOST_POSITIONS, Position, positions
from graftery.errors import Misfit, RecipeRefused
from graftery.module.cutting import separates
from tests.support import skills
from tests.support.families import FAMILIES


def test_nets_of_one_architecture_meet_at_the_same_layers_deep_to_shallow() -> None:
    found = positions(skills.raw("vgg", skills.TARGET), skills.raw("vgg"))
    assert [place.target for place in found] == [place.source for place in found]
    assert found[0] == Position("1.6", "1.6")
    assert found[-1].target == "0.2"
    assert len(found) == MOST_POSITIONS


@pytest.mark.parametrize("source", FAMILIES)
@pytest.mark.parametrize("target", FAMILIES)
def test_any_two_families_meet_somewhere(source: str, target: str) -> None:
    ours, theirs = skills.raw(target, skills.TARGET), skills.raw(source)  # type: ignore[arg-type]
    found = positions(ours, theirs)
    assert 1 <= len(found) <= MOST_POSITIONS
    assert all(place.target in ours.graph.names and separates(theirs.graph, place.source) for place in found)


def test_layers_that_are_named_are_tried_alone() -> None:
    found = positions(skills.raw("vgg", skills.TARGET), skills.raw("vgg"), ["0.2", "1.2", "0.2"])
    assert [place.target for place in found] == ["1.2", "0.2"]


@pytest.mark.parametrize(
    ("layer", "said"), [("1.20", "near it: 1.2"), ("", "near it"), ("1.8", "nothing can be inserted")]
)
def test_what_is_no_layer_in_between_is_refused(layer: str, said: str) -> None:
    with pytest.raises(RecipeRefused) as caught:
        positions(skills.raw("vgg", skills.TARGET), skills.raw("vgg"), [layer])
    assert caught.value.code == "position_invalid"
    assert said in str(caught.value)


class _SequenceFirst(nn.Module):
    """A part of it works on tokens [T, N, D]: images are not in front there."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU())
        self.tokens = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.tokens(self.stem(x).flatten(2).permute(2, 0, 1))
        logits: torch.Tensor = self.head(self.body(tokens.mean(0)))
        return logits


def test_layers_that_have_not_the_images_in_front_are_no_places() -> None:
    source, target = (skills.untrained(_SequenceFirst(len(known)), known) for known in (skills.SOURCE, skills.TARGET))
    found = positions(target, source)
    assert {place.target for place in found} == {"stem", "body"}
    assert {place.source for place in found} == {"stem", "body"}
    with pytest.raises(RecipeRefused) as caught:
        positions(target, source, ["tokens"])
    assert caught.value.code == "position_invalid"


def test_a_net_of_one_layer_has_no_place() -> None:
    flat = skills.untrained(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), skills.TARGET)
    with pytest.raises(Misfit) as caught:
        positions(flat, skills.raw())
    assert caught.value.code == "position_invalid"
    assert torch.is_tensor(flat.extras["probe.x"])
