"""A graph's values grow in proportion to the batch: shown at four batch sizes, so that it holds at every other one.

Sizes are sums and products of a few others, apart from the operators below that round. Where these do not round what
changes with the batch, every size is a + b N, and an operator's output has a + b N elements: four points show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from graftery.module.arguments import OPEN_END
from graftery.module.opset import Operator

_WINDOWS = ("conv", "avg_pool", "max_pool", "adaptive", "upsample", "_upsample", "im2col", "col2im")
_CUTS = {
    "slice": ("dim",),
    "narrow": ("dim",),
    "split": ("dim",),
    "split_with_sizes": ("dim",),
    "chunk": ("dim",),
    "unfold": ("dimension",),
    "diagonal": ("dim1", "dim2"),
}
_ALONG = {"cumsum": "dim", "flip": "dims", "index_select": "dim", "roll": "dims", "select": "dim"}
"""Operators that take from one place along a dimension to another. No number of rows that are tried shows every roll."""
_ATTENTION = ("query", "key", "value")
"""Of each other's lengths is what it makes on its way."""
_MOST_FACTORS = 2
"""Of one product, that change with the batch: of more, what is made on the way may grow faster than what comes out."""
_TRIANGLES = ("tril", "triu")
_SHUFFLES = {"channel_shuffle": 1, "pixel_shuffle": -3}
_PADS = ("constant_pad_nd", "pad")
_ENDS = {"slice": "end", "narrow": "length"}


@dataclass(frozen=True)
class Measure:
    """One step at one batch size: `sizes` are a + b N in a graph that grows as the batch, b not negative; `fixed` and `along` do
    not change; `dims`, of tensors, are a or b N: nothing is put beside the rows; of `factors`, the shapes of a product's, at most two
    change."""

    sizes: tuple[int, ...]
    fixed: tuple[Any, ...]
    along: tuple[int, ...] = ()
    dims: tuple[int, ...] = ()
    factors: tuple[tuple[int, ...], ...] = ()


def measure(operator: Operator, bound: Mapping[str, Any], result: Any) -> Measure:
    """What a step makes, and which of the sizes that it works on it may round."""
    defaults = {"dim2": 1} if operator.name == "diagonal" else {}
    given = {argument.name: bound.get(argument.name, defaults.get(argument.name)) for argument in operator.arguments}
    factors = tuple(tuple(each.shape) for each in given["tensors"]) if operator.name == "einsum" else ()
    return Measure(_sizes(result), _rounded(operator, given), _along(operator.name, given), _dims(result), factors)


def mixes(found: Sequence[Measure]) -> bool:
    """Whether a step takes from one place to another along a dimension that is, or has in it, the batch, or puts something there."""
    beside = any(b - a not in (0, a) for a, b in zip(found[0].dims, found[1].dims, strict=False))
    return beside or any(each.along != found[0].along for each in found)


def trouble(batches: Sequence[int], found: Sequence[Measure]) -> str | None:
    """What is wrong with one step's measures at these batch sizes, the first two of which are 1 and 2."""
    if any(each.fixed != found[0].fixed for each in found):
        return "rounds or cuts a size that changes with the batch"
    changing = [a for a, b in zip(found[0].factors, found[1].factors, strict=False) if a != b]
    if len(changing) > _MOST_FACTORS:
        return f"multiplies {len(changing)} values that change with the batch at once, {_MOST_FACTORS} are allowed"
    first, second = (each.sizes for each in found[:2])
    if any(b < a for a, b in zip(first, second, strict=False)):
        return f"shrinks as the batch grows: {first} at N = 1, {second} at N = 2"
    for n, each in zip(batches, found, strict=True):
        expected = tuple(a + (n - 1) * (b - a) for a, b in zip(first, second, strict=False))
        if each.sizes != expected:
            return f"does not grow as the batch: {first} at N = 1, {each.sizes} at N = {n}"
    return None


def _sizes(result: Any) -> tuple[int, ...]:
    """Every dimension and the number of elements of each tensor; of a whole number, itself."""
    if isinstance(result, (list, tuple)):
        return tuple(size for each in result for size in _sizes(each))
    return (*result.shape, result.numel()) if isinstance(result, Tensor) else (int(result),)


def _dims(result: Any) -> tuple[int, ...]:
    if isinstance(result, (list, tuple)):
        return tuple(size for each in result for size in _dims(each))
    return tuple(result.shape) if isinstance(result, Tensor) else ()


def _rounded(operator: Operator, given: Mapping[str, Any]) -> tuple[Any, ...]:
    if operator.text == "sym.floordiv":
        return (given["a"] % given["b"],)
    if operator.text == "sym.mod":
        return given["a"] % given["b"], given["b"]
    if operator.name == "scaled_dot_product_attention":
        return tuple(tuple(given[name].shape[-2:]) for name in _ATTENTION)
    if operator.name == "arange":
        step = given.get("step") or 1
        return (step,) if step == 1 else (given.get("start"), given["end"], step)
    if operator.name in _CUTS:
        sizes = [given["self"].shape[given[name] or 0] for name in _CUTS[operator.name]]
        return () if _is_whole(operator.name, given, sizes[0]) else (*sizes, *_stated(given))
    if operator.name.startswith(_WINDOWS):
        return (*(tuple(each.shape[1:]) for each in given.values() if isinstance(each, Tensor)), *_stated(given))
    return ()


def _along(name: str, given: Mapping[str, Any]) -> tuple[int, ...]:
    if name == "arange":  # as a mask, it would tell a row its place
        return (given["end"],)
    if name in _TRIANGLES or name == "pixel_unshuffle":
        return tuple(given["self"].shape[-2:])
    if name in _SHUFFLES:
        return (given["self"].shape[_SHUFFLES[name]],)
    if name in _PADS:
        pairs = list(zip(given["pad"][::2], given["pad"][1::2], strict=False))
        return tuple(given["self"].shape[-1 - at] for at, pair in enumerate(pairs) if any(pair))
    if name not in _ALONG:
        return ()
    shape, dims = given["self"].shape, given[_ALONG[name]]
    if dims is None or (isinstance(dims, list | tuple) and not dims):  # a roll along no dimension is along all of them
        return (given["self"].numel(),)
    return tuple(shape[dim] for dim in (dims if isinstance(dims, list | tuple) else [dims]))


def _is_whole(name: str, given: Mapping[str, Any], size: int) -> bool:
    """Whether a slice takes all there is, whatever the size."""
    ends = (size, OPEN_END, None) if name == "slice" else (size,)
    return name in _ENDS and not given["start"] and given[_ENDS[name]] in ends and given.get("step") in (None, 1)


def _stated(given: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name} {each}" for name, each in given.items() if not isinstance(each, Tensor))
