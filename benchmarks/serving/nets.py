"""The nets that are served: f, h and g with fixed random weights. Needs nothing but torch: the peers load them too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Parts = dict[str, nn.Module]
"""f, h and g by those names; h is left out where the net has no adapter."""


def _conv(source: int, target: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(source, target, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(target)]


def _block(source: int, target: int) -> list[nn.Module]:
    return [*_conv(source, target), nn.ReLU()]


def small() -> Parts:
    """The net of the CIFAR-10 table (benchmarks/transplant/worlds/cifar10.py): 3x32x32 to 48x8x8 to one logit."""
    f = nn.Sequential(
        nn.Sequential(*_block(3, 16), nn.MaxPool2d(2)),
        nn.Sequential(*_block(16, 32), *_block(32, 32), nn.MaxPool2d(2)),
        nn.Sequential(*_block(32, 48), *_block(48, 48)),
    )
    h = nn.Sequential(nn.Conv2d(48, 48, 3, padding=1), nn.ReLU())
    pool, flat = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    g = nn.Sequential(*_block(48, 64), nn.MaxPool2d(2), *_block(64, 64), pool, flat, nn.Linear(64, 1))
    return {"f": f, "h": h, "g": g}


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut: [N, C, H, W] to [N, width, H / stride, W / stride]."""

    def __init__(self, source: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_conv(source, width, 3, stride), nn.ReLU(), *_conv(width, width))
        same = source == width and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(*_conv(source, width, 1, stride))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.body(x))


def _stage(source: int, width: int, stride: int) -> list[nn.Module]:
    return [Residual(source, width, stride), Residual(width, width, 1)]


def resnet() -> Parts:
    """ResNet-18 (He et al. 2016) cut at 128x28x28: 3x224x224 to 1000 logits. Without an adapter."""
    stem = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    f = nn.Sequential(*stem, *_stage(64, 64, 1), *_stage(64, 128, 2))
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)]
    return {"f": f, "g": nn.Sequential(*_stage(128, 256, 2), *_stage(256, 512, 2), *tail)}


def adapted() -> Parts:
    """The ResNet-18 with an adapter of one 3x3 convolution at its cut."""
    parts = resnet()
    return {"f": parts["f"], "h": nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.ReLU()), "g": parts["g"]}


def nothing() -> Parts:
    """Next to no work on the input of the small net: what is left of a request's cost is the server's own."""
    return {"f": nn.Sequential(nn.AvgPool2d(32)), "g": nn.Sequential(nn.Flatten(), nn.Linear(3, 1))}


NETS: dict[str, Callable[[], Parts]] = {"small": small, "resnet": resnet, "adapted": adapted, "nothing": nothing}


def parts(name: str, seeds: dict[str, int] | int = 0) -> Parts:
    """A net's parts, the weights of each drawn from its own seed: two nets share what they share the seed of."""
    made = NETS[name]()
    for letter, net in made.items():
        seed = seeds if isinstance(seeds, int) else seeds.get(letter, 0)
        _draw(net, 1000 * "fhg".index(letter) + seed)
    return made


def whole(name: str, seeds: dict[str, int] | int = 0) -> nn.Module:
    """The parts as one net: what the peers serve."""
    return nn.Sequential(*parts(name, seeds).values()).eval()


def _draw(net: nn.Module, seed: int) -> None:
    """He's weights, and statistics of batch norm that differ from those of a fresh one."""
    random = torch.Generator().manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
            layer.running_mean.normal_(0, 0.1, generator=random)
            layer.running_var.uniform_(0.5, 1.5, generator=random)
    net.eval()
