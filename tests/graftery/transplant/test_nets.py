from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.errors import Misfit
from graftery.nn.pieces import ROWS, in_pieces
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import compose
from graftery.transplant.choosing import score
from graftery.transplant.evaluation import agreement
from graftery.transplant.nets import Composed, Nets
from graftery.transplant.watching import watch
from tests.support import transplants as t


def test_the_composition_is_that_of_the_parts() -> None:
    f, _, g = t.image_files()
    x = torch.randn(5, 1, 8, 8)
    net = compose(f, None, g)
    assert torch.equal(net(x), g.net()(f.net()(x)))
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_parts_that_do_not_fit_are_refused() -> None:
    f, g, _ = t.image_files()
    with pytest.raises(Misfit):
        compose(f, None, t.vector_files()[1])
    with pytest.raises(Misfit) as caught:
        compose(g, None, f)
    assert caught.value.code == "kind_mismatch"


def test_the_nets_of_a_transplant_are_frozen() -> None:
    parts = t.image_category().train(), t.image_task().train()
    nets = Nets(*parts)
    assert not any(net.training or any(p.requires_grad for p in net.parameters()) for net in nets.all)
    assert not nets.features(torch.randn(2, 1, 8, 8)).requires_grad


def test_composed_nets_share_their_parts() -> None:
    f, g = t.image_category(), t.image_task()
    assert Composed(f, None, g).task is g


def test_where_nothing_learns_rows_go_through_in_pieces() -> None:
    """Whatever `batch` says: hundreds of large maps at once would not fit into memory."""
    seen: list[int] = []

    class Seeing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(len(x))
            return x

    nets, h = Nets(nn.Identity(), Seeing(), Seeing()), Seeing()
    features = torch.randn(2 * ROWS + 3, 2)
    look = watch(nets, h, features, "regression")
    assert look is not None and look() == pytest.approx(1)
    agreement(nets.task, Seeing(), features)
    score(nets, features, "classification", TransplantRecipe(), h)
    assert max(seen) == ROWS
    assert torch.equal(in_pieces(h, features), features)
