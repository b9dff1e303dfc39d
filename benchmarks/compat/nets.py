"""ResNet-8 for 32x32 images."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(source, target, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(target)
        self.second = nn.Conv2d(target, target, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(target)
        self.shortcut = (
            nn.Identity()
            if (source, stride) == (target, 1)
            else nn.Sequential(nn.Conv2d(source, target, 1, stride, bias=False), nn.BatchNorm2d(target))
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class ResNet8(nn.Module):
    """[N, 3, 32, 32] to logits: a stem and three blocks of 16, 32 and 64 channels."""

    def __init__(self, logits: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.classifier = nn.Linear(64, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.blocks(self.stem(x)).mean((2, 3)))
        return logits
