"""Measuring nets on labelled samples, and how far two nets agree on noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from graftery.data.samples import SampleSet
from graftery.errors import SamplesRefused
from graftery.module.samples import label_facts
from graftery.nn.pieces import in_pieces
from graftery.spec import labels
from graftery.spec.manifest import OutputSpec, Semantics
from graftery.spec.recipes import BOOTSTRAP_LEVEL, BOOTSTRAP_RESAMPLES
from graftery.transplant import metrics
from graftery.transplant.intervals import intervals, resampled

BATCH = 256
"""Samples that go through a net at once, at most."""
BATCH_VALUES = 2**21
"""Numbers in them, at most: a few large images take the memory of many small ones."""


@torch.no_grad()
def evaluate(
    net: nn.Module, samples: SampleSet, meaning: OutputSpec, device: str | torch.device = "cpu"
) -> dict[str, float]:
    """Metrics of a net on labelled samples.

    Args:
        net: in evaluation mode, [n, ...] to one output.
        samples: with labels.
        meaning: the output's spec; its semantics chooses the metrics.

    Returns:
        classification: `accuracy`, `balanced_accuracy`, with one logit `auc`; segmentation: `iou`, `pixel_accuracy`;
        regression: `mse`, `mae`, `r2` (of several outputs their mean; none where no label varies).

    Raises:
        SamplesRefused: `samples_invalid`; no labels, or labels that do not fit the output.
    """
    y = _labels(samples, meaning)
    return _metrics(_outputs(net, samples.x, y, meaning.semantics, device=device), y, meaning.semantics)


@torch.no_grad()
def judge(
    nets: Mapping[str, nn.Module | None],
    samples: SampleSet,
    meaning: OutputSpec,
    *,
    seed: int,
    device: str | torch.device = "cpu",
    pair: tuple[str, str] = ("adapter", "teacher"),
) -> dict[str, Any]:
    """`evaluate` of several nets on the same samples, with bootstrap intervals.

    Args:
        nets: by name; None: there is no such net.
        seed: of the resamples.
        pair: the two nets whose difference is told, too.

    Returns:
        For each NAME its metrics, and as `NAME_interval` the [low, high] of each metric; `ONE_minus_OTHER_interval`,
        the same for the paired difference; None where there is no such net. `evaluated`: `samples`, `resamples` and
        `level`.

    Raises:
        SamplesRefused: as `evaluate` does.
    """
    y, semantics = _labels(samples, meaning), meaning.semantics
    found: dict[str, Any] = dict.fromkeys(nets)
    values: dict[str, dict[str, Tensor]] = {}
    for name, net in nets.items():
        if net is not None:
            outputs = _outputs(net, samples.x, y, semantics, device=device)
            found[name], values[name] = (
                _metrics(outputs, y, semantics),
                resampled(outputs, y, semantics, seed),
            )
    one, other = pair
    difference = f"{one}_minus_{other}"
    if {one, other} <= values.keys():
        values[difference] = {name: value - values[other][name] for name, value in values[one].items()}
    wanted = [*nets, difference]
    ranges = {f"{name}_interval": intervals(values[name]) if name in values else None for name in wanted}
    how = {"samples": len(samples), "resamples": BOOTSTRAP_RESAMPLES, "level": BOOTSTRAP_LEVEL}
    return {**found, **ranges, "evaluated": how}


def _labels(samples: SampleSet, meaning: OutputSpec) -> Tensor:
    check_labels(samples, meaning)
    if samples.y is None:
        raise SamplesRefused("the samples to measure on have no labels", code="samples_missing")
    return samples.y


def _outputs(net: nn.Module, x: Tensor, y: Tensor, semantics: Semantics, *, device: str | torch.device) -> Tensor:
    """The net's outputs [n, ...]; for segmentation, which would fill the memory, tallies of its pixels [n, 3, L]."""
    net, batch = net.to(device), max(1, min(BATCH, BATCH_VALUES // max(1, x[0].numel())))
    outputs: list[Tensor] = []
    for x_batch, y_batch in zip(torch.split(x, batch), torch.split(y, batch), strict=True):
        logits = net(x_batch.to(device)).cpu()
        if semantics == "segmentation":
            check_pixels(y_batch, logits)
            logits = metrics.tallies(metrics.decide(logits), y_batch, max(2, logits.shape[1]))
        outputs.append(logits)
    return torch.cat(outputs)


def _metrics(outputs: Tensor, y: Tensor, semantics: Semantics) -> dict[str, float]:
    if semantics == "segmentation":
        return metrics.segmentation(outputs.sum(0))
    return metrics.of_outputs(outputs, y, semantics)


def check_labels(samples: SampleSet, meaning: OutputSpec, what: str = "the samples") -> None:
    """Refuse labels that do not fit an output of this meaning.

    Raises:
        SamplesRefused: `samples_invalid`.
    """
    if samples.y is not None:
        labels.check_labels(tuple(samples.y.shape), label_facts(samples.y), meaning, what)


def check_pixels(masks: Tensor, outputs: Tensor, what: str = "the samples", whose: str = "the output") -> None:
    """Refuse masks [n, H, W], or values [n, K, H, W], of another resolution than that of outputs [N, K, H, W].

    Raises:
        SamplesRefused: `samples_invalid`.
    """
    wanted = outputs.shape[outputs.ndim - masks.ndim + 1 :]
    if wanted != masks.shape[1:]:
        raise SamplesRefused(
            f"the labels of {what} are of {list(masks.shape[1:])} pixels, {whose} of {list(wanted)}",
            hint="resize the labels to the output",
        )


@torch.no_grad()
def agreement(student: nn.Module, teacher: nn.Module, features: Tensor) -> dict[str, float | str | None]:
    """How often student and teacher decide alike on features of noise, beyond chance: a flag, not an accuracy.

    Args:
        student, teacher: features [n, ...] to logits [n, K].

    Returns:
        `kappa` in [-1, 1]; `count`, the number of features. Where the teacher decides (nearly) all of them alike, `kappa` is
        None, and `reason` says so.

    Source: ours. How far it goes with accuracy is on the pages of the benchmark (docs/results); on segmentation it said
    nothing, and is not shown.
    """
    ours, theirs = (metrics.decide(in_pieces(net, features)) for net in (student, teacher))
    found: dict[str, float | str | None] = {
        "kappa": metrics.kappa(ours.cpu(), theirs.cpu()),
        "count": float(len(features)),
    }
    if found["kappa"] is None:
        share = metrics.largest_share(theirs)
        found["reason"] = f"the teacher decides {share:.1%} of the noise alike: there is nothing to compare"
    return found
