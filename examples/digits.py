"""The 1797 handwritten digits of scikit-learn as a world of teams: each has a net that answers "is it digit c?".

A generic net knows some digits: each has its own category module f, and all share one task module gS. A teacher knows
one other digit: f under its own gT. A transplant joins the teacher's f to gS.

Images are 8x8, values 0 to 16. Splits and seeds are fixed; test digits are never used to choose anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.data import SampleSet
from graftery.data.augment import shift
from graftery.spec.manifest import Preprocessing

Split = Literal["train", "validation", "test"]
PREPROCESSING = Preprocessing(mean=(0.3,), std=(0.38,), colour_order="grey")
TARGETS = (3, 8)
"""The digits whose transplants are reported."""
GENERIC = (0, 1, 2, 4)
"""The digits that the generic net knows: the four lowest that are no targets."""
CUT = "category"
"""The layer at which the nets are cut."""
SIZES = {"train": 900, "validation": 397, "test": 500}
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 400, 64, 2e-3, 1e-4
"""Of the nets' training: Adam, cosine to zero; BATCH: rows of each digit."""


def images(split: Split) -> tuple[Tensor, Tensor]:
    """Preprocessed images [n, 1, 8, 8] and digits int64 [n] of a split."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(20260101))
    start = {"train": 0, "validation": SIZES["train"], "test": SIZES["train"] + SIZES["validation"]}[split]
    rows = order[start : start + SIZES[split]]
    x = torch.as_tensor(data.images, dtype=torch.float32)[rows, None] / 16
    return (x - PREPROCESSING.mean[0]) / PREPROCESSING.std[0], torch.as_tensor(data.target)[rows].long()


def one_against_rest(digit: int, split: Split) -> SampleSet:
    """Samples labelled 1 where they show the digit, else 0."""
    x, digits = images(split)
    return SampleSet(x, (digits == digit).long())


def _block(source: int, target: int) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


def category_module() -> nn.Sequential:
    """f: images [N, 1, 8, 8] to features [N, 16, 4, 4]: the lower half of the convolutions."""
    return nn.Sequential(*_block(1, 16), *_block(16, 16), nn.MaxPool2d(2))


def task_module() -> nn.Sequential:
    """gT or gS: features [N, 16, 4, 4] to one logit [N, 1], above zero for yes."""
    return nn.Sequential(*_block(16, 32), *_block(32, 32), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 1))


class Net(nn.Module):
    """A whole net, task(category(x))."""

    def __init__(self, category: nn.Module, task: nn.Module) -> None:
        super().__init__()
        self.category = category
        self.task = task

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.task(self.category(x))
        return logits


@dataclass(frozen=True)
class Generic:
    """A generic net: several category modules under one task module."""

    categories: dict[int, nn.Module]
    task: nn.Module

    def net(self, digit: int) -> Net:
        return Net(self.categories[digit], self.task)


def train_generic(digits: tuple[int, ...] = GENERIC, *, seed: int = 0, steps: int = STEPS) -> Generic:
    """Train a category module for each digit and the task module that they share."""
    torch.manual_seed(seed)
    generic = Generic({digit: category_module() for digit in digits}, task_module())
    x, labels = images("train")
    parameters = [*generic.task.parameters(), *(p for f in generic.categories.values() for p in f.parameters())]

    def loss() -> Tensor:
        drawn = [_balanced(labels == digit) for digit in digits]
        features = [generic.categories[digit](_shift(x[rows])) for digit, rows in zip(digits, drawn, strict=True)]
        # One pass for all, so that the batch norms of gS see the mixture.
        logits = generic.task(torch.cat(features))[:, 0]
        wanted = torch.cat([labels[rows] == digit for digit, rows in zip(digits, drawn, strict=True)])
        return F.binary_cross_entropy_with_logits(logits, wanted.float())

    _adam(parameters, loss, steps)
    for net in (generic.task, *generic.categories.values()):
        net.eval()
    return generic


def train_teacher(digit: int, *, seed: int = 0, steps: int = STEPS) -> Net:
    """Train one net for "is it this digit?"."""
    generic = train_generic((digit,), seed=1_000 + 10 * seed + digit, steps=steps)
    return generic.net(digit)


def _balanced(positive: Tensor, size: int = BATCH) -> Tensor:
    """Rows of a batch, half of them positive."""
    weights = torch.where(positive, 1 / positive.sum(), 1 / (~positive).sum())
    return torch.multinomial(weights, size, replacement=True)


def _shift(x: Tensor) -> Tensor:
    """Each image moved by up to one pixel."""
    return shift(x, torch.randint(-1, 2, (len(x), 2)))


def _adam(parameters: list[nn.Parameter], loss: Callable[[], Tensor], steps: int) -> None:
    adam = torch.optim.Adam(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        adam.zero_grad()
        loss().backward()
        adam.step()
        schedule.step()
