from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.data import SampleSet
from graftery.errors import SamplesRefused
from graftery.spec.manifest import OutputSpec, Semantics
from graftery.transplant import evaluate
from graftery.transplant.evaluation import agreement


def _meaning(semantics: Semantics, *shape: int | str) -> OutputSpec:
    return OutputSpec(dtype="float32", shape=("N", *shape), semantics=semantics)


class Echo(nn.Module):
    """Gives back its input."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_each_meaning_has_its_metrics() -> None:
    logits = torch.randn(300, 1)
    found = evaluate(Echo(), SampleSet(logits, (logits[:, 0] > 0).long()), _meaning("classification", 1))
    assert found == {"accuracy": 1.0, "balanced_accuracy": 1.0, "auc": 1.0}
    values = torch.randn(300, 2)
    assert evaluate(Echo(), SampleSet(values, values), _meaning("regression", 2)) == {"mse": 0, "mae": 0, "r2": 1}
    pixels = torch.randn(300, 1, 4, 4)
    labels = (pixels[:, 0] > 0).long()
    labels[0] = 255
    found = evaluate(Echo(), SampleSet(pixels, labels), _meaning("segmentation", 1, "H", "W"))
    assert found == {"iou": 1.0, "pixel_accuracy": 1.0}


@pytest.mark.parametrize("semantics, shape", [("classification", (3,)), ("segmentation", (3, 2, 2))])
def test_the_batch_size_does_not_show(
    semantics: Semantics, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(50, *shape)
    samples = SampleSet(x, torch.randint(0, 3, (50, *shape[1:])))
    whole = evaluate(Echo(), samples, _meaning(semantics, *shape))
    monkeypatch.setattr("graftery.transplant.evaluation.BATCH", 7)
    assert evaluate(Echo(), samples, _meaning(semantics, *shape)) == whole


@pytest.mark.parametrize(
    "y, meaning",
    [
        (torch.zeros(4, 1), _meaning("classification", 1)),
        (torch.full((4,), 2), _meaning("classification", 1)),
        (torch.full((4,), -1), _meaning("classification", 3)),
        (torch.full((4,), 3), _meaning("classification", 3)),
        (torch.full((4,), 0.5), _meaning("classification", 1)),
        (torch.full((4,), 255), _meaning("classification", 3)),
        (torch.zeros(4), _meaning("segmentation", 1, 2, 2)),
        (torch.full((4, 2, 2), 254), _meaning("segmentation", 1, 2, 2)),
        (torch.zeros(4), _meaning("regression", 2)),
        (torch.zeros(4, 2), _meaning("feature", 2)),
    ],
)
def test_labels_that_do_not_fit_are_refused(y: torch.Tensor, meaning: OutputSpec) -> None:
    with pytest.raises(SamplesRefused) as caught:
        evaluate(Echo(), SampleSet(torch.zeros(4, 2), y), meaning)
    assert caught.value.code == "samples_invalid"


def test_without_labels_nothing_is_measured() -> None:
    with pytest.raises(SamplesRefused) as caught:
        evaluate(Echo(), SampleSet(torch.zeros(4, 2)), _meaning("classification", 2))
    assert caught.value.code == "samples_missing"


def test_agreement_is_full_with_oneself_and_none_with_chance() -> None:
    torch.manual_seed(0)
    features = torch.randn(2000, 4)
    one, other = (nn.Linear(4, 1, bias=False) for _ in range(2))
    assert agreement(one, one, features) == {"kappa": 1.0, "count": 2000}
    with torch.no_grad():
        other.weight -= (other.weight @ one.weight.T) / one.weight.square().sum() * one.weight
    assert abs(agreement(one, other, features)["kappa"]) < 0.1
