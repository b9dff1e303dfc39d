"""Batch norms that stand on the batch they get: their statistics estimated again, which needs images but no labels.

Source: ours (docs/methods/compat.md, docs/methods/cloning.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from graftery.errors import SamplesRefused
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X, with_probe

BATCH_NORM = "aten.batch_norm.default"


def reestimated(head: ModuleFile, features: Tensor) -> ModuleFile:
    """The module with running means and variances of these inputs; every other weight is the same.

    Args:
        head: without batch norm it is given back as it is.
        features: [n, ...], n at least 2, what it will stand on.

    Raises:
        SamplesRefused: `samples_invalid`; one row has no variance.
    """
    if len(features) < 2:
        raise SamplesRefused("batch norms are re-estimated on two samples at least: one has no variance")
    names = [
        (node.args[3]["w"], node.args[4]["w"])
        for node in head.graph.nodes
        if node.op == BATCH_NORM and all(isinstance(node.args[at], dict) for at in (3, 4))
    ]
    if not names:
        return head
    watcher = _Watched(head.net())
    with torch.no_grad():
        watcher.run(features.float())
    found = dict(head.weights)
    for (mean, variance), (new_mean, new_variance) in zip(names, watcher.found, strict=True):
        found[mean], found[variance] = new_mean, new_variance
    return with_probe(replace(head, weights=found), head.extras[PROBE_X])


def on_batch(net: fx.GraphModule, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    """What the net gives with each batch norm on the batch's own statistics, as in training.

    Args:
        weights: instead of the net's own, by the names of its buffers.

    Returns:
        Differentiable in the input and in these weights.
    """
    value: Tensor = _OnBatch(net, weights).run(x)
    return value


class _OnBatch(fx.Interpreter):
    """Runs a net as in training, each batch norm on the batch it gets."""

    def __init__(self, net: fx.GraphModule, weights: Mapping[str, Tensor] | None = None) -> None:
        super().__init__(net)
        self.weights = weights or {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "get_attr" and str(n.target) in self.weights:
            return self.weights[str(n.target)]
        if n.op != "call_function" or n.target is not torch.ops.aten.batch_norm.default:
            return super().run_node(n)
        (x, weight, bias, *_, eps, _), _ = self.fetch_args_kwargs_from_env(n)
        return self.normed(x, weight, bias, float(eps))

    def normed(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)


class _Watched(_OnBatch):
    """Keeps the mean and variance of what each batch norm gets."""

    def __init__(self, net: fx.GraphModule) -> None:
        super().__init__(net)
        self.found: list[tuple[Tensor, Tensor]] = []

    def normed(self, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        # Unbiased, as batch norm keeps it; what the batch is divided by is not.
        variance, mean = torch.var_mean(x, [dim for dim in range(x.ndim) if dim != 1])
        self.found.append((mean, variance))
        return super().normed(x, weight, bias, eps)


@contextmanager
def statistics_kept(net: nn.Module) -> Iterator[None]:
    """Batch norms use the batch's statistics, and keep their running ones: turned images are not what the net will see."""
    norms = [part for part in net.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, tracked in zip(norms, before, strict=True):
            norm.track_running_stats = tracked
