from __future__ import annotations

import torch

from graftery.data.augment import augment, shift
from graftery.data.streams import generator
from graftery.spec.recipes import AugmentRecipe


def test_a_shift_moves_each_image_by_its_own_offset_and_repeats_the_border() -> None:
    images = torch.arange(9.0).view(1, 1, 3, 3).repeat(2, 2, 1, 1)
    moved = shift(images, torch.tensor([[1, 0], [0, -1]]))
    assert moved[0, 1].tolist() == [[0, 1, 2], [0, 1, 2], [3, 4, 5]]
    assert moved[1, 0].tolist() == [[1, 2, 2], [4, 5, 5], [7, 8, 8]]


def test_gradients_pass_a_shift() -> None:
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: shift(x, torch.tensor([[1, 1], [-1, 0]])), images)


def test_the_recipe_says_how_far() -> None:
    images = torch.arange(64.0).view(1, 1, 8, 8).repeat(50, 1, 1, 1)
    assert torch.equal(augment(images, AugmentRecipe(shift=0), generator(0, "a")), images)
    offsets = augment(images, AugmentRecipe(shift=2), generator(0, "a"))[:, 0, 4, 4] - images[:, 0, 4, 4]
    assert set(offsets.tolist()) <= {8.0 * rows + columns for rows in range(-2, 3) for columns in range(-2, 3)}
    assert len(set(offsets.tolist())) > 10


def test_flips_only_where_allowed() -> None:
    images = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).repeat(50, 1, 1, 1)
    kept = augment(images, AugmentRecipe(shift=0), generator(0, "a"))
    flipped = augment(images, AugmentRecipe(shift=0, flip=True), generator(0, "a"))
    assert torch.equal(kept, images)
    assert 10 < int(flipped[:, 0, 0, 0].sum()) < 40


def test_what_is_no_image_stays() -> None:
    vectors = torch.randn(5, 3)
    assert augment(vectors, AugmentRecipe(shift=1, flip=True), generator(0, "a")) is vectors
