"""Networks of the registry as one file."""

from __future__ import annotations

import pytest
import torch

from graftery.cloning import attach, detach
from graftery.cloning.networks import whole
from graftery.errors import Misfit
from graftery.module import ModuleFile
from graftery.transplant import compose
from tests.support import clones
from tests.support.world import adapter

X = torch.randn(5, 1, 8, 8)


def _members(*more: ModuleFile) -> dict[str, ModuleFile]:
    category, task = clones.animals()
    return {"category": category, "task": task, **{f"clone.{index}": clone for index, clone in enumerate(more)}}


def test_without_clones_it_is_what_the_modules_compute() -> None:
    category, task = clones.animals()
    assert torch.equal(whole(_members()).net()(X), compose(category, None, task)(X))
    wide = clones.parts(clones.BIRDS, 6, 1)[1]
    members = {"task": wide, "category": category, "adapter": adapter(1)}
    made = whole(members)
    assert torch.equal(made.net()(X), compose(category, adapter(1), wide)(X))
    assert {path.split(".")[0] for path in made.graph.names} == {"category", "adapter", "task"}


def test_clones_stand_in_their_order() -> None:
    owl, others = clones.made(), clones.made(("jay", "wren"))
    for order in ((owl, others), (others, owl)):
        made = whole(_members(*order))
        assert made.content_digest == attach(whole(_members()), order).content_digest
        assert torch.equal(made.net()(X)[:, :2], whole(_members()).net()(X))
    left = detach(detach(made, owl.content_digest), others.content_digest)
    assert left.content_digest == whole(_members()).content_digest


def test_a_clone_of_another_target() -> None:
    category, task = clones.parts(clones.ANIMALS, seed=5)
    with pytest.raises(Misfit) as caught:
        whole({"category": category, "task": task, "clone.0": clones.made()})
    assert caught.value.code == "target_changed"
