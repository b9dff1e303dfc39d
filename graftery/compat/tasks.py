"""What a network of a group is trained for, and what must be true of its images before it is.

Shapes: n images, K classes of the task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graftery.compat.losses import NOT_COMMON
from graftery.compat.splitting import Design
from graftery.data import SampleSet
from graftery.errors import RecipeRefused, SamplesRefused
from graftery.module.meaning import TURNS


@dataclass(frozen=True)
class Task:
    """A classification task, and how its network is built.

    Without classes and labels it is images alone: their feature extractor learns from RP, and no head is learned.

    Args:
        name: also that of the network's output.
        classes: K names, in the order of the logits; two names make one logit if `logits` is 1; none for images alone.
        train: preprocessed images with ids of these classes.
        design: builds the network; designs may differ between tasks.
        test: to measure on; None: nothing is measured.
        logits: of the head; by default K.

    Raises:
        SamplesRefused: `samples_invalid`, `samples_missing`, `samples_overlap`.
        RecipeRefused: `recipe_invalid`; logits that are not one for each class.
    """

    name: str
    classes: tuple[str, ...]
    train: SampleSet
    design: Design
    test: SampleSet | None = None
    logits: int | None = None

    def __post_init__(self) -> None:
        if self.labelled:
            self._check_labelled()
        elif self.test is not None:
            raise SamplesRefused(
                f"task {self.name} has no labels: no head is learned, and nothing can be measured on its test images",
                code="samples_missing",
                hint="measure another task's head on its feature extractor",
            )

    def _check_labelled(self) -> None:
        if len(set(self.classes)) < max(2, len(self.classes)):
            raise SamplesRefused(
                f"task {self.name} has the classes {list(self.classes)}: it needs two, each named once"
            )
        allowed = {len(self.classes)} | ({1} if len(self.classes) == 2 else set())
        if self.outputs not in allowed:
            raise RecipeRefused(f"task {self.name} has {len(self.classes)} classes, but {self.outputs} logits")
        for what, samples in (("train", self.train), ("test", self.test)):
            if samples is not None:
                _check_labels(f"{self.name}.{what}", samples, len(self.classes))
        if self.test is not None and (shared := overlap(self.train.x, self.test.x)):
            raise SamplesRefused(
                f"{shared} images of {self.name}.test are in {self.name}.train too",
                code="samples_overlap",
                hint="measure on images that no network was trained on",
            )

    @property
    def labelled(self) -> bool:
        """Whether there is anything but images."""
        return bool(self.classes) or self.train.y is not None

    @property
    def outputs(self) -> int:
        return (len(self.classes) or TURNS) if self.logits is None else self.logits


def check_apart(tasks: Sequence[Task]) -> None:
    """Refuse tasks of one name, and test images of one task that another one trains on: recombined they would be known.

    Raises:
        RecipeRefused, SamplesRefused: `samples_overlap`.
    """
    if len({task.name for task in tasks}) < len(tasks) or not tasks:
        raise RecipeRefused(f"the tasks are named {[task.name for task in tasks]}: one at least, each name once")
    known = {task.name: _fingerprints(task.train.x) for task in tasks}
    for task in tasks:
        seen = set() if task.test is None else _fingerprints(task.test.x)
        for name, trained in known.items():
            if shared := len(seen & trained):
                raise SamplesRefused(f"{shared} images of {task.name}.test are in {name}.train", code="samples_overlap")


def overlap(ours: Tensor, theirs: Tensor) -> int:
    """How many different images [n, ...] are in both, bit for bit as float32, which is what networks see."""
    return len(_fingerprints(ours) & _fingerprints(theirs))


def common_labels(task: Task, common: Mapping[str, Sequence[str]]) -> Tensor:
    """The common class of each class of the task: int64 [K], NOT_COMMON for none."""
    index = {name: at for at, names in enumerate(common.values()) for name in names}
    return torch.tensor([index.get(name, NOT_COMMON) for name in task.classes])


def check_common(task: Task, common: Mapping[str, Sequence[str]]) -> None:
    """Refuse a task with images of fewer than two of the common classes: there is nothing to tell apart.

    Raises:
        RecipeRefused: `common_classes`.
    """
    found = _seen(task, common)
    if len(found) < 2:
        raise RecipeRefused(
            f"DCC tells common classes apart, but task {task.name} has images of {len(found)} of {list(common)}",
            code="common_classes",
            hint=_COMMON_TO_ALL,
        )


def check_shared(tasks: Sequence[Task], common: Mapping[str, Sequence[str]]) -> None:
    """Refuse a task that shares fewer than two common classes with each of the others: they would learn nothing in common.

    Args:
        tasks: with labels, and images of two common classes; one alone is not refused.

    Raises:
        RecipeRefused: `common_classes`.
    """
    seen = {task.name: _seen(task, common) for task in tasks}
    for name, ours in seen.items():
        shared = [ours & theirs for other, theirs in seen.items() if other != name]
        if shared and max(map(len, shared)) < 2:
            raise RecipeRefused(
                f"DCC tells common classes apart, but task {name} shares fewer than two of {list(common)} with any other",
                code="common_classes",
                hint=_COMMON_TO_ALL,
            )


_COMMON_TO_ALL = "name classes that all tasks have, with each task's word for them, or leave DCC out"


def _seen(task: Task, common: Mapping[str, Sequence[str]]) -> set[int]:
    """The common classes that its images show."""
    assert task.train.y is not None  # noqa: S101 - of labelled tasks alone
    shown = common_labels(task, common)[task.train.y.long()]
    return set(shown[shown != NOT_COMMON].tolist())


def _check_labels(what: str, samples: SampleSet, classes: int) -> None:
    y = samples.y
    if y is None:
        raise SamplesRefused(
            f"{what} has no labels",
            code="samples_missing",
            hint="give them; or name no classes, and only a feature extractor is learned, where the group has RP",
        )
    if y.ndim != 1 or y.is_floating_point() or int(y.min()) < 0 or int(y.max()) >= classes:
        raise SamplesRefused(
            f"{what} has labels {y.dtype} {list(y.shape)}: ids from 0 to {classes - 1} are needed, [n]"
        )
    if len(torch.unique(y)) < 2:
        raise SamplesRefused(f"{what} has images of one class only")


def _fingerprints(x: Tensor) -> set[bytes]:
    rows = x.detach().cpu().float().contiguous().flatten(1).view(torch.uint8).numpy()
    return {hashlib.sha256(row.tobytes()).digest()[:16] for row in rows}
