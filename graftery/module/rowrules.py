"""Which row of the batch an operator's results are of, given whose its inputs are. A rule for each operator of the list.

A rule looks at marks alone (`graftery.module.marks`), never at the numbers, so that nothing that a file holds can make two rows look
apart, for example by a mask that only opens for rare inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from graftery.module.marks import Call, Marks, Mixed, gathered, together
from graftery.module.opset import Operator

Rule = Callable[[Call], Any]


def _elementwise(call: Call) -> Marks:
    return together(*call.every())


def _channelwise(call: Call) -> Marks:
    """Elementwise, with a number for each channel that no row has a part in."""
    names = [each.name for each in call.operator.arguments]
    name, *others = [name for name in names if isinstance(call.given.get(name), Tensor)]
    if any(bool(call.marks(each).any()) for each in others):
        raise Mixed
    return call.marks(name)


def _of_shape(call: Call) -> Marks:
    """As `self`, elementwise, whatever else there is: only where its dtype or device may be another's."""
    return call.marks("self")


def _moved(call: Call) -> Any:
    """Marks go where numbers go; what is filled in is of no row."""
    others = {name: _marked(call, value) for name, value in call.given.items() if name not in _POSITIONS}
    filled = {"value": 0.0} if call.given.get("value") else {}
    return call.run(others | filled)


_POSITIONS = ("index", "indices")


def _reduced(call: Call) -> Any:
    """All along some dimensions are made into one number, or each into one that depends on all."""
    marks, shapes = call.marks("self"), call.shapes()
    dims = _dims(call.given.get("dim"), marks.ndim)
    whose = gathered(marks, dims)
    return _map(shapes, lambda each: _fitted(whose, each.shape))


def _fitted(whose: Marks, shape: torch.Size) -> Marks:
    """Marks with dimensions of size 1 that are there or not."""
    return whose.reshape(shape) if whose.numel() == math.prod(shape) else whose.expand(shape)


def _halved(call: Call) -> Marks:
    first, second = call.marks("self").chunk(2, call.given.get("dim", -1))
    return together(first, second)


def _normed(call: Call) -> Marks:
    """Over the last dimensions; weight and bias are elementwise."""
    marks = call.marks("input")
    whose = gathered(marks, range(marks.ndim - len(call.given["normalized_shape"]), marks.ndim)).expand(marks.shape)
    others = [call.of(call.given.get(name)) for name in ("weight", "bias")]
    return together(whose, *others)


def _alike(call: Call) -> Marks:
    marks = together(*(call.marks(name) for name in ("x1", "x2")))
    return gathered(marks, [call.given.get("dim", 1)]).reshape(call.shapes().shape)


def _sampled(call: Call) -> Any:
    """Each sample of dimension 0 by itself, whatever is done inside it; other tensors are the same for all samples."""
    marks, shapes = _channelwise(call), call.shapes()
    first = shapes[0] if isinstance(shapes, (tuple, list)) else shapes
    batched = marks.ndim == _DIMS.get(call.operator.name, marks.ndim)
    if not batched or first.shape[0] != marks.shape[0]:
        whose = gathered(marks, range(marks.ndim))
        return _map(shapes, lambda each: whose.reshape([1] * each.ndim).expand(each.shape))
    whose = gathered(marks, range(1, marks.ndim)).flatten()
    return _map(shapes, lambda each: whose.view(-1, *[1] * (each.ndim - 1)).expand(each.shape))


_DIMS = {f"{name}{n}d": n + 2 for n in (1, 2, 3) for name in ("conv", "conv_transpose")} | {"col2im": 3}
"""Dimensions of an input that has samples; with one less it is one sample."""


def _pooled(call: Call) -> Any:
    """Along the last dimensions, as many as the name says; all before them are apart, whatever they are."""
    marks, shapes = call.marks("self"), call.shapes()
    along = int(call.operator.name.split("pool")[1][0])
    whose = gathered(marks, range(marks.ndim - along, marks.ndim))
    return _map(shapes, lambda each: whose.expand(each.shape))


def _product(call: Call) -> Marks:
    names = [each.name for each in call.operator.arguments if each.type == "Tensor"][-2:]
    shape = call.shapes().shape
    return _multiplied(call.marks(names[0]), call.marks(names[1]), shape)


def _product_and_more(call: Call) -> Marks:
    names = [each.name for each in call.operator.arguments if each.type == "Tensor"]
    shape = call.shapes().shape
    product = _multiplied(call.marks(names[1]), call.marks(names[2]), shape)
    return together(product, call.marks(names[0]))


def _multiplied(a: Marks, b: Marks, shape: torch.Size) -> Marks:
    rows = gathered(a[None] if a.ndim == 1 else a, [-1])
    columns = gathered(b[:, None] if b.ndim == 1 else b, [-2])
    return together(rows, columns).reshape(shape)


def _linear(call: Call) -> Marks:
    weight = gathered(call.marks("weight"), [-1]).squeeze(-1)
    whose = together(gathered(call.marks("input"), [-1]), weight, call.of(call.given.get("bias")))
    return _fitted(whose, call.shapes().shape)


def _bilinear(call: Call) -> Marks:
    inputs = [gathered(call.marks(name), [-1]) for name in ("input1", "input2")]
    weight = gathered(call.marks("weight"), [-2, -1]).flatten()
    return together(*inputs, weight, call.of(call.given.get("bias"))).expand(call.shapes().shape)


def _outer(call: Call) -> Marks:
    return together(call.marks("self")[:, None], call.marks("vec2")[None])


def _summed_products(call: Call) -> Marks:
    """Exact: of nothing but ones and zeros, a sum of products is above 0 where a row has a part in it."""
    operands = [call.of(each) for each in call.given["tensors"]]
    rows = int(max(each.max() for each in operands))
    whose = None
    for at, row in ((at, row) for at in range(len(operands)) for row in range(1, rows + 1)):
        shown = [(each == row).float() if at == index else torch.ones_like(each) for index, each in enumerate(operands)]
        found = row * (torch.einsum(call.given["equation"], shown) > 0).float()
        whose = found if whose is None else together(whose, found)
    assert whose is not None  # noqa: S101 - there are operands
    return whose


def _attended(call: Call) -> Marks:
    query, key, value = (call.marks(name) for name in ("query", "key", "value"))
    shared = call.given.get("enable_gqa") and key.shape[-3] != query.shape[-3]
    over = [-3, -2, -1] if shared else [-2, -1]
    mask = call.of(call.given.get("attn_mask"))
    parts = [gathered(query, [-1]), gathered(key, over), gathered(value, over)]
    whose = together(*parts, gathered(mask, [-1]) if mask.ndim else mask)
    return whose.expand(*whose.shape[:-1], value.shape[-1])


def _made(call: Call) -> Marks:
    """Of the input's shape alone."""
    return torch.zeros(call.shapes().shape)


def _marked(call: Call, value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_marked(call, each) for each in value]
    return call.of(value) if isinstance(value, Tensor) else value


def _map(value: Any, of: Callable[[Tensor], Tensor]) -> Any:
    return [of(each) for each in value] if isinstance(value, (list, tuple)) else of(value)


def _dims(dim: Any, ndim: int) -> list[int]:
    """Of a reduction; none named: all."""
    if dim is None or (isinstance(dim, (list, tuple)) and not dim):
        return list(range(ndim))
    return [each % max(ndim, 1) for each in (dim if isinstance(dim, (list, tuple)) else [dim])]


_RULES: Mapping[Rule, str] = {
    _elementwise: "abs acos add addcdiv addcmul asin atan bitwise_and bitwise_not bitwise_or ceil celu clamp clamp_max clamp_min"
    " cos div elu eq erf exp expm1 floor floor_divide ge gelu gt hardshrink hardswish hardtanh isinf isnan le leaky_relu lerp log log1p log2"
    " log_sigmoid logical_and logical_not logical_or lt masked_fill maximum minimum mish mul ne neg pow reciprocal relu relu6 remainder"
    " round rsqrt rsub selu sigmoid sign silu sin softplus softshrink sqrt square sub tan tanh threshold where",
    _channelwise: "batch_norm prelu",
    _of_shape: "_to_copy clone contiguous detach alias to type_as",
    _moved: "broadcast_to cat channel_shuffle chunk constant_pad_nd diagonal embedding expand expand_as flatten flip gather hstack im2col index"
    " index_select mT movedim narrow numpy_T pad permute pixel_shuffle pixel_unshuffle reflection_pad1d reflection_pad2d repeat"
    " repeat_interleave replication_pad1d replication_pad2d reshape reshape_as roll select slice split split_with_sizes squeeze stack swapaxes"
    " t tile transpose tril triu unbind unflatten unfold unsqueeze view view_as",
    _reduced: "_log_softmax _softmax amax amin cumsum linalg_vector_norm log_softmax logsumexp mean norm prod softmax std sum var var_mean",
    _halved: "glu",
    _normed: "layer_norm rms_norm",
    _alike: "cosine_similarity",
    _sampled: "_upsample_nearest_exact2d col2im conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution group_norm"
    " instance_norm upsample_bicubic2d upsample_bilinear2d upsample_linear1d"
    " upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d",
    _pooled: "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d avg_pool1d avg_pool2d"
    " avg_pool3d max_pool1d max_pool2d max_pool2d_with_indices max_pool3d",
    _product: "bmm dot matmul mm mv",
    _product_and_more: "addmm baddbmm",
    _linear: "linear",
    _bilinear: "bilinear",
    _outer: "outer",
    _summed_products: "einsum",
    _attended: "scaled_dot_product_attention",
    _made: "arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like",
}
_BY_NAME: Mapping[str, Rule] = {name: rule for rule, names in _RULES.items() for name in names.split()}
_BY_TEXT: Mapping[str, Rule] = {
    **{f"aten.{name}.dim": _reduced for name in ("max", "min")},
    **{f"aten.{name}.other": _elementwise for name in ("max", "min")},
}


def rule_of(operator: Operator) -> Rule:
    """The rule of an allowed operator on tensors."""
    return _BY_TEXT.get(operator.text) or _BY_NAME[operator.name]
