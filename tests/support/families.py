"""Nets of four families for the digits, in two widths each: what transplants between families are tested with.

`wide` nets differ from the others in channels, stride, number of tokens and features, so that no two nets fit without an
adapter.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from examples import digits
from graftery.data.augment import shift
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning

Family = Literal["vgg", "resnet", "vit", "mlp"]
FAMILIES: tuple[Family, ...] = ("vgg", "resnet", "vit", "mlp")
STEPS = 200


def _block(source: int, target: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, stride, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


class Residual(nn.Module):
    """Two convolutions beside a shortcut, [N, C, H, W] to itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_block(width, width), *_block(width, width)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


class Attention(nn.Module):
    """A block of a vision transformer, [N, T, D] to itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(2, (2, -1)).transpose(1, 2) for part in self.project(self.before(x)).chunk(3, 2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x))


class Patches(nn.Module):
    """[N, 1, 8, 8] to tokens [N, T, D]; with a class token in front, T = cells + 1."""

    def __init__(self, side: int, width: int, *, class_token: bool) -> None:
        super().__init__()
        self.patch = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GELU(), nn.Conv2d(16, width, 8 // side, 8 // side)
        )
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if class_token else None
        self.place = nn.Parameter(0.1 * torch.randn(1, side**2, width))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        return (
            tokens if self.class_token is None else torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1)
        )


class Pooled(nn.Module):
    """Tokens [N, T, D] to one: the class token, or the mean."""

    def __init__(self, *, class_token: bool) -> None:
        super().__init__()
        self.class_token = class_token

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.class_token else x.mean(1)


def category_module(family: Family, *, wide: bool = False) -> nn.Module:
    """f: images [N, 1, 8, 8] to features."""
    if family == "vgg":
        return nn.Sequential(*_block(1, 16), *_block(16, 20 if wide else 16), nn.MaxPool2d(2))
    if family == "resnet":
        width = 16 if wide else 12
        return nn.Sequential(*_block(1, width, 2 if wide else 1), Residual(width))
    if family == "vit":
        width = 32 if wide else 24
        return nn.Sequential(Patches(4, width, class_token=not wide), Attention(width))
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 40 if wide else 48), nn.ReLU())


def task_module(family: Family, *, wide: bool = False, outputs: int = 1) -> nn.Module:
    """gT or gS: features to logits [N, outputs]."""
    pool: list[nn.Module] = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if family == "vgg":
        width = 20 if wide else 16
        return nn.Sequential(
            *_block(width, 32), *_block(32, 32), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, outputs)
        )
    if family == "resnet":
        width = 16 if wide else 12
        return nn.Sequential(*_block(width, 32, 2), Residual(32), *pool, nn.Linear(32, outputs))
    if family == "vit":
        width = 32 if wide else 24
        return nn.Sequential(
            Attention(width), nn.LayerNorm(width), Pooled(class_token=not wide), nn.Linear(width, outputs)
        )
    return nn.Sequential(nn.Linear(40 if wide else 48, 32), nn.ReLU(), nn.Linear(32, outputs))


def _train(parts: dict[int, nn.Module], task: nn.Module, steps: int) -> None:
    """Each digit's category module learns "is it this digit?" under the one task module."""
    x, labels = digits.images("train")
    adam = torch.optim.Adam(
        [p for net in (task, *parts.values()) for p in net.parameters()], lr=3e-3, weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        features, wanted = [], []
        for digit, category in parts.items():
            positive = labels == digit
            rows = torch.multinomial(
                torch.where(positive, 1 / positive.sum(), 1 / (~positive).sum()), 48, replacement=True
            )
            features.append(category(shift(x[rows], torch.randint(-1, 2, (48, 2)))))
            wanted.append(positive[rows].float())
        loss = F.binary_cross_entropy_with_logits(task(torch.cat(features))[:, 0], torch.cat(wanted))
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    for net in (task, *parts.values()):
        net.eval()


def _files(category: nn.Module, task: nn.Module) -> tuple[ModuleFile, ModuleFile]:
    x = torch.zeros(2, 1, 8, 8)
    with torch.no_grad():
        features = category(x)
    f = trace(category, x, kind="category", preprocessing=digits.PREPROCESSING)
    return f, trace(task, features, kind="task", outputs={"is": OutputMeaning(semantics="classification")})


@cache
def teacher(family: Family, digit: int) -> tuple[ModuleFile, ModuleFile]:
    """f and gT of a trained net for "is it this digit?"."""
    torch.manual_seed(1_000 + digit)
    category, task = category_module(family), task_module(family)
    _train({digit: category}, task, STEPS)
    return _files(category, task)


@cache
def shared_task(family: Family, known: tuple[int, ...] = (0, 1)) -> ModuleFile:
    """gS of a trained wide net that knows other digits."""
    torch.manual_seed(1)
    parts, task = {digit: category_module(family, wide=True) for digit in known}, task_module(family, wide=True)
    _train(parts, task, STEPS)
    return _files(parts[known[0]], task)[1]
