from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor

from graftery.cloning import Cloned, attach
from graftery.cloning.local import OF_SOURCE, Local
from graftery.cloning.positions import Position, positions
from graftery.cloning.seeing import Look, look
from graftery.cloning.taps import outputs
from graftery.module import ModuleFile
from tests.support import skills

CPU = torch.device("cpu")


def _local() -> Local:
    y = torch.arange(7).repeat(50)
    y[300:] = OF_SOURCE
    return Local(torch.randn(len(y), 1, 8, 8, generator=torch.Generator().manual_seed(0)), y, 5)


def _look(target: ModuleFile, places: list[Position]) -> Look:
    return look(skills.raw(), target, (0, 1), _local(), places=places, part=skills.raw(), device=CPU)


@pytest.mark.slow
def test_what_is_seen_at_a_position_does_not_depend_on_which_others_are_looked_at() -> None:
    target = skills.raw("vgg", skills.TARGET, wide=True)
    places = positions(target, skills.raw())
    assert len(places) > 3
    together = _look(target, places)
    assert 1 < len(together.z) < len(places)
    assert 1 < len(together.features) < len({place.source for place in places})
    for place in places:
        alone = _look(target, [place])
        assert (list(alone.z), list(alone.features)) == ([place.target], [place.source])
        for field in fields(seen := together.at(place)):
            ours, theirs = (getattr(each, field.name) for each in (seen, alone.at(place)))
            assert torch.equal(ours, theirs) if isinstance(ours, Tensor) else ours == theirs


def test_what_is_held_together_is_no_larger_than_the_largest() -> None:
    target = skills.raw("vgg", skills.TARGET, wide=True)
    places = positions(target, skills.raw())
    alone, together = [_look(target, [place]) for place in places], _look(target, places)
    assert sum(z.numel() for z in together.z.values()) <= max(
        each.z[at.target].numel() for each, at in zip(alone, places, strict=True)
    )
    assert sum(x.numel() for x in together.features.values()) <= max(
        each.features[at.source].numel() for each, at in zip(alone, places, strict=True)
    )


def test_a_targets_clones_are_asked_and_the_source_where_it_knows(cloned: Cloned) -> None:
    target = attach(skills.net("vgg", skills.TARGET, wide=True), [cloned.clone])
    local, found = _local(), _look(target, [Position("0", "0")])
    assert torch.equal(found.old, outputs(target, local.x, CPU))
    assert found.old.shape == (350, 7)
    assert found.said is not None
    torch.testing.assert_close(found.said[300:], outputs(skills.raw(), local.x[300:], CPU)[:, :2])
    assert not found.said[:300].any()
    few = local.take(torch.arange(9))
    assert (
        look(skills.raw(), target, (0,), few, places=[Position("0", "0")], part=skills.raw(), device=CPU).said is None
    )
