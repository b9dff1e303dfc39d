"""Adapters between kinds of features: their shapes, their start, and that they are learned, traced and differentiated twice."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from graftery.data.streams import generator
from graftery.module import trace
from graftery.nn.adapters import Shape, alike, make_adapter
from graftery.nn.crossings import Grid, grid_of
from graftery.spec.manifest import OutputMeaning
from graftery.spec.recipes import ADAPTER_WEIGHTS, AdapterRecipe

SHAPES: tuple[tuple[int, ...], ...] = ((6,), (5, 3, 6), (6, 4, 4), (16, 6), (10, 5), (7, 6))
CROSSINGS = [pair for pair in product(SHAPES, SHAPES) if not alike(*pair)]
QUIET = AdapterRecipe(noise=0)
sizes = st.integers(1, 9)
shapes = st.one_of(st.tuples(sizes), st.tuples(sizes, sizes), st.tuples(sizes, sizes, sizes))


def _make(source: Shape, target: Shape, recipe: AdapterRecipe = AdapterRecipe()) -> nn.Module:  # noqa: B008
    return make_adapter(source, target, recipe, generator(0, "a"))


@settings(max_examples=120, deadline=None)
@given(source=shapes, target=shapes, layers=st.integers(1, 3), relu=st.booleans())
def test_features_of_any_kind_and_size_are_joined(
    source: tuple[int, ...], target: tuple[int, ...], layers: int, relu: bool
) -> None:
    y = _make(source, target, AdapterRecipe(layers=layers, final_relu=relu))(torch.randn(2, *source))
    assert y.shape == (2, *target)
    assert not relu or bool((y >= 0).all())


@pytest.mark.parametrize(
    "tokens, like, grid",
    [
        (16, (), Grid(0, (4, 4))),
        (17, (), Grid(1, (4, 4))),
        (197, (), Grid(1, (14, 14))),
        (1, (), Grid(0, (1, 1))),
        (2, (), Grid(1, (1, 1))),
        (12, (), Grid(0, (3, 4))),
        (7, (), Grid(0, (1, 7))),
        (16, (2, 8), Grid(0, (2, 8))),
        (17, (2, 8), Grid(1, (2, 8))),
        (17, (3, 3), Grid(1, (4, 4))),
        (16, (None, None), Grid(0, (4, 4))),
    ],
)
def test_tokens_lie_on_a_grid(tokens: int, like: Shape, grid: Grid) -> None:
    assert grid_of(tokens, like) == grid
    assert grid.tokens == tokens


@pytest.mark.parametrize("layers", [1, 3])
def test_where_sizes_allow_it_the_start_is_the_identity(layers: int) -> None:
    recipe = AdapterRecipe(layers=layers, noise=0)
    image = torch.rand(2, 6, 4, 4)
    tokens = image.flatten(2).transpose(1, 2)
    assert torch.equal(_make((6, 4, 4), (16, 6), recipe)(image), tokens)
    assert torch.equal(_make((16, 6), (6, 4, 4), recipe)(tokens), image)
    wide = torch.rand(2, 6, 2, 8)
    assert torch.equal(_make((6, 2, 8), (16, 6), recipe)(wide), wide.flatten(2).transpose(1, 2))
    vector = torch.rand(2, 6)
    assert torch.equal(_make((6,), (6, 1, 1), recipe)(vector), vector[:, :, None, None])
    assert torch.equal(_make((6, 1, 1), (6,), recipe)(vector[:, :, None, None]), vector)
    assert torch.equal(_make((1, 6), (6,), recipe)(vector[:, None]), vector)


def test_a_class_token_is_the_mean_where_there_was_none_and_is_left_out_where_none_is_wanted() -> None:
    cells = torch.randn(2, 16, 6)
    with_class = _make((16, 6), (17, 6), QUIET)(cells)
    assert torch.equal(with_class[:, 1:], cells)
    assert torch.allclose(with_class[:, 0], cells.mean(1), atol=1e-6)
    assert torch.equal(_make((17, 6), (16, 6), QUIET)(with_class), cells)
    image = cells.transpose(1, 2).unflatten(2, (4, 4))
    assert torch.allclose(_make((6, 4, 4), (17, 6), QUIET)(image), with_class, atol=1e-6)
    assert torch.equal(_make((17, 6), (6, 4, 4), QUIET)(with_class), image)


def test_a_class_token_stays_itself_on_another_grid() -> None:
    tokens = torch.randn(2, 17, 6)
    for target in (5, 10, 26):
        assert torch.equal(_make((17, 6), (target, 6), QUIET)(tokens)[:, 0], tokens[:, 0])


@pytest.mark.parametrize("target", [(16, 6), (6, 4, 4), (6,)])
def test_what_a_class_token_says_can_be_learned(target: tuple[int, ...]) -> None:
    x = torch.randn(2, 17, 6, requires_grad=True)
    _make((17, 6), target)(x).square().sum().backward()
    assert x.grad is not None
    assert float(x.grad[:, 0].abs().max()) > 0


def test_constant_features_stay_constant() -> None:
    for source, target in CROSSINGS:
        if len(source) != 1:
            y = _make(source, target, QUIET)(torch.ones(1, *source))
            inside = y[..., 1:-1, 1:-1] if len(target) == 3 else y
            assert torch.allclose(inside, torch.ones_like(inside), atol=1e-5), (source, target)


@pytest.mark.parametrize("source, target", CROSSINGS, ids=lambda shape: "x".join(map(str, shape)))
def test_every_adapter_can_be_traced_and_is_differentiated_twice(source: Shape, target: Shape) -> None:
    """`trace` compares y, dy/dx and the gradient of that between file and net, at batches of 1 to 3."""
    h = _make(source, target, AdapterRecipe(layers=2))
    file = trace(h, torch.zeros(2, *source), kind="adapter", outputs={"features": OutputMeaning()})  # type: ignore[arg-type]
    assert file.manifest.input.shape[0] == "N"
    x = torch.randn(3, *source, requires_grad=True)  # type: ignore[arg-type]
    y = h(x)
    assert torch.allclose(file.net()(x), y, atol=1e-5)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert all(p.grad is not None for p in h.parameters())


@pytest.mark.parametrize("target", [(16, 6), (17, 5), (8,), (12, 4)])
def test_a_map_of_free_size_gives_what_the_task_takes_at_every_size(target: tuple[int, ...]) -> None:
    h = _make((6, None, None), target)
    file = trace(h, torch.zeros(2, 6, 4, 4), kind="adapter", outputs={"features": OutputMeaning()})
    assert file.manifest.input.shape == ("N", 6, "H", "W")
    for height, width in ((4, 4), (9, 3)):
        assert file.net()(torch.randn(2, 6, height, width)).shape == (2, *target)


@pytest.mark.parametrize("source", [(6, 4, 4), (16, 6), (6,)])
@pytest.mark.parametrize("target", [(None, 6), (6, None, None)])
def test_a_free_number_of_cells_takes_what_comes(source: tuple[int, ...], target: Shape) -> None:
    y = _make(source, target)(torch.randn(2, *source))
    assert y.shape in ((2, 16, 6), (2, 6, 4, 4))


@pytest.mark.parametrize("source, target", [((512,), (2048, 7, 7)), ((2048, 7, 7), (512,)), ((197, 768), (1000,))])
def test_large_features_do_not_make_large_adapters(source: Shape, target: Shape) -> None:
    assert sum(p.numel() for p in _make(source, target).parameters()) < 1.1 * ADAPTER_WEIGHTS


def test_the_start_is_drawn_from_the_seed() -> None:
    x = torch.randn(2, 17, 6)
    one, same, other = (make_adapter((17, 6), (5, 3, 3), AdapterRecipe(), generator(s, "a"))(x) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
