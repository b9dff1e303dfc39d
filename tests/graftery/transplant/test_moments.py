from __future__ import annotations

import pytest
import torch

from graftery.data.streams import generator
from graftery.errors import RecipeRefused, SamplesRefused
from graftery.spec import recipes
from graftery.transplant import moments, sketch
from graftery.transplant.moments import gaussian_features, sketch_of
from tests.support.transplants import category_file, image_category, image_files


def _features(*shape: int, count: int = 400) -> torch.Tensor:
    """Correlated features."""
    random = generator(0, "features")
    size = int(torch.tensor(shape).prod())
    mixed = torch.randn(count, size, generator=random) @ torch.randn(size, size, generator=random) / size**0.5
    return (mixed + torch.arange(size) / size).view(count, *shape)


@pytest.mark.parametrize("shape", [(6,), (3, 4), (3, 2, 2)])
def test_gaussian_features_have_the_sketchs_mean_and_covariance(shape: tuple[int, ...]) -> None:
    features = _features(*shape)
    tensors = sketch_of(features)
    # Without the extremes, which cut the tails off.
    tensors["sketch.low"] -= 100
    tensors["sketch.high"] += 100
    drawn = gaussian_features(tensors, 20_000, 64, generator(0, "moments"))
    assert drawn.shape == (20_000, *shape)
    assert torch.allclose(drawn.mean(0), features.mean(0), atol=0.05)
    assert torch.allclose(drawn.flatten(1).T.cov(), features.flatten(1).T.cov(), atol=0.12)


def test_what_few_directions_leave_becomes_independent_noise() -> None:
    features = _features(3, 2, 2)
    tensors = sketch_of(features)
    assert tensors["sketch.residual"].shape == (3,)
    assert float(tensors["sketch.residual"].max()) < 1e-3
    tensors["sketch.low"] -= 100
    tensors["sketch.high"] += 100
    drawn = gaussian_features(tensors, 20_000, 2, generator(0, "moments"))
    # By channel all of the variance is there.
    assert torch.allclose(drawn.var(0).mean((1, 2)), features.var(0).mean((1, 2)), atol=0.05)


def test_of_a_vector_each_element_keeps_its_variance_with_few_directions() -> None:
    features = _features(6)
    tensors = sketch_of(features)
    tensors["sketch.low"] -= 100
    tensors["sketch.high"] += 100
    drawn = gaussian_features(tensors, 20_000, 2, generator(0, "moments"))
    assert torch.allclose(drawn.var(0), features.var(0), atol=0.05)


def test_features_stay_within_the_extremes() -> None:
    features = _features(3, 2, 2).relu()
    drawn = gaussian_features(sketch_of(features), 500, 64, generator(0, "moments"))
    assert float(drawn.min()) == 0
    assert bool((drawn.amax((0, 2, 3)) <= features.amax((0, 2, 3)) + 1e-6).all())


def test_a_sketch_is_made_of_a_category_files_features() -> None:
    images = torch.randn(50, 1, 8, 8)
    found = sketch(image_files()[0], images)
    with torch.no_grad():
        wanted = sketch_of(image_category()(images))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in ("sketch.mean", "sketch.low"))
    assert found["sketch.count"].tolist() == [50.0]
    file = category_file(image_category(), torch.randn(2, 1, 8, 8), sketch=found)
    assert set(found) <= set(file.extras)


def test_a_sketch_of_large_features_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moments, "SKETCH_ELEMENTS", 100)
    assert sketch_of(_features(3, 4, 4))["sketch.directions"].shape == (2, 3, 4, 4)
    monkeypatch.undo()
    assert recipes.SKETCH_ELEMENTS * 4 == 16 * 2**20


def test_one_image_is_no_sketch() -> None:
    with pytest.raises(SamplesRefused):
        sketch(image_files()[0], torch.randn(1, 1, 8, 8))


def test_a_sketch_that_lacks_a_tensor_is_refused() -> None:
    tensors = sketch_of(_features(6))
    del tensors["sketch.low"]
    with pytest.raises(RecipeRefused, match=r"sketch\.low"):
        gaussian_features(tensors, 3, 64, generator(0, "moments"))
