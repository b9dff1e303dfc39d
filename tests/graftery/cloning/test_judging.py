from __future__ import annotations

import torch

from graftery.cloning import Cloned, attach
from graftery.cloning.judging import accuracies, added, locality, logits
from tests.support import skills


def test_shares_by_hand() -> None:
    # Four images of two original classes, of which the clone takes one away; two of the wanted class, one right.
    before = torch.tensor([[2.0, 0], [0, 2], [2, 0], [0, 2], [1, 0], [1, 0]])
    new = torch.tensor([[0.0], [3], [0], [0], [2], [0]])
    found = accuracies(before, torch.cat([before, new], 1), torch.tensor([0, 1, 1, 1, 2, 2]))
    assert found == {"original": 0.5, "original_before": 0.75, "wanted": 0.5, "changed": 0.25, "mean": 0.5}


def test_where_no_wanted_class_is_shown_nothing_is_said_of_it() -> None:
    before = torch.eye(2)
    found = accuracies(before, torch.cat([before, torch.zeros(2, 1)], 1), torch.tensor([0, 1]))
    assert found["wanted"] is None
    assert found["mean"] is None


def test_what_a_clone_adds_is_counted(cloned: Cloned) -> None:
    target = skills.net("vgg", skills.TARGET, wide=True)
    made = attach(target, [cloned.clone])
    found = added(target, made)
    own = sum(w.numel() for w in cloned.clone.weights.values()) + cloned.clone.extras["clone.old"].numel()
    assert found["parameters"] == own
    assert found == cloned.metrics["added"]
    assert 0 < found["flops_share"] < 1


def test_what_the_target_says_is_read_from_the_net_that_has_the_clone(cloned: Cloned) -> None:
    target, samples = skills.net("vgg", skills.TARGET, wide=True), skills.judged(2)
    assert samples.y is not None
    attached = attach(target, [cloned.clone])
    found = accuracies(logits(target, samples.x), logits(attached, samples.x), samples.y.long())
    assert found == {name: cloned.metrics[name] for name in found}


def test_what_was_kept_of_the_source_comes_with_the_clone(cloned: Cloned) -> None:
    given = skills.images("validation", skills.SOURCE)
    assert given.y is not None
    wanted = (0, 1)
    both = [logits(file, given.x) for file in (skills.net(), cloned.masked)]
    found = locality(*both, given.y.long(), wanted)
    assert found == {name: cloned.metrics[name] for name in found}
