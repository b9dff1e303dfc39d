from __future__ import annotations

import torch

from graftery.cloning.local import OF_SOURCE, UNKNOWN, Balanced, Local
from graftery.cloning.mixing import Mixing, mixed
from graftery.spec.cloning import CLONE_MIXES

Y = torch.tensor([0] * 6 + [1] * 5 + [2] * 9)
# Original images have values below 2, wanted ones from 2 on: so a mixture shows what it is made of.
X = (Y.float() + torch.rand(20, generator=torch.Generator().manual_seed(0)) / 2).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
LOCAL = Local(X, Y, 2)
EACH = 6


def test_mixtures_are_of_one_kind_each_and_told_by_the_net_that_knows_it() -> None:
    found = mixed(LOCAL, EACH, 0)
    assert torch.equal(found.labelled.x, X)
    assert torch.equal(found.labelled.y, Y)
    values, labels = found.x[20:, 0, 0, 0], found.y[20:]
    assert len(labels) == found.mixed == 40
    assert ((values < 2) == (labels == UNKNOWN)).all()
    assert ((values >= 2) == (labels == OF_SOURCE)).all()
    assert len(torch.unique(values)) > 30
    assert ((values > 0.5) & (values < 1)).any()  # no image is there: it lies between two classes


def test_there_are_no_more_mixtures_than_views_and_none_unless_asked() -> None:
    many = Local(X.repeat(100, 1, 1, 1), Y.repeat(100), 2)
    assert mixed(many, EACH, 0).mixed == 2 * CLONE_MIXES
    assert mixed(LOCAL, 0, 0) is LOCAL


def test_a_step_has_a_balanced_batch_and_mixtures_beside() -> None:
    found = mixed(LOCAL, EACH, 0)
    rows = Mixing(Balanced.of(found.labelled, 8, 0), found, EACH)
    drawn = rows("insert", 3)
    labels = found.y[drawn]
    assert (labels[:4] == 2).all()
    assert ((labels[4:8] == 0) | (labels[4:8] == 1)).all()
    assert (labels[8:] < 0).all()
    assert len(labels) == 14
    assert torch.equal(rows("insert", 3), drawn)
    assert not torch.equal(rows("insert", 4), drawn)


def test_the_same_seed_mixes_the_same_images() -> None:
    assert torch.equal(mixed(LOCAL, EACH, 0).x, mixed(LOCAL, EACH, 0).x)
    assert not torch.equal(mixed(LOCAL, EACH, 0).x, mixed(LOCAL, EACH, 1).x)
