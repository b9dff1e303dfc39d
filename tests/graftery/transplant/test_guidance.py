from __future__ import annotations

import pytest
import torch

from graftery.data.noise import noise_images
from graftery.data.streams import generator
from graftery.learning.loop import Loop
from graftery.spec.recipes import NoiseRecipe, TransplantRecipe
from graftery.transplant.guidance import Guidance
from graftery.transplant.inversion import Inversion
from graftery.transplant.moments import sketch_of
from graftery.transplant.opgraph import op_graph
from tests.support.transplants import PREPROCESSING, dense_task, image_category


def _laid_out(count: int, seed: int = 0) -> torch.Tensor:
    """Features [n, 2, 4, 4] that are brighter at the top, and vary together."""
    random = generator(seed, "features")
    rows = torch.linspace(3, 0, 4).view(1, 1, 4, 1)
    return (
        rows + torch.randn((count, 1, 1, 1), generator=random) + 0.3 * torch.randn((count, 2, 4, 4), generator=random)
    )


def _guidance(features: torch.Tensor) -> Guidance:
    found = Guidance.of(sketch_of(features), features)
    assert found is not None
    return found


def test_features_of_the_same_kind_mismatch_least() -> None:
    guidance = _guidance(_laid_out(400))
    same = float(guidance.mismatch(_laid_out(400, seed=1)))
    assert same < 0.05
    assert float(guidance.mismatch(_laid_out(400, seed=1).flip(2))) > 1
    assert float(guidance.mismatch(3 * _laid_out(400, seed=1))) > 1


def test_features_that_do_not_vary_together_mismatch_along_the_directions() -> None:
    x = _laid_out(400)
    shuffled = torch.stack([x[torch.randperm(400, generator=generator(place, "order")), :, place // 4, place % 4]
                            for place in range(16)], 2).view_as(x)  # fmt: skip
    guidance = _guidance(x)
    assert float(guidance.mismatch(shuffled)) > 20 * float(guidance.mismatch(x))


@pytest.mark.parametrize("shape", [(50, 3), (50, 5, 4), (50, 2, 4, 4)])
def test_every_rank_of_feature_has_a_gradient(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=generator(0, "rank"))
    guidance = _guidance(features)
    other = (2 * features).requires_grad_()
    guidance.mismatch(other).backward()
    assert other.grad is not None
    assert bool(torch.isfinite(other.grad).all())


@pytest.mark.parametrize("count", [2, 20])
def test_a_sketch_of_few_images_guides_by_the_directions_that_they_vary_along(count: int) -> None:
    """Of n images the last direction of n is an accident of rounding."""
    x = _laid_out(count)
    guidance = _guidance(x)
    assert len(guidance.deviations) == count - 1
    assert float(guidance.mismatch(x)) < 0.5
    assert float(guidance.mismatch(x + 1e-6 * torch.randn(x.shape))) == pytest.approx(
        float(guidance.mismatch(x)), abs=1e-3
    )


def test_features_that_never_vary_have_a_mean_alone() -> None:
    x = torch.ones(20, 2, 4, 4)
    guidance = _guidance(x)
    assert len(guidance.deviations) == 0 and float(guidance.mismatch(x)) == 0
    assert 0 < float(guidance.mismatch(x + 1e-3)) < float("inf")


def test_a_sketch_of_another_size_guides_nothing() -> None:
    assert Guidance.of(sketch_of(_laid_out(20)), torch.zeros(2, 2, 8, 8)) is None


def test_the_inversion_comes_near_to_the_sketch() -> None:
    f = image_category()
    bright = torch.randn(64, 1, 8, 8, generator=generator(0, "bright"))
    bright[:, :, :4] += 2
    with torch.no_grad():
        features = f(bright)
    recipe = TransplantRecipe.model_validate({"inversion": {"images": 32, "steps": 40, "learning_rate": 0.1}})
    graphs = op_graph(f, bright[:2]), op_graph(dense_task(), features[:2])
    guidance = _guidance(features)
    start = noise_images((32, 1, 8, 8), PREPROCESSING, NoiseRecipe(), generator(0, "start"))
    invert = Inversion(*graphs, "segmentation", PREPROCESSING, recipe, guidance)
    assert set(invert.terms(start)) == {"statistics", "sketch", "variation"}
    found = invert(start, Loop("inversion"))
    with torch.no_grad():
        before, after = (float(guidance.mismatch(f(images))) for images in (start, found))
    assert after < 0.5 * before
