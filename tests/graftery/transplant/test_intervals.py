from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor

from graftery.data.streams import generator
from graftery.spec.manifest import Semantics
from graftery.spec.recipes import BOOTSTRAP_RESAMPLES
from graftery.transplant import metrics
from graftery.transplant.intervals import intervals, resampled

SMALL = 40


def _classified(count: int, classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits with ties, and labels that they tell something about."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, max(2, classes), (count,), generator=random)
    logits = torch.randn(count, classes, generator=random)
    if classes == 1:
        logits += labels[:, None] - 0.5
    else:
        logits += torch.nn.functional.one_hot(labels, classes)
    return logits.round(decimals=1), labels


def _drawn(count: int, seed: int) -> Tensor:
    """The rows of each resample, as `resampled` draws them while they fit into one block."""
    return torch.randint(count, (BOOTSTRAP_RESAMPLES, count), generator=generator(seed, "bootstrap"))


@pytest.mark.parametrize("classes", [1, 3])
def test_each_value_is_the_metric_of_its_resample(classes: int) -> None:
    logits, labels = _classified(SMALL, classes)
    found = resampled(logits, labels, "classification", 5)
    for row in (0, 7, BOOTSTRAP_RESAMPLES - 1):
        index = _drawn(SMALL, 5)[row]
        wanted = metrics.classification(logits[index], labels[index])
        assert {name: float(value[row]) for name, value in found.items()} == pytest.approx(wanted)


@pytest.mark.parametrize("classes", [2, 4])
def test_segmentation_resamples_whole_images(classes: int) -> None:
    random = torch.Generator().manual_seed(1)
    decided, labels = (torch.randint(0, classes, (SMALL, 5, 5), generator=random) for _ in range(2))
    labels[:3] = 255
    tallies = metrics.tallies(decided, labels, classes)
    found = resampled(tallies, labels, "segmentation", 2)
    index = _drawn(SMALL, 2)[9]
    wanted = metrics.segmentation(metrics.tallies(decided[index], labels[index], classes).sum(0))
    assert {name: float(value[9]) for name, value in found.items()} == pytest.approx(wanted)


def test_regression_of_several_numbers() -> None:
    random = torch.Generator().manual_seed(2)
    labels = 1e8 + torch.randn(SMALL, 3, generator=random, dtype=torch.float64)
    outputs = labels + 0.3 * torch.randn(SMALL, 3, generator=random, dtype=torch.float64)
    found = resampled(outputs, labels, "regression", 0)
    index = _drawn(SMALL, 0)[4]
    wanted = metrics.regression(outputs[index], labels[index])
    assert {name: float(value[4]) for name, value in found.items()} == pytest.approx(wanted, rel=1e-6)


def test_regression_of_maps_and_of_outputs_whose_labels_do_not_vary() -> None:
    labels = torch.randn(SMALL, 2, 3, 3, generator=torch.Generator().manual_seed(3))
    labels[:, 1] = 0.1
    outputs = labels + torch.linspace(-1, 1, 2 * 9 * SMALL).view_as(labels)
    found, index = resampled(outputs, labels, "regression", 0), _drawn(SMALL, 0)[4]
    wanted = metrics.regression(outputs[index], labels[index])
    assert {name: float(value[4]) for name, value in found.items()} == pytest.approx(wanted, rel=1e-6)
    assert intervals(resampled(outputs[:, 1:], labels[:, 1:], "regression", 0)).keys() == {"mse", "mae"}


def test_an_interval_is_as_wide_as_the_binomial_says() -> None:
    labels = torch.arange(400) % 2
    logits = (labels.float() - 0.5)[:, None].clone()
    logits[:80] *= -1  # 80 of 400 are wrong
    low, high = intervals(resampled(logits, labels, "classification", 0))["accuracy"]
    spread = 1.96 * (0.8 * 0.2 / 400) ** 0.5
    assert (low, high) == pytest.approx((0.8 - spread, 0.8 + spread), abs=0.008)


def test_the_seed_decides_and_nets_on_the_same_samples_are_drawn_alike() -> None:
    logits, labels = _classified(SMALL, 1)
    one, again, other = (resampled(logits, labels, "classification", seed) for seed in (3, 3, 4))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["accuracy"], other["accuracy"])
    flipped = resampled(-logits, labels, "classification", 3)
    assert torch.allclose(one["auc"] + flipped["auc"], torch.ones(BOOTSTRAP_RESAMPLES, dtype=torch.float64))


def test_blocks_do_not_show_but_in_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = _classified(SMALL, 1)
    monkeypatch.setattr("graftery.transplant.intervals._BLOCK", SMALL * 300)
    found = resampled(logits, labels, "classification", 5)
    assert {len(value) for value in found.values()} == {BOOTSTRAP_RESAMPLES}
    assert not torch.equal(found["accuracy"][:300], found["accuracy"][300:600])
    first = torch.randint(SMALL, (300, SMALL), generator=generator(5, "bootstrap"))[2]
    assert float(found["accuracy"][2]) == pytest.approx(
        metrics.classification(logits[first], labels[first])["accuracy"]
    )


def test_resamples_of_one_class_have_no_auc_and_spoil_no_interval() -> None:
    logits, labels = torch.tensor([[1.0], [-1.0], [0.5]]), torch.tensor([1, 0, 1])
    values = resampled(logits, labels, "classification", 0)
    assert bool(values["auc"].isnan().any())
    assert intervals(values)["auc"] == [1.0, 1.0]
    assert intervals({"auc": torch.full((4,), torch.nan, dtype=torch.float64)}) == {}


def test_resamples_without_the_class_have_no_overlap_and_spoil_no_interval() -> None:
    labels = torch.zeros(3, 2, 2, dtype=torch.long)
    labels[0, 0, 0] = 1
    values = resampled(metrics.tallies(labels, labels, 2), labels, "segmentation", 0)
    assert bool(values["iou"].isnan().any())
    assert intervals(values)["iou"] == [1.0, 1.0]


def test_resamples_of_one_value_have_no_r2_and_spoil_no_interval() -> None:
    labels = torch.tensor([[1.0], [2.0], [4.0]])
    values = resampled(labels + 0.1, labels, "regression", 0)
    assert bool(values["r2"].isnan().any())
    low, high = intervals(values)["r2"]
    assert 0.9 < low <= high < 1


@pytest.mark.parametrize(("semantics", "classes"), [("classification", 1), ("classification", 10)])
def test_ten_thousand_samples_take_well_under_a_second(semantics: Semantics, classes: int) -> None:
    logits, labels = _classified(10_000, classes)
    began = time.process_time()
    resampled(logits, labels, semantics, 0)
    assert time.process_time() - began < 2  # a loop over resamples takes ten and more; quiet machines need 0.3
