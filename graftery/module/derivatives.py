"""What transplanting asks of every net: y, dy/dx, and the gradient of that gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


@dataclass(frozen=True)
class Derivatives:
    """`y` by output; `gradient` is v'dy/dx; `second` the gradients of its squared norm in x and in each v."""

    y: dict[str, Tensor]
    gradient: Tensor
    second: tuple[Tensor, ...]


def as_outputs(value: object) -> tuple[Tensor, ...]:
    """The outputs of a net as a tuple, in the net's order."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, dict):
        return tuple(value.values())
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise TypeError(f"a net returns a tensor, a dict or a tuple of tensors, not {type(value).__name__}")


def derivatives(
    net: Callable[[Tensor], object], x: Tensor, names: tuple[str, ...], *, twice: bool = True, rows: int | None = None
) -> Derivatives:
    """Run a net forward and twice backward, with random but fixed cotangents.

    The math attention kernel is used: the fused ones have no second derivative.

    Args:
        twice: whether to take the second derivative; without it `second` is empty.
        rows: how many rows of y to take gradients of, from the first; None: all.

    Raises:
        RuntimeError: an operator has no such derivative; torch's message names it.
    """
    generator = torch.Generator().manual_seed(1)
    with sdpa_kernel([SDPBackend.MATH]), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        ys = as_outputs(net(x.clone()))  # Its first layer may work in place, which a leaf does not allow.
        ends = [y[:rows] for y in ys]
        vs = [torch.randn(y.shape, generator=generator).to(y).requires_grad_() for y in ends]
        (gradient,) = torch.autograd.grad(ends, [x], vs, create_graph=True)
        second = _second(gradient, [x, *vs]) if twice else ()
    y = {name: value.detach() for name, value in zip(names, ys, strict=True)}
    return Derivatives(y, gradient.detach(), tuple(grad.detach() for grad in second))


def _second(gradient: Tensor, sources: list[Tensor]) -> tuple[Tensor, ...]:
    # A piecewise linear net's gradient does not depend on x, only on the cotangents.
    return torch.autograd.grad(gradient.square().sum(), sources, allow_unused=True, materialize_grads=True)


def seeded(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal noise that depends on the seed and the shape alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Are two tensors equal up to `tolerance` times the largest magnitude that is wanted?"""
    return _within(found, wanted, tolerance, float("inf"))


def close_on_the_whole(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    """Are two tensors equal up to `tolerance` times the norm of what is wanted?

    For gradients: where rounding takes a ReLU's input over zero, single elements jump.
    """
    return _within(found, wanted, tolerance, 2)


def _within(found: Tensor, wanted: Tensor, tolerance: float, order: float) -> bool:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    difference = torch.linalg.vector_norm(found.double() - wanted.double(), order)
    return float(difference) <= tolerance * float(torch.linalg.vector_norm(wanted.double(), order)) + 1e-7
