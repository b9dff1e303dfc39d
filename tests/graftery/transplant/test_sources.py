from __future__ import annotations

import pytest
import torch

from graftery.data import SampleSet
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant.moments import sketch_of
from graftery.transplant.sources import Batches, Noise, from_images, from_moments, from_samples

CPU = torch.device("cpu")
RECIPE = TransplantRecipe()


def _twice(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


def test_a_batch_has_equal_parts_and_labelled_rows_first() -> None:
    samples = SampleSet(torch.full((9, 3), 1.0), torch.ones(9))
    draws = {
        "samples": from_samples(samples, "samples", RECIPE, CPU, balanced=True),
        "unlabelled": from_images(torch.full((9, 3), 2.0), "unlabelled", RECIPE, CPU),
    }
    features = {"moments": from_moments(sketch_of(torch.full((5, 3), 7.0)), RECIPE, CPU)}
    batch = Batches(draws, features, _twice, 11)(0)  # type: ignore[arg-type]
    assert batch.features[:, 0].tolist() == [2.0] * 4 + [4.0] * 4 + [7.0] * 3
    assert batch.labels is not None
    assert batch.labels.tolist() == [1.0] * 4


def test_without_labels_a_batch_has_none() -> None:
    batch = Batches({"noise": Noise((3,), None, RECIPE).draw(CPU)}, {}, _twice, 5)(0)
    assert batch.labels is None
    assert batch.features.shape == (5, 3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (5,), (4, 3)])
def test_noise_is_fresh_every_step_and_a_function_of_the_step(shape: tuple[int, ...]) -> None:
    draw = Noise(shape, None, RECIPE).draw(CPU)
    one, same, other = (draw(step, 4)[0] for step in (1, 1, 2))
    assert one.shape == (4, *shape)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    reseeded = Noise(shape, None, RECIPE.model_copy(update={"seed": 1})).draw(CPU)
    assert not torch.equal(one, reseeded(1, 4)[0])


def test_rare_classes_are_as_frequent_when_balanced() -> None:
    y = (torch.arange(1000) < 20).long()
    for balanced, share in ((True, 0.5), (False, 0.02)):
        draw = from_samples(SampleSet(torch.randn(1000, 2), y), "samples", RECIPE, CPU, balanced=balanced)
        _, labels = draw(0, 2000)
        assert labels is not None
        assert float(labels.float().mean()) == pytest.approx(share, abs=0.04)


def test_labels_of_pixels_move_with_their_image() -> None:
    images = torch.randn(20, 1, 6, 6)
    recipe = TransplantRecipe.model_validate({"augment": {"shift": 2, "flip": True}})
    samples = SampleSet(images, (images[:, 0] > 0).long())
    x, y = from_samples(samples, "samples", recipe, CPU, balanced=False)(0, 50)
    assert torch.equal((x[:, 0] > 0).long(), y)  # type: ignore[arg-type]
    assert not any(torch.equal(moved, image) for moved, image in zip(x[:20], images, strict=True))


def test_maps_of_numbers_move_with_their_image() -> None:
    images = torch.randn(20, 1, 6, 6)
    recipe = TransplantRecipe.model_validate({"augment": {"shift": 2, "flip": True}})
    x, y = from_samples(SampleSet(images, 2 * images), "samples", recipe, CPU, balanced=False)(0, 50)
    assert y is not None and torch.equal(y, 2 * x)


def test_images_whose_labels_cannot_move_stay_where_they_are() -> None:
    images = torch.randn(20, 1, 6, 6)
    recipe = TransplantRecipe.model_validate({"augment": {"shift": 2, "flip": True}})
    coarse = (images[:, 0, ::2, ::2] > 0).long()
    x, y = from_samples(SampleSet(images, coarse), "samples", recipe, CPU, balanced=False)(0, 50)
    assert y is not None and torch.equal((x[:, 0, ::2, ::2] > 0).long(), y)


def test_labels_stay_with_their_samples() -> None:
    x = torch.arange(30.0)[:, None]
    drawn, y = from_samples(SampleSet(x, torch.arange(30)), "samples", RECIPE, CPU, balanced=True)(3, 100)
    assert torch.equal(drawn[:, 0].long(), y)  # type: ignore[arg-type]
