from __future__ import annotations

import pytest
import torch

from graftery.compat import Task
from graftery.compat.losses import NOT_COMMON
from graftery.compat.tasks import check_apart, check_common, check_shared, common_labels, overlap
from graftery.data import SampleSet
from graftery.errors import GrafteryError, RecipeRefused, SamplesRefused
from tests.support.compatible import COMMON, DESIGN, A, B, samples, task

X = torch.arange(6.0).view(6, 1)


def _task(train: SampleSet, classes: tuple[str, ...] = ("x", "y"), test: SampleSet | None = None) -> Task:
    return Task("t", classes, train, DESIGN, test)


@pytest.mark.parametrize(
    ("y", "classes", "says"),
    [
        (None, ("x", "y"), "has no labels"),
        (torch.tensor([0, 1, 2, 0, 0, 0]), ("x", "y"), "ids from 0 to 1"),
        (torch.tensor([0, 1, -1, 0, 0, 0]), ("x", "y"), "ids from 0 to 1"),
        (torch.rand(6), ("x", "y"), "ids from 0 to 1"),
        (torch.zeros(6, dtype=torch.int64), ("x", "y"), "one class only"),
        (torch.tensor([0, 1, 1, 0, 0, 0]), ("x",), "it needs two"),
        (torch.tensor([0, 1, 1, 0, 0, 0]), ("x", "x"), "each named once"),
    ],
)
def test_labels_that_are_not_of_the_tasks_classes_are_refused(
    y: torch.Tensor | None, classes: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SamplesRefused, match=says):
        _task(SampleSet(X, y), classes)


def test_images_alone_are_a_task_on_which_nothing_is_measured() -> None:
    images = _task(SampleSet(X), ())
    assert not images.labelled
    with pytest.raises(SamplesRefused, match="nothing can be measured") as refused:
        _task(SampleSet(X), (), SampleSet(X + 10, torch.tensor([0, 1, 0, 1, 0, 1])))
    assert refused.value.code == "samples_missing"
    with pytest.raises(SamplesRefused, match="it needs two"):
        _task(SampleSet(X, torch.tensor([0, 1, 0, 1, 0, 1])), ())


def test_images_that_are_trained_and_measured_on_are_refused() -> None:
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(SamplesRefused, match=r"2 images of t\.test are in t\.train") as refused:
        _task(SampleSet(X[:4], y[:4]), test=SampleSet(X[2:], y[2:]))
    assert refused.value.code == "samples_overlap"


def test_images_that_another_task_trains_on_are_refused() -> None:
    a = task("a", A)
    b = Task("b", tuple(map(str, A)), samples(A, train=False), DESIGN)
    with pytest.raises(SamplesRefused, match=r"of a\.test are in b\.train") as refused:
        check_apart([a, b])
    assert refused.value.code == "samples_overlap"


def test_two_tasks_of_one_name_are_refused() -> None:
    with pytest.raises(RecipeRefused, match="each name once"):
        check_apart([task("a", A), task("a", B)])


def test_an_image_counts_once_however_often_it_is_there() -> None:
    assert overlap(X[[0, 0, 1]], X[[0, 1, 1, 2]]) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_an_image_is_the_same_in_any_precision(dtype: torch.dtype) -> None:
    assert overlap(X, X.to(dtype)) == len(X)
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    with pytest.raises(SamplesRefused, match="6 images"):
        _task(SampleSet(X.to(dtype), y), test=SampleSet(X, y))


def test_common_labels_follow_the_map() -> None:
    named = {"car": ("automobile", "car"), "cat": ("cat",)}
    found = Task("t", ("dog", "car", "cat"), SampleSet(X, torch.tensor([0, 1, 2, 0, 1, 2])), DESIGN)
    assert common_labels(found, named).tolist() == [NOT_COMMON, 0, 1]


def test_a_task_with_one_common_class_is_refused() -> None:
    with pytest.raises(GrafteryError, match="has images of 1 of") as refused:
        check_common(task("c", (0, 1, 2, 3)), COMMON)
    assert refused.value.code == "common_classes"


@pytest.mark.parametrize(("classes", "logits"), [(("x", "y"), 3), (("x", "y", "z"), 1), (("x", "y", "z"), 2)])
def test_logits_are_one_for_each_class(classes: tuple[str, ...], logits: int) -> None:
    few = SampleSet(X, torch.tensor([0, 1, 0, 1, 0, 1]))
    with pytest.raises(RecipeRefused, match=f"but {logits} logits") as refused:
        Task("t", classes, few, DESIGN, logits=logits)
    assert refused.value.code == "recipe_invalid"
    assert Task("t", ("x", "y"), few, DESIGN, logits=1).outputs == 1


def test_a_common_class_without_images_does_not_count() -> None:
    named = _task(SampleSet(X, torch.tensor([0, 2, 0, 2, 0, 2])), ("3", "4", "other"))
    with pytest.raises(RecipeRefused, match="has images of 1 of") as refused:
        check_common(named, COMMON)
    assert refused.value.code == "common_classes"


def test_tasks_share_two_common_classes_with_some_other() -> None:
    y = torch.tensor([0, 1, 0, 1, 0, 1])
    tasks = [Task(name, tuple(name), SampleSet(X, y), DESIGN) for name in ("34", "43", "56")]
    check_shared(tasks[:1], COMMON)
    check_shared(tasks[:2], COMMON)
    with pytest.raises(RecipeRefused, match="task 56 shares fewer than two") as refused:
        check_shared(tasks, COMMON)
    assert refused.value.code == "common_classes"
