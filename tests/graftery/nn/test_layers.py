from __future__ import annotations

import pytest
import torch

from graftery.data.streams import generator
from graftery.nn.layers import aside, convolution, identity, linear
from graftery.spec.recipes import AdapterRecipe

QUIET = AdapterRecipe(noise=0)


@pytest.mark.parametrize("rows, columns", [(3, 3), (6, 3), (3, 6), (5, 3), (3, 5)])
def test_the_identity_of_any_size_keeps_the_level(rows: int, columns: int) -> None:
    found = identity(rows, columns)
    assert found.shape == (rows, columns)
    assert torch.allclose(found.sum(1), torch.ones(rows))
    shared = min(rows, columns)
    assert bool((found[:shared, :shared].diagonal() > 0).all())


def test_without_noise_layers_are_the_identity_and_what_is_added_is_nothing() -> None:
    x, image = torch.randn(2, 4), torch.randn(2, 4, 3, 5)
    assert torch.equal(linear(4, 4, QUIET, generator(0, "a"))(x), x)
    assert torch.equal(convolution(4, 4, 3, QUIET, generator(0, "a"))(image), image)
    assert torch.equal(aside(4, QUIET, generator(0, "a"))(x), torch.zeros(2, 4))


def test_the_noise_has_the_recipes_size_on_unit_input() -> None:
    recipe = AdapterRecipe(noise=0.5)
    x = torch.randn(500, 64, generator=generator(0, "x"))
    with torch.no_grad():
        added = aside(64, recipe, generator(0, "a"))(x)
        moved = linear(64, 64, recipe, generator(0, "a"))(x) - x
    assert float(added.std()) == pytest.approx(0.5, rel=0.05)
    assert float(moved.std()) == pytest.approx(0.5, rel=0.05)
