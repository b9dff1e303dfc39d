from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graftery.data.streams import generator
from graftery.errors import Misfit
from graftery.module import trace
from graftery.nn.adapters import Shape, joinable, make_adapter
from graftery.spec.recipes import AdapterRecipe

sizes = st.integers(1, 9)


@settings(max_examples=25, deadline=None)
@given(source=st.tuples(sizes, sizes, sizes), target=st.tuples(sizes, sizes, sizes), layers=st.integers(1, 3))
def test_convolutional_features_of_any_size_are_joined(source: Shape, target: Shape, layers: int) -> None:
    h = make_adapter(source, target, AdapterRecipe(layers=layers), generator(0, "a"))
    assert h(torch.randn(2, *source)).shape == (2, *target)  # type: ignore[arg-type]


@pytest.mark.parametrize("source, target", [((5,), (7,)), ((7,), (5,)), ((3, 4), (3, 6)), ((None, 4), (3, 4))])
def test_vectors_and_tokens_are_joined_by_linear_layers(source: Shape, target: Shape) -> None:
    h = make_adapter(source, target, AdapterRecipe(layers=2), generator(0, "a"))
    x = torch.randn(2, *[3 if size is None else size for size in source])
    assert h(x).shape == (2, *target)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "source, target",
    [((), ()), ((2, 2, 2, 2), (4,)), ((None, 4, 4), (4, 4, 4)), ((4,), (None,)), ((None, 4), (4, 4, 4))],
)
def test_what_does_not_join_is_refused(source: Shape, target: Shape) -> None:
    assert not joinable(source, target)
    with pytest.raises(Misfit, match="no adapter"):
        make_adapter(source, target, AdapterRecipe(), generator(0, "a"))


@pytest.mark.parametrize("shape", [(6,), (3, 6), (6, 5, 5)])
def test_without_noise_the_start_is_the_identity_on_features(shape: tuple[int, ...]) -> None:
    h = make_adapter(shape, shape, AdapterRecipe(layers=3, noise=0, final_relu=True), generator(0, "a"))
    x = torch.rand(2, *shape)
    assert torch.equal(h(x), x)


def test_the_start_is_near_the_identity_and_drawn_from_the_seed() -> None:
    x = torch.rand(2, 6, 5, 5)
    one, same, other = (make_adapter((6, 5, 5), (6, 5, 5), AdapterRecipe(), generator(s, "a")) for s in (0, 0, 1))
    assert 0 < (one(x) - x).abs().mean() < 0.1
    assert torch.equal(one(x), same(x))
    assert not torch.equal(one(x), other(x))


@pytest.mark.parametrize("source, target", [(4, 6), (6, 4)])
def test_a_projection_keeps_the_level_of_each_channel(source: int, target: int) -> None:
    h = make_adapter((source,), (target,), AdapterRecipe(noise=0), generator(0, "a"))
    assert torch.allclose(h(torch.ones(1, source)), torch.ones(1, target))


def test_the_relu_at_the_end_is_the_recipes() -> None:
    x = -torch.ones(1, 3)
    for final, least in ((True, 0.0), (False, -1.0)):
        h = make_adapter((3,), (3,), AdapterRecipe(noise=0, final_relu=final), generator(0, "a"))
        assert float(h(x).detach().min()) == least


def test_a_free_size_of_the_task_takes_what_comes() -> None:
    h = make_adapter((4, None, None), (4, None, None), AdapterRecipe(), generator(0, "a"))
    assert h(torch.rand(1, 4, 7, 5)).shape == (1, 4, 7, 5)
    resized = make_adapter((4, None, None), (4, 3, 3), AdapterRecipe(), generator(0, "a"))
    assert resized(torch.rand(1, 4, 7, 5)).shape == (1, 4, 3, 3)


@pytest.mark.parametrize(
    ("ratio", "sizes"),
    [
        ((Fraction(1, 2), Fraction(1, 2)), {(8, 6): (4, 3), (7, 5): (4, 3), (1, 1): (1, 1)}),
        ((Fraction(3), Fraction(3, 4)), {(8, 8): (24, 6), (5, 7): (15, 6)}),
        ((Fraction(1), Fraction(1, 49)), {(8, 49): (8, 1), (8, 147): (8, 3)}),  # 49 times the float 1 / 49 is below 1
    ],
)
def test_a_map_of_free_size_is_resized_by_a_ratio_at_every_size(
    ratio: tuple[Fraction, Fraction], sizes: dict[tuple[int, int], tuple[int, int]]
) -> None:
    h = make_adapter((4, 8, 8), (4, None, None), AdapterRecipe(), generator(0, "a"), ratio).eval()
    written = trace(h, torch.rand(2, 4, 8, 98), kind="adapter")
    assert written.manifest.input.shape == written.manifest.outputs["features"].shape == ("N", 4, "H", "W")
    for had, wanted in sizes.items():
        x = torch.rand(2, 4, *had)
        assert h(x).shape[2:] == wanted
        assert torch.allclose(written.net()(x), h(x), atol=1e-6)


def test_of_a_map_with_one_free_size_the_other_is_resized() -> None:
    h = make_adapter((4, 8, 8), (4, 3, None), AdapterRecipe(), generator(0, "a"))
    assert h(torch.rand(1, 4, 8, 8)).shape == (1, 4, 3, 8)
    half = make_adapter((4, 8, 8), (4, 3, None), AdapterRecipe(), generator(0, "a"), (Fraction(1), Fraction(1, 2)))
    assert half(torch.rand(1, 4, 8, 6)).shape == (1, 4, 3, 3)
