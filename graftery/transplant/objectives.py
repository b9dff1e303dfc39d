"""The loss terms of a transplant: pure functions of logits, labels and input gradients.

Shapes: N batch, K outputs, P positions (1 for classification), `...` whatever the output or the feature has.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from graftery.data.placing import onto
from graftery.spec.labels import IGNORED
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import LEAST_SPREAD

UNBOUND: frozenset[Semantics] = frozenset({"regression", "feature"})
"""Outputs that are numbers, each in a unit of its own, and no logits."""


def direct(logits: Tensor, labels: Tensor, semantics: Semantics, unit: Tensor | None = None) -> Tensor:
    """Task loss on labelled samples: the baseline "direct-learn".

    Math: cross entropy, binary where K = 1 (mean over samples and pixels, 255 left out); regression, the mean over K of
    mean squared error over `unit`.

    Args:
        logits: [N, K] or [N, K, H, W]; regression: any shape.
        labels: [N] or [N, H, W]; regression: the shape of `logits`.
        semantics: what the output means.
        unit: of a regression, the `spread` of all labels, not of this batch alone; None: squared errors as they are.

    Returns:
        A scalar, at least 0, differentiable in `logits`.

    Source: Zhang et al. 2018, the baseline; the unit is ours, as that of `distillation`, beside which it stands.
    """
    if semantics in UNBOUND:
        wanted = labels.to(logits.dtype).view_as(logits)
        return F.mse_loss(logits, wanted) if unit is None else squared_error(logits, wanted, unit.to(logits))
    if logits.shape[1] > 1:
        if semantics == "classification":
            return F.cross_entropy(logits, labels.long())
        known = labels != IGNORED
        losses = F.cross_entropy(logits, labels.long(), ignore_index=IGNORED, reduction="sum")
        return losses / known.sum().clamp_min(1)  # a batch may have no pixel that counts
    known = labels != IGNORED
    losses = F.binary_cross_entropy_with_logits(logits[:, 0], labels.clamp(0, 1).to(logits.dtype), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def distillation(
    student: Tensor, teacher: Tensor, semantics: Semantics, temperature: float, unit: Tensor | None = None
) -> Tensor:
    """How far the student's output is from the teacher's.

    Math: T^2 KL(p(teacher / T) || p(student / T)), p the softmax over K, or the sigmoid where K = 1; mean over samples
    and positions. Regression: the mean over K of mean squared error over `unit`.

    Args:
        student, teacher: logits of one shape, [N, K, ...].
        temperature: T; logits are divided by it.
        unit: of a regression, the `spread` of many of the teacher's outputs; None: that of this batch.

    Returns:
        A scalar, at least 0, differentiable in `student`.

    Source: forward distillation in Zhang et al. 2018; the temperature after Hinton et al. 2015; the scaling by T^2 and
    by the variance make the weight mean the same for every T and unit.
    """
    if semantics in UNBOUND:
        # Of many outputs, not of this batch: a batch of one image's views hardly varies, and any error would be huge.
        return squared_error(student, teacher, spread(teacher) if unit is None else unit.to(teacher))
    if student.shape[1] > 1:
        log_s, log_t = (F.log_softmax(logits / temperature, 1) for logits in (student, teacher))
        return temperature**2 * (log_t.exp() * (log_t - log_s)).sum(1).mean()
    soft = torch.sigmoid(teacher / temperature)
    cross = F.binary_cross_entropy_with_logits(student / temperature, soft)
    return temperature**2 * (cross - F.binary_cross_entropy_with_logits(teacher / temperature, soft))


def spread(y: Tensor) -> Tensor:
    """The variance of outputs [N, K, ...], each of the K about its own mean, at least LEAST_SPREAD of the largest.

    Returns:
        [1, K, 1, ...], positive.
    """
    others = [dim for dim in range(y.ndim) if dim != 1]
    variance = (y - y.mean(others, keepdim=True)).square().mean(others, keepdim=True)
    return torch.maximum(variance, LEAST_SPREAD * variance.max()).clamp_min(1e-12)


def squared_error(output: Tensor, wanted: Tensor, unit: Tensor) -> Tensor:
    """The mean over K of mean squared error over unit: the same whatever each of the K is measured in.

    Args:
        output, wanted: [N, K, ...].
        unit: [1, K, 1, ...], as `spread` gives it.
    """
    weights = _weights(unit)
    return F.mse_loss(output * weights, wanted * weights) / unit.max()


def _weights(unit: Tensor) -> Tensor:
    """What makes outputs alike: at least 1, and exactly 1 for an output that is alone."""
    return (unit.max() / unit).sqrt()


def back_distillation(d_student: Tensor, d_teacher: Tensor) -> Tensor:
    """How far the gradients of the outputs with respect to f's features are from each other.

    Math: mean over samples of ||D_S - D_T||^2 / ||D_T||^2.

    Args:
        d_student, d_teacher: [N, ...], gradients of the same function of the output, through gS(h(x)) and gT(x).

    Returns:
        A scalar, at least 0, differentiable in `d_student`.

    Source: Zhang et al. 2018, back-distillation. The exact gradients and the normalisation per sample are ours.
    """
    difference, size = (d_student - d_teacher).flatten(1), d_teacher.flatten(1)
    energy_N = size.square().sum(1)
    # A teacher that is flat at one sample would else outweigh the batch.
    floor = 1e-3 * energy_N.mean() + 1e-12
    return (difference.square().sum(1) / (energy_N + floor)).mean()


def back_distillation_cosine(d_student: Tensor, d_teacher: Tensor) -> Tensor:
    """The same for gradients whose size means nothing.

    Math: mean over samples of ||D_S/|D_S| - D_T/|D_T|||^2 = 2 - 2 cos.

    Source: Zhang et al. 2018. The norms are differentiated: taken as constants, the adapter shrinks (measured).
    """
    return (2 - 2 * F.cosine_similarity(d_student.flatten(1), d_teacher.flatten(1), dim=1, eps=1e-12)).mean()


def distribution_mismatch(student: Tensor, teacher: Tensor) -> Tensor:
    """How far the student's outputs over a batch are spread from the teacher's, whichever sample each belongs to.

    Math: mean over K of W2(S, T)^2 / var T; W2 is the Wasserstein distance of the values of an output over samples and
    positions: in one dimension, the root mean squared difference of the sorted values.

    Args:
        student, teacher: [N, K, ...] or [N], of one shape.

    Returns:
        A scalar, at least 0, differentiable in `student`.

    Source: ours. A pseudo-gradient passes weights only, so that nothing else teaches the adapter its biases, or how
    large its weights are.
    """
    s_KM, t_KM = _sorted(student), _sorted(teacher)
    return ((s_KM - t_KM).square().mean(1) / (t_KM.var(1, correction=0) + 1e-6)).mean()


def _sorted(output: Tensor) -> Tensor:
    flat_KM = output.transpose(0, 1).flatten(1) if output.ndim > 1 else output[None]
    return flat_KM.sort(dim=1).values


def directions(output: Tensor, generator: torch.Generator) -> Tensor:
    """Random unit vectors in the space of outputs, one a sample: G_y. Shaped like `output`."""
    random = onto(torch.randn(output.shape, generator=generator), output.device).to(output)
    unit: Tensor = random / random.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, *[1] * (output.ndim - 1))
    return unit


def input_gradient(output: Tensor, features: Tensor, direction: Tensor, *, create_graph: bool) -> Tensor:
    """d<G_y, y>/dx for every sample.

    Args:
        output: y [N, ...], a function of `features` that does not mix samples.
        features: x [N, ...], requires grad.
        direction: G_y, shaped like `output`.
        create_graph: keep the graph of the gradient, so that it can be differentiated (double backward).
    """
    (gradient,) = torch.autograd.grad((output * direction).sum(), features, create_graph=create_graph)
    return gradient
