from __future__ import annotations

import pytest
import torch
from torch import nn

from graftery.data import SampleSet
from graftery.errors import SamplesRefused
from graftery.spec.manifest import OutputSpec, Semantics
from graftery.transplant import evaluate
from graftery.transplant.evaluation import agreement, judge


def _meaning(semantics: Semantics, *shape: int | str) -> OutputSpec:
    return OutputSpec(dtype="float32", shape=("N", *shape), semantics=semantics)


class Echo(nn.Module):
    """Gives back its input."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.rows.append(len(x))
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
    monkeypatch.setattr("graftery.transplant.evaluation.BATCH_VALUES", 60)
    net = Echo()
    assert evaluate(net, samples, _meaning(semantics, *shape)) == whole
    assert max(net.rows) == min(7, 60 // x[0].numel()), "a few large samples take the memory of many small ones"


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
        (torch.zeros(4, 3), _meaning("regression", 2)),
        (torch.zeros(4, 3, 2), _meaning("segmentation", 1, 2, 2)),
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
    by_chance = agreement(one, other, features)["kappa"]
    assert isinstance(by_chance, float) and abs(by_chance) < 0.1


def test_a_teacher_that_decides_all_noise_alike_says_nothing_of_agreement() -> None:
    always_no = nn.Linear(4, 1)
    nn.init.zeros_(always_no.weight)
    nn.init.constant_(always_no.bias, -9.0)
    found = agreement(always_no, always_no, torch.randn(64, 4))
    assert (found["kappa"], found["count"]) == (None, 64.0)
    assert "100.0% of the noise alike" in str(found["reason"])


def test_nets_are_judged_on_the_same_resamples() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 1)
    samples = SampleSet(x, (x[:, 0] + 0.5 * torch.randn(300) > 0).long())
    nets = {"adapter": Echo(), "identity": None, "teacher": Echo()}
    found = judge(nets, samples, _meaning("classification", 1), seed=1)
    assert found["adapter"] == found["teacher"] == evaluate(Echo(), samples, _meaning("classification", 1))
    assert found["identity"] is found["identity_interval"] is None
    assert found["adapter_interval"].keys() == found["adapter"].keys()
    for name, (low, high) in found["adapter_interval"].items():
        assert low < found["adapter"][name] < high < low + 0.2
    assert set(map(tuple, found["adapter_minus_teacher_interval"].values())) == {(0.0, 0.0)}
    assert found["evaluated"] == {"samples": 300, "resamples": 1000, "level": 0.95}


def test_the_paired_difference_is_narrower_than_the_two_it_is_of() -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 1)
    samples = SampleSet(x, (x[:, 0] + 0.5 * torch.randn(300) > 0).long())
    shifted = nn.Linear(1, 1)
    with torch.no_grad():
        shifted.weight.fill_(1.0)
        shifted.bias.fill_(0.1)
    found = judge({"adapter": shifted, "teacher": Echo()}, samples, _meaning("classification", 1), seed=1)
    widths = {name: found[f"{name}_interval"]["accuracy"] for name in ("adapter", "teacher", "adapter_minus_teacher")}
    low, high = widths.pop("adapter_minus_teacher")
    assert low <= found["adapter"]["accuracy"] - found["teacher"]["accuracy"] <= high
    assert all(high - low < 0.7 * (other[1] - other[0]) for other in widths.values())


def test_no_teacher_no_difference() -> None:
    samples = SampleSet(torch.randn(20, 2), torch.arange(20) % 2)
    found = judge({"adapter": Echo(), "teacher": None}, samples, _meaning("classification", 2), seed=0)
    assert found["adapter_minus_teacher_interval"] is found["teacher_interval"] is None


def test_labels_of_another_size_than_the_output_are_refused() -> None:
    samples = SampleSet(torch.zeros(4, 1, 4, 4), torch.zeros(4, 3, 3))
    with pytest.raises(SamplesRefused, match=r"\[3, 3\] pixels"):
        evaluate(Echo(), samples, _meaning("segmentation", 1, "H", "W"))
