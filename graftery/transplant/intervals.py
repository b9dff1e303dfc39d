"""Bootstrap intervals: where a metric would lie with other samples of the same kind.

Shapes: R resamples (a block of them), n samples, L classes, K outputs of P numbers of a regression.
Source: Efron and Tibshirani 1993, the percentile interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from graftery.data.streams import generator
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import BOOTSTRAP_LEVEL, BOOTSTRAP_RESAMPLES
from graftery.transplant import metrics

_BLOCK = 2**22
"""Draws that are held in memory at once."""


def resampled(outputs: Tensor, labels: Tensor, semantics: Semantics, seed: int) -> dict[str, Tensor]:
    """Each metric on resamples of the samples, drawn with replacement.

    Two nets that are measured on the same samples with the same seed are resampled alike: the difference of their
    values, entry by entry, is the paired difference.

    Args:
        outputs: classification, logits [n, K]; segmentation, tallies [n, 3, L]; regression, values [n, ...].
        labels: of the samples, [n, ...]; segmentation has them in its tallies.
        semantics: chooses the metrics.
        seed: the resamples are a function of it and of n.

    Returns:
        For each metric of `evaluate` its values [BOOTSTRAP_RESAMPLES], float64; NaN where a resample has none.
    """
    of = {"classification": _classification, "segmentation": _segmentation}.get(semantics, _regression)
    blocks = [of(weights_Rn, outputs, labels) for weights_Rn in _weights(len(outputs), seed)]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def intervals(values: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """The central BOOTSTRAP_LEVEL of each metric's values: [low, high]; a metric that no resample has is left out."""
    tail = (1 - BOOTSTRAP_LEVEL) / 2
    ends = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    known = {name: value[~value.isnan()] for name, value in values.items()}
    return {name: torch.quantile(value, ends).tolist() for name, value in known.items() if len(value)}


def _weights(count: int, seed: int) -> Iterator[Tensor]:
    """How often each sample is in each resample [R, n], in blocks whose size depends on n alone."""
    size = max(1, _BLOCK // count)
    for block, start in enumerate(range(0, BOOTSTRAP_RESAMPLES, size)):
        rows = min(size, BOOTSTRAP_RESAMPLES - start)
        drawn_Rn = torch.randint(count, (rows, count), generator=generator(seed, "bootstrap", block))
        drawn_Rn += torch.arange(rows)[:, None] * count
        yield torch.bincount(drawn_Rn.flatten(), minlength=rows * count).view(rows, count).float()


def _classification(weights_Rn: Tensor, logits_nK: Tensor, labels_n: Tensor) -> dict[str, Tensor]:
    labels_n = labels_n.long()
    of_label_nL = torch.nn.functional.one_hot(labels_n, max(2, logits_nK.shape[1])).float()
    hit_nL = of_label_nL * (metrics.decide(logits_nK) == labels_n)[:, None]
    # Sums of counts: exact in float32 up to 2^24 samples.
    found = metrics.recalls((weights_Rn @ hit_nL).double(), (weights_Rn @ of_label_nL).double())
    if logits_nK.shape[1] == 1 and 0 < int(labels_n.sum()) < len(labels_n):
        found["auc"] = _auc(weights_Rn, logits_nK[:, 0], labels_n > 0)
    return found


def _auc(weights_Rn: Tensor, scores_n: Tensor, positive_n: Tensor) -> Tensor:
    """`metrics.auc` of each resample [R], from one sort of the scores; NaN where a resample has one class only."""
    scores_n, order_n = scores_n.sort()
    weights_Rn, positive_n = weights_Rn[:, order_n].double(), positive_n[order_n]
    negatives_Rn = torch.nn.functional.pad((weights_Rn * ~positive_n).cumsum(1), (1, 0))
    below_n, upto_n = (torch.searchsorted(scores_n, scores_n, side=side) for side in ("left", "right"))
    passed_Rn = negatives_Rn[:, below_n] + negatives_Rn[:, upto_n]
    positives_R = (weights_Rn * positive_n).sum(1)
    wins_R = (weights_Rn * positive_n * passed_Rn).sum(1) / 2
    return wins_R / (positives_R * negatives_Rn[:, -1])


def _segmentation(weights_Rn: Tensor, tallies_n3L: Tensor, _: Tensor) -> dict[str, Tensor]:
    summed_R3L = (weights_Rn.double() @ tallies_n3L.double().flatten(1)).view(-1, *tallies_n3L.shape[1:])
    found = metrics.overlaps(*summed_R3L.unbind(1))
    if (
        tallies_n3L.shape[2] == 2
    ):  # Without a pixel of the class, in labels and decisions, there is nothing that overlaps.
        found["iou"] = found["iou"].where(summed_R3L[:, 1:, 1].sum(1) > 0, torch.nan)
    return found


def _regression(weights_Rn: Tensor, outputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    labels_nKP = metrics.by_output(labels.double())
    error_nKP = metrics.by_output(outputs.double().view_as(labels)) - labels_nKP
    varied_K = metrics.varied(labels_nKP)
    labels_nKP = labels_nKP - labels_nKP.mean(0)  # about zero, so that the variance below loses no digits
    weights_Rn = weights_Rn.double() / len(labels)
    mse_RK, square_RK = weights_Rn @ error_nKP.square().mean(2), weights_Rn @ labels_nKP.square().mean(2)
    mean_RKP = (weights_Rn @ labels_nKP.flatten(1)).view(-1, *labels_nKP.shape[1:])
    variance_RK = square_RK - mean_RKP.square().mean(2)
    # A resample may be of one sample, drawn again and again.
    varied_RK = (variance_RK > 1e-12 * labels_nKP.square().mean((0, 2))) & varied_K
    r2_RK = (1 - mse_RK / variance_RK).where(varied_RK, torch.nan)
    return {"mse": mse_RK.mean(1), "mae": weights_Rn @ error_nKP.abs().mean((1, 2)), "r2": r2_RK.nanmean(1)}
