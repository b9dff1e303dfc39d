"""Two architectures whose features have one shape at the layer `lower`: plain convolutions, and residual blocks.

With `halvings`, features have that many times half the image's side; they have twice `width` channels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graftery.compat import Design

CUT = "lower"


def block(source: int, target: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(source, target, 3, stride, padding=1, bias=False), nn.BatchNorm2d(target), nn.ReLU()]


def upper(width: int) -> nn.Sequential:
    """Of both: from features to what the last layer decides by."""
    return nn.Sequential(
        *block(width, 2 * width), nn.MaxPool2d(2), *block(2 * width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


class Plain(nn.Module):
    """[N, C, S, S] to logits."""

    def __init__(self, logits: int, channels: int, width: int, halvings: int) -> None:
        super().__init__()
        halves = [nn.MaxPool2d(2) if halvings > index else nn.Identity() for index in range(2)]
        self.lower = nn.Sequential(*block(channels, width), halves[0], *block(width, 2 * width), halves[1])
        self.upper = upper(2 * width)
        self.last = nn.Linear(4 * width, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.upper(self.lower(x)))
        return logits


class Shortcut(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, source: int, target: int, stride: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(*block(source, target, stride), *block(target, target)[:2])
        self.shortcut = nn.Conv2d(source, target, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.convolutions(x) + self.shortcut(x))


class Residual(nn.Module):
    """As `Plain`, with a deeper `lower`."""

    def __init__(self, logits: int, channels: int, width: int, halvings: int) -> None:
        super().__init__()
        strides = [2 if halvings > index else 1 for index in range(2)]
        self.lower = nn.Sequential(
            *block(channels, width), Shortcut(width, width, strides[0]), Shortcut(width, 2 * width, strides[1])
        )
        self.upper = upper(2 * width)
        self.last = nn.Linear(4 * width, logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(self.upper(self.lower(x)))
        return logits


def design(kind: type[Plain] | type[Residual], channels: int, width: int, halvings: int) -> Design:
    return Design(partial(kind, channels=channels, width=width, halvings=halvings), CUT)


def from_weights(built: Design, weights: dict[str, Tensor], logits: int) -> nn.Module:
    """A net of the design that begins with these weights, as a file has them by the net's own names."""
    net = built.net(logits)
    with torch.no_grad():
        missing = net.load_state_dict(weights, strict=False).missing_keys
    forgotten = [name for name in missing if not name.endswith("num_batches_tracked")]
    if forgotten:
        raise ValueError(f"no weights for {forgotten}")
    return net
