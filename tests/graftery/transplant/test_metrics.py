from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from graftery.transplant import metrics

seeds = st.integers(0, 10_000)


def _drawn(seed: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(60, classes, generator=random).round(decimals=1)
    return logits, torch.randint(0, max(2, classes), (60,), generator=random)


@settings(max_examples=25, deadline=None)
@given(seed=seeds, classes=st.sampled_from([1, 3]))
def test_classification_is_that_of_scikit_learn(seed: int, classes: int) -> None:
    logits, labels = _drawn(seed, classes)
    found, decided = metrics.classification(logits, labels), metrics.decide(logits)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, decided))
    assert found["balanced_accuracy"] == pytest.approx(reference.balanced_accuracy_score(labels, decided))
    if classes == 1:
        assert found["auc"] == pytest.approx(reference.roc_auc_score(labels, logits[:, 0]))
    else:
        assert "auc" not in found


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    one, other = (metrics.decide(_drawn(s, 3)[0]) for s in (seed, seed + 1))
    assert metrics.kappa(one, other) == pytest.approx(reference.cohen_kappa_score(one, other))


@pytest.mark.parametrize("others, known", [(0, False), (1, False), (2, True)])
def test_where_they_always_say_the_same_nothing_is_compared(others: int, known: bool) -> None:
    zeros = torch.zeros(150, dtype=torch.long)
    theirs = (torch.arange(150) < others).long()
    assert (metrics.kappa(theirs, theirs) == 1.0) == known
    assert (metrics.kappa(zeros, theirs) is not None) == known
    assert metrics.kappa(theirs + 3, theirs + 3) == (1.0 if known else None)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_regression_is_that_of_scikit_learn(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    outputs, labels = torch.randn(20, 3, generator=random), torch.randn(20, 3, generator=random)
    found = metrics.regression(outputs, labels)
    assert found["mse"] == pytest.approx(reference.mean_squared_error(labels, outputs))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(labels, outputs))
    wanted = reference.r2_score(labels, outputs, multioutput="uniform_average")
    assert found["r2"] == pytest.approx(wanted)


def test_outputs_whose_labels_do_not_vary_have_no_r2() -> None:
    labels = torch.randn(20, 2)
    labels[:, 1] = 0.1
    outputs = labels + 0.1 * torch.randn(20, 2)
    assert metrics.regression(outputs, labels)["r2"] == pytest.approx(
        metrics.regression(outputs[:, :1], labels[:, :1])["r2"]
    )
    assert metrics.regression(outputs[:, 1:], labels[:, 1:]).keys() == {"mse", "mae"}


def test_labels_of_a_regression_may_lack_the_last_dimension() -> None:
    outputs = torch.randn(20, 1)
    assert metrics.regression(outputs, outputs[:, 0])["mse"] == 0


@pytest.mark.parametrize("classes", [2, 4])
def test_iou_is_the_jaccard_score_and_ignored_pixels_do_not_count(classes: int) -> None:
    random = torch.Generator().manual_seed(0)
    decided, labels = (torch.randint(0, classes, (4, 5, 5), generator=random) for _ in range(2))
    labels[0, 0] = 255
    found = metrics.segmentation(metrics.tallies(decided, labels, classes).sum(0))
    known = labels.flatten() != 255
    average = "binary" if classes == 2 else "macro"
    wanted = reference.jaccard_score(labels.flatten()[known], decided.flatten()[known], average=average)
    assert found["iou"] == pytest.approx(wanted)
    assert found["pixel_accuracy"] == pytest.approx(float((decided == labels).flatten()[known].double().mean()))


def test_always_no_is_worth_nothing_when_balanced() -> None:
    labels = torch.tensor(np.arange(100) < 10).long()
    found = metrics.classification(-torch.ones(100, 1), labels)
    assert found["accuracy"] == pytest.approx(0.9)
    assert found["balanced_accuracy"] == 0.5
    assert found["auc"] == 0.5


def test_classes_that_do_not_occur_are_left_out() -> None:
    logits = torch.eye(4)[torch.tensor([0, 1, 1])]
    assert metrics.classification(logits, torch.tensor([0, 1, 0]))["balanced_accuracy"] == pytest.approx(0.75)


def test_an_ignored_pixel_is_no_hit_where_255_is_also_a_class() -> None:
    decided, labels = torch.tensor([[[255, 7]]]), torch.tensor([[[255, 7]]])
    assert metrics.tallies(decided, labels, 300).sum(2).tolist() == [[1, 1, 1]]


def test_the_class_255_counts_as_any_other() -> None:
    logits, labels = torch.zeros(8, 300), torch.tensor([255] * 6 + [0, 0])
    logits[:, 0] = 1
    assert metrics.classification(logits, labels)["accuracy"] == 0.25
    decided = torch.tensor([255, 255, 3, 4])
    assert metrics.kappa(decided, decided) == 1
