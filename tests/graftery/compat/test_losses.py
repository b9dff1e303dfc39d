from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from graftery.compat import losses


def test_a_networks_own_loss_is_the_cross_entropy_of_its_logits() -> None:
    logits, labels = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert math.isclose(float(losses.own(logits, labels)), wanted, rel_tol=1e-6)


def test_one_logit_is_held_against_zero() -> None:
    wanted = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 2
    found = losses.own(torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 0]))
    assert math.isclose(float(found), wanted, rel_tol=1e-6)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_images_turned_four_times_are_as_they_were(turns: list[int]) -> None:
    images = torch.arange(len(turns) * 9.0).view(-1, 1, 3, 3)
    by = torch.tensor(turns)
    assert torch.equal(losses.turned(losses.turned(images, by), (4 - by) % 4), images)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert losses.turned(image, torch.tensor([1])).flatten().tolist() == [2, 4, 1, 3]


def test_images_of_no_common_class_do_not_count() -> None:
    logits = torch.tensor([[1.0, 0.0], [5.0, -5.0], [0.0, 0.0]])
    some = losses.common(logits, torch.tensor([0, losses.NOT_COMMON, 1]))
    alone = losses.common(logits[[0, 2]], torch.tensor([0, 1]))
    assert torch.equal(some, alone)


def test_a_batch_without_common_classes_teaches_nothing() -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = losses.common(logits, torch.full((3,), losses.NOT_COMMON))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None and not logits.grad.any()
