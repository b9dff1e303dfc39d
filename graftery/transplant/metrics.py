"""How good a net's outputs are, by what they mean: pure functions of outputs and labels.

Shapes: n samples, K outputs, P pixels, L classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from graftery.spec.labels import IGNORED
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import ONE_CLASS


def decide(logits: Tensor) -> Tensor:
    """The class of each sample or pixel: [n, K, ...] to int64 [n, ...]. One logit is held against zero."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def confusion(decided: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts [L, L] of samples: row is the label, column the decision. 255 is a class as any other: pixels are counted by `tallies`."""
    decided, labels = decided.flatten(), labels.flatten().long()
    return torch.bincount(labels * classes + decided, minlength=classes**2).view(classes, classes)


def classification(logits_nK: Tensor, labels_n: Tensor) -> dict[str, float]:
    """`accuracy`, `balanced_accuracy` (mean recall of the classes that occur) and, for one logit, `auc`."""
    counts_LL = confusion(decide(logits_nK), labels_n, max(2, logits_nK.shape[1])).double()
    found = {name: float(value) for name, value in recalls(counts_LL.diagonal(), counts_LL.sum(1)).items()}
    if logits_nK.shape[1] == 1 and 0 < int(labels_n.sum()) < len(labels_n):
        found["auc"] = auc(logits_nK[:, 0], labels_n)
    return found


def auc(scores_n: Tensor, labels_n: Tensor) -> float:
    """Probability that a positive scores above a negative, ties counted half."""
    positive, negative = scores_n[labels_n > 0.5].double(), scores_n[labels_n <= 0.5].double().sort().values
    below = torch.searchsorted(negative, positive, side="left") + torch.searchsorted(negative, positive, side="right")
    return float(below.double().mean() / (2 * len(negative)))


def recalls(hit_L: Tensor, total_L: Tensor) -> dict[str, Tensor]:
    """`accuracy` and `balanced_accuracy` from how many samples of each class [..., L] were decided rightly, of how many."""
    return {"accuracy": hit_L.sum(-1) / total_L.sum(-1), "balanced_accuracy": _mean_over_present(hit_L, total_L)}


def tallies(decided_nHW: Tensor, labels_nHW: Tensor, classes: int) -> Tensor:
    """Pixels of each image by class [n, 3, L]: decided rightly, labelled so, decided so; label 255 counts for nothing."""
    labels_nP, decided_nP = labels_nHW.flatten(1).long(), decided_nHW.flatten(1)
    known_nP, image_n1 = labels_nP != IGNORED, torch.arange(len(labels_nP), device=labels_nP.device)[:, None]

    def by_class(ids_nP: Tensor, counted_nP: Tensor) -> Tensor:
        places = (image_n1 * classes + ids_nP)[counted_nP]
        return torch.bincount(places, minlength=len(labels_nP) * classes).view(-1, classes)

    right_nP = known_nP & (labels_nP == decided_nP)
    return torch.stack(
        [by_class(labels_nP, right_nP), by_class(labels_nP, known_nP), by_class(decided_nP, known_nP)], 1
    )


def segmentation(tallies_3L: Tensor) -> dict[str, float]:
    """`iou` (of the positive class where there are two, else the mean of those that occur) and `pixel_accuracy`."""
    return {name: float(value) for name, value in overlaps(*tallies_3L.double().unbind(0)).items()}


def overlaps(hit_L: Tensor, labelled_L: Tensor, decided_L: Tensor) -> dict[str, Tensor]:
    """`segmentation` of pixels by class [..., L]: decided rightly, labelled so, decided so."""
    union_L = labelled_L + decided_L - hit_L
    binary = hit_L.shape[-1] == 2
    iou = hit_L[..., 1] / union_L[..., 1].clamp_min(1) if binary else _mean_over_present(hit_L, union_L)
    return {"iou": iou, "pixel_accuracy": hit_L.sum(-1) / labelled_L.sum(-1).clamp_min(1)}


def regression(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """`mse`, `mae` and `r2`: 1 - mse over the labels' variance, as a mean over the outputs whose labels vary; left out where none does."""
    outputs, labels = outputs.double(), labels.double().view_as(outputs)
    error_nKP, labels_nKP = by_output(outputs - labels), by_output(labels)
    found = {"mse": float(error_nKP.square().mean()), "mae": float(error_nKP.abs().mean())}
    if bool((varied_K := varied(labels_nKP)).any()):
        variance_K = (labels_nKP - labels_nKP.mean(0)).square().mean((0, 2))
        found["r2"] = float((1 - error_nKP.square().mean((0, 2)) / variance_K)[varied_K].mean())
    return found


def by_output(values: Tensor) -> Tensor:
    """Values [n, K, ...] or [n] as [n, K, P]."""
    return values.reshape(len(values), values.shape[1] if values.ndim > 1 else 1, -1)


def varied(labels_nKP: Tensor) -> Tensor:
    """For which of the K outputs the labels are not the same for all samples."""
    return (labels_nKP != labels_nKP[:1]).any(2).any(0)


def kappa(ours: Tensor, theirs: Tensor) -> float | None:
    """Cohen's kappa of two decisions: 1 full agreement, 0 what chance would give.

    Args:
        ours, theirs: classes, int64 of one shape.

    Returns:
        None where (nearly) all of theirs are of one class: whoever always says so agrees with them, and nothing was compared.
    """
    if largest_share(theirs) >= ONE_CLASS:
        return None
    classes = int(max(ours.max(), theirs.max())) + 1
    joint_LL = confusion(ours, theirs, max(2, classes)).double() / ours.numel()
    chance = float(joint_LL.sum(0) @ joint_LL.sum(1))
    observed = float(joint_LL.diagonal().sum())
    return (observed - chance) / max(1 - chance, 1e-12)


def largest_share(decided: Tensor) -> float:
    """The share of the class that is decided most often."""
    return float(torch.bincount(decided.flatten()).max()) / decided.numel()


def of_outputs(outputs: Tensor, labels: Tensor, semantics: Semantics) -> dict[str, float]:
    """The metrics of whole-set outputs for classification and regression."""
    return classification(outputs, labels) if semantics == "classification" else regression(outputs, labels)


def _mean_over_present(hit_L: Tensor, total_L: Tensor) -> Tensor:
    present_L = total_L > 0
    mean: Tensor = (hit_L / total_L.clamp_min(1)).mul(present_L).sum(-1) / present_L.sum(-1)
    return mean
