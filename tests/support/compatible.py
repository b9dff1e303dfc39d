"""Two tasks on the digits with common classes, and small networks for them."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from graftery.compat import Design, Task
from graftery.data import SampleSet

A, B = (0, 1, 2, 3, 4, 5, 6), (3, 4, 5, 6, 7, 8, 9)
COMMON = {str(digit): (str(digit),) for digit in (3, 4, 5, 6)}


def block(source: int, target: int) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


class Net(nn.Module):
    """[N, 1, 8, 8] to logits; 16 channels at `lower`."""

    def __init__(self, logits: int, width: int = 16) -> None:
        super().__init__()
        self.lower = nn.Sequential(*block(1, 12), *block(12, width))
        self.upper = nn.Sequential(
            *block(width, 24), nn.MaxPool2d(2), *block(24, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.fc = nn.Linear(24, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.upper(self.lower(x)))
        return logits


DESIGN = Design(Net, "lower")


@cache
def images() -> tuple[Tensor, Tensor, Tensor]:
    """All digits: x [n, 1, 8, 8], their class, and whether they are for training."""
    digits = load_digits()
    x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    train = torch.rand(len(x), generator=torch.Generator().manual_seed(7)) < 0.7
    return x, torch.tensor(digits.target), train


def samples(classes: tuple[int, ...], *, train: bool, most: int = 10_000) -> SampleSet:
    x, target, trained = images()
    rows = (torch.isin(target, torch.tensor(classes)) & (trained if train else ~trained)).nonzero()[:most, 0]
    return SampleSet(x[rows], torch.tensor([classes.index(int(each)) for each in target[rows]]))


def task(
    name: str, classes: tuple[int, ...], *, most: int = 10_000, design: Design = DESIGN, test: bool = True
) -> Task:
    measured = samples(classes, train=False) if test else None
    return Task(name, tuple(map(str, classes)), samples(classes, train=True, most=most), design, measured)
