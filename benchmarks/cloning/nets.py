"""The nets of the worlds: a body that gives features [N, D], and a linear classifier."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from benchmarks.compat.nets import Block


class Net(nn.Module):
    """classifier(body(x)): images to logits."""

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.classifier = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.body(x))
        return logits


def vgg(classes: int, *, side: int, channels: int = 1) -> Net:
    """Four convolutions of 16, 16, 32 and 32 channels, pooled twice, for images of `side` x `side`."""
    body = nn.Sequential(
        *_block(channels, 16),
        *_block(16, 16),
        nn.MaxPool2d(2),
        *_block(16, 32),
        *_block(32, 32),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return Net(body, 32 * (side // 4) ** 2, classes)


def _block(source: int, target: int) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


def resnet(classes: int, *, width: int = 16) -> Net:
    """ResNet-8, [N, 3, 32, 32]: a stem and three blocks of `width`, twice and four times as many channels."""
    stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    blocks = (Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
    return Net(nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4 * width, classes)


def widened(net: Net, more: int, seed: int) -> Net:
    """A copy with fresh rows for `more` classes behind the old ones."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        made, old = copy.deepcopy(net), net.classifier
        made.classifier = nn.Linear(old.in_features, old.out_features + more)
        made.classifier.weight[: old.out_features] = old.weight
        made.classifier.bias[: old.out_features] = old.bias
    return made
