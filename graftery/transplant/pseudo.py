"""Pseudo-gradients: a net made linear, so that its gradient needs no features.

ReLU becomes a random 0/1 gate, max pooling one random pick a window, batch norm its scale, and no bias is added. What is
run is the mean over all gates and picks: a gate is a half, a pick the mean of its window. The rewrite is on the graph of
operators; autograd does the rest.

Source: Zhang et al. 2018, the data-free form of back-distillation; reconstructed, the mean is ours
(docs/methods/transplant.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from graftery.errors import RecipeRefused
from graftery.transplant.opgraph import operator_name

Args = tuple[Any, ...]
Kwargs = dict[str, Any]
Rewrite = Callable[["Linear", Any, Args, Kwargs], Any]


class Linear(fx.Interpreter):
    """Runs a graph of operators with every operator replaced by a linear one.

    Math: E[A D_n A_n-1 ... D_1 A_1] = A E[D_n] A_n-1 ... E[D_1] A_1, A the linear operators, D gates and picks: these are
    independent, and no way through the net meets one of them twice.

    Args:
        net: a graph of ATen operators of one input.

    Raises:
        RecipeRefused: the net has an operator that is neither linear nor has a linear stand-in.
    """

    def __init__(self, net: fx.GraphModule) -> None:
        super().__init__(net)
        self.dependent: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        uses = self._uses(n)
        if n.op != "call_function" or not uses:
            if n.op == "placeholder":
                self.dependent.add(n)
            return super().run_node(n)
        value = self._rewritten(n, uses)
        # Sizes are read off a feature, but do not depend on its values.
        if isinstance(value, Tensor | list | tuple):
            self.dependent.add(n)
        return value

    def _uses(self, n: fx.Node) -> list[fx.Node]:
        """What it uses that depends on the features, as often as it does: x * x is no product with a constant."""
        found: list[fx.Node] = []
        fx.map_arg((n.args, n.kwargs), lambda used: found.append(used) if used in self.dependent else None)
        return found

    def _rewritten(self, n: fx.Node, uses: list[fx.Node]) -> Any:
        name = operator_name(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if name in LINEAR or name.startswith(("aten.sym_", "aten._assert", "aten.upsample_")):
            return n.target(*args, **kwargs)  # type: ignore[operator]
        if name in SUMS:
            return self._sum(n, args, kwargs)
        if name in PRODUCTS and len(uses) == 1 and (name != "aten.div" or n.args[0] in uses):
            return n.target(*args, **kwargs)  # type: ignore[operator]
        if name in REWRITES:
            return REWRITES[name](self, n.target, args, kwargs)
        raise RecipeRefused(
            f"pseudo_gradient knows no linear stand-in for {name}", hint="use back_distillation, which needs none"
        )

    def _sum(self, n: fx.Node, args: Args, kwargs: Kwargs) -> Any:
        """A sum of two features stays; a constant is a bias and goes."""
        ours, theirs = (arg in self.dependent for arg in n.args[:2])
        if ours and theirs:
            return n.target(*args, **kwargs)  # type: ignore[operator]
        sign = -1 if theirs and operator_name(n) == "aten.sub" else 1
        value, other = (args[0], args[1]) if ours else (args[1], args[0])
        # The constant may still have broadcast the feature.
        return sign * value + (torch.zeros_like(other) if isinstance(other, Tensor) else 0)


def _without_bias(_: Linear, target: Any, args: Args, kwargs: Kwargs) -> Any:
    """Convolutions and linear layers: input, weight, bias, then the rest."""
    rest = {name: value for name, value in kwargs.items() if name != "bias"}
    return target(args[0], args[1], None, *args[3:], **rest)


def _batch_norm(_: Linear, target: Any, args: Args, kwargs: Kwargs) -> Any:
    x, weight, _bias, _mean, var, _training, _momentum, eps = args[:8]
    scale_C = torch.rsqrt(var + eps) * (1 if weight is None else weight)
    return x * scale_C.view(1, -1, *[1] * (x.ndim - 2))


def _layer_norm(_: Linear, target: Any, args: Args, kwargs: Kwargs) -> Any:
    """Centred and scaled by the weight; the division by the sample's own size is not linear, and goes."""
    x, shape, weight, *_rest = [*args, None]
    centred = x - x.mean(list(range(-len(shape), 0)), keepdim=True)
    return centred if weight is None else centred * weight


def _gate(_: Linear, target: Any, args: Args, kwargs: Kwargs) -> Any:
    return args[0] * OPEN


def _pick(_: Linear, target: Any, args: Args, kwargs: Kwargs) -> Any:
    """One element of each window, any as likely as the others; the padding is never the greatest."""
    x, kernel, stride, padding, dilation, ceil_mode = (*args, *_POOLING[len(args) :])
    if any(step != 1 for step in (dilation if isinstance(dilation, list | tuple) else [dilation])):
        raise RecipeRefused(
            "pseudo_gradient knows no linear stand-in for a dilated max pooling",
            hint="use back_distillation, which needs none",
        )
    return F.avg_pool2d(x, kernel, stride or kernel, padding, ceil_mode=ceil_mode, count_include_pad=False)


OPEN = 0.5
"""Share of the gates that are open."""
_POOLING: Args = (None, None, [], 0, 1, False)
"""What ATen takes for the arguments of a max pooling that are left out."""
LINEAR = frozenset(
    """
    getitem getattr aten._to_copy aten.adaptive_avg_pool1d aten.adaptive_avg_pool2d aten.alias aten.avg_pool1d aten.avg_pool2d
    aten.cat aten.chunk aten.clone aten.constant_pad_nd aten.contiguous aten.expand aten.flatten aten.flip
    aten.index_select aten.mean aten.narrow aten.neg aten.pad aten.permute aten.reshape aten.roll aten.select aten.slice
    aten.split aten.split_with_sizes aten.squeeze aten.stack aten.sum aten.t aten.to aten.transpose aten.unbind
    aten.unflatten aten.unsqueeze aten.view
    """.split()  # noqa: SIM905
)
SUMS = frozenset({"aten.add", "aten.sub"})
PRODUCTS = frozenset({"aten.mul", "aten.div", "aten.matmul", "aten.bmm", "aten.mm"})
GATED = ("relu", "relu6", "gelu", "silu", "elu", "leaky_relu", "hardswish", "hardtanh", "mish", "softplus")
REWRITES: dict[str, Rewrite] = {
    **{f"aten.{name}": _without_bias for name in ("conv1d", "conv2d", "conv_transpose2d", "linear")},
    "aten.batch_norm": _batch_norm,
    "aten.layer_norm": _layer_norm,
    "aten.max_pool2d": _pick,
    **{f"aten.{name}": _gate for name in GATED},
}
