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


def test_a_net_of_one_layer_has_no_place() -> None:
    flat = skills.untrained(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), skills.TARGET)
    with pytest.raises(Misfit) as caught:
        positions(flat, skills.raw())
    assert caught.value.code == "position_invalid"
    assert torch.is_tensor(flat.extras["probe.x"])
