from __future__ import annotations

import torch

from examples import digits
from graftery.spec.manifest import OutputSpec
from graftery.transplant import evaluate

LOGIT = OutputSpec(dtype="float32", shape=("N", 1), semantics="classification")


def test_the_splits_share_no_image_and_hold_all() -> None:
    splits = [digits.images(split)[0] for split in ("train", "validation", "test")]  # type: ignore[arg-type]
    assert [len(x) for x in splits] == list(digits.SIZES.values())
    # 1797 images, all different: one that stood in two splits would be missing here.
    assert len(torch.cat(splits).flatten(1).unique(dim=0)) == 1797
    assert torch.equal(splits[0], digits.images("train")[0])


def test_the_targets_are_no_generic_digits() -> None:
    assert tuple(d for d in range(10) if d not in digits.TARGETS)[:4] == digits.GENERIC


def test_a_short_training_knows_its_digits() -> None:
    generic = digits.train_generic((0, 1), steps=40)
    teacher = digits.train_teacher(5, steps=40)
    nets = {0: generic.net(0), 1: generic.net(1), 5: teacher}
    for digit, net in nets.items():
        found = evaluate(net, digits.one_against_rest(digit, "validation"), LOGIT)
        assert found["balanced_accuracy"] > 0.85
    assert generic.net(0).task is generic.net(1).task
    assert teacher.category(torch.randn(2, 1, 8, 8)).shape == (2, 16, 4, 4)


def test_training_is_the_seeds() -> None:
    one, same, other = (digits.train_teacher(5, seed=seed, steps=3).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["category.0.weight"], other["category.0.weight"])
