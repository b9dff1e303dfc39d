from __future__ import annotations

import pytest
import torch

from graftery.data.noise import coloured, dead_leaves, noise_images, normalise, value_bounds
from graftery.data.streams import generator
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import NoiseRecipe


@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_the_spectrum_falls_as_asked(alpha: float) -> None:
    noise = coloured((16, 2, 64, 64), torch.full((16,), alpha), generator(0, "n"))
    power = torch.fft.rfft2(noise).abs().square().mean((0, 1))
    low, high = power[2, 2:6].mean(), power[16, 16:24].mean()
    radius = (
        torch.hypot(torch.tensor(16.0), torch.tensor(19.5)) / torch.hypot(torch.tensor(2.0), torch.tensor(3.5))
    ).log()
    assert float((low / high).log() / radius) == pytest.approx(2 * alpha, abs=0.6)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 17, 33), (4, 1, 1, 5)])
def test_images_have_their_shape_and_lie_in_the_unit_interval(shape: tuple[int, int, int, int]) -> None:
    images = dead_leaves(shape, NoiseRecipe(), generator(0, "n"))
    assert images.shape == shape
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    assert len({round(float(image.mean()), 6) for image in images}) == shape[0]


def test_discs_add_edges() -> None:
    def edges(discs: int) -> float:
        images = dead_leaves((32, 1, 32, 32), NoiseRecipe(alpha_min=2, alpha_max=2, discs=discs), generator(0, "n"))
        return float((images.diff(dim=3).abs() > 0.2).float().mean())

    assert edges(12) > 2 * edges(0)


def test_preprocessing_is_applied() -> None:
    preprocessing = Preprocessing(mean=(10.0, 20.0), std=(2.0, 4.0), value_range=(0.0, 255.0), colour_order="other")
    ends = normalise(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 2, 1, 2), preprocessing)
    assert ends.flatten().tolist() == [-5.0, 122.5, -5.0, 58.75]
    low, high = value_bounds(preprocessing, 2)
    assert torch.equal(low.flatten(), ends[0, :, 0, 0])
    assert torch.equal(high.flatten(), ends[0, :, 0, 1])


def test_images_are_a_function_of_the_generators_seed() -> None:
    one, same, other = (noise_images((2, 1, 8, 8), None, NoiseRecipe(), generator(s, "n")) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
