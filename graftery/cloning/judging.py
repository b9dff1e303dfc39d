"""How good a clone is, and what it costs.

Shapes: n images, K the target's classes, k the clone's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from graftery.cloning.attaching import attach
from graftery.cloning.taps import outputs
from graftery.data.samples import SampleSet
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X
from graftery.module.shapes import survey
from graftery.spec.cloning import classes_of
from graftery.spec.limits import Limits


def judge(
    source: ModuleFile,
    target: ModuleFile,
    clone: ModuleFile,
    *,
    masked: ModuleFile,
    wanted: Sequence[int],
    evaluate_on: SampleSet | None,
    source_evaluate_on: SampleSet | None,
) -> dict[str, Any]:
    """The metrics of a clone in its target.

    Args:
        masked: the localized source, with the logits of all its classes.
        wanted: indices of the source's classes.
        evaluate_on: labelled by the target's classes, then the wanted ones.
        source_evaluate_on: labelled by the source's classes.

    Returns:
        JSON. `added`: parameters and FLOPs, and their share of the target's. With samples, shares from 0 to 1:
        `original` (before the clone, `original_before`), `wanted`, `mean` of both, `changed` (original-class images whose
        predicted class is another one with the clone); `source_wanted`, `masked_wanted`, `source_unwanted` and
        `masked_unwanted`, the source's and the masked source's accuracy on its wanted and its other classes.
    """
    attached = attach(target, [clone])
    told: dict[str, Any] = {"added": added(target, attached)}
    if evaluate_on is not None and evaluate_on.y is not None:
        after = logits(attached, evaluate_on.x)
        # Its first logits are the target's own to the bit: the target is not run once more.
        told |= accuracies(after[:, : len(classes_of(target.manifest))], after, evaluate_on.y.long())
    if source_evaluate_on is not None and source_evaluate_on.y is not None:
        y = source_evaluate_on.y.long()
        told |= locality(logits(source, source_evaluate_on.x), logits(masked, source_evaluate_on.x), y, wanted)
    return told


def accuracies(before: Tensor, after: Tensor, y: Tensor) -> dict[str, float | None]:
    """Of original and wanted classes, and how much of the target's own answers changed.

    Args:
        before: the target's logits [n, K].
        after: with the clone, [n, K + k].
        y: int64 [n].
    """
    original = y < before.shape[1]
    right, was = (after.argmax(1) == y).float(), (before.argmax(1) == y).float()
    changed = (after.argmax(1) != before.argmax(1)).float()
    found = {
        "original": _mean(right[original]),
        "original_before": _mean(was[original]),
        "wanted": _mean(right[~original]),
        "changed": _mean(changed[original]),
    }
    both = [found["original"], found["wanted"]]
    return {**found, "mean": None if None in both else sum(value or 0.0 for value in both) / 2}


def locality(source: Tensor, masked: Tensor, y: Tensor, wanted: Sequence[int]) -> dict[str, float | None]:
    """Of the source and the masked source, the accuracy on the wanted and the other classes.

    Args:
        source, masked: logits [n, K_S].
        y: int64 [n].
        wanted: indices of the source's classes.
    """
    ours = torch.isin(y, torch.tensor(list(wanted)))
    told: dict[str, float | None] = {}
    for name, found in (("source", source), ("masked", masked)):
        right = (found.argmax(1) == y).float()
        told |= {f"{name}_wanted": _mean(right[ours]), f"{name}_unwanted": _mean(right[~ours])}
    return told


def added(target: ModuleFile, attached: ModuleFile) -> dict[str, float]:
    """Parameters and FLOPs a sample beyond the target's, and as a share of these."""
    counts = [_size(file) for file in (target, attached)]
    work = [_flops(file) for file in (target, attached)]
    return {
        "parameters": counts[1] - counts[0],
        "parameters_share": (counts[1] - counts[0]) / max(1, counts[0]),
        "flops": work[1] - work[0],
        "flops_share": (work[1] - work[0]) / max(1, work[0]),
    }


def logits(file: ModuleFile, x: Tensor) -> Tensor:
    """The one output of a net, [n, K], on the CPU."""
    return outputs(file, x.float(), torch.device("cpu"))


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def _size(file: ModuleFile) -> int:
    return sum(weight.numel() for weight in file.weights.values())


def _flops(file: ModuleFile) -> int:
    return survey(file.graph, file.weights, tuple(file.extras[PROBE_X].shape), Limits()).flops_per_sample
