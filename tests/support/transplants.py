"""Small nets and module files for the tests of transplants: quick to trace, quick to train."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from graftery.data.streams import generator
from graftery.module import ModuleFile, trace
from graftery.spec.manifest import OutputMeaning, Preprocessing, Semantics
from graftery.transplant import sketch

PREPROCESSING = Preprocessing(mean=(0.5,), std=(0.25,), colour_order="grey")


def warmed(net: nn.Module, x: Tensor, seed: int = 0) -> nn.Module:
    """Evaluation mode, with batch norm statistics that are not those of a fresh net."""
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(x)
    return net.eval()


def image_category(channels: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2))
    return warmed(net, torch.randn(32, 1, 8, 8))


def image_task(channels: int = 4, outputs: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(100 + seed)
    layers = [nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return warmed(nn.Sequential(*layers, nn.Linear(24, outputs)), torch.rand(32, channels, 4, 4))


def permuted_task(channels: int = 4, outputs: int = 1) -> nn.Module:
    """The task module of seed 0 with its input channels in reverse: some adapter makes it the same net."""
    net = image_task(channels, outputs)
    with torch.no_grad():
        net[0].weight.copy_(net[0].weight.flip(1))  # type: ignore[index, operator, arg-type, union-attr]
    return net


def dense_task(channels: int = 4, outputs: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(200 + seed)
    layers = [nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, outputs, 1), nn.Upsample(scale_factor=2)]
    return nn.Sequential(*layers).eval()


def strided_task(scale: float, channels: int = 4, seed: int = 0) -> nn.Module:
    """Features [N, channels, H, W] of any size to logits of pixels [N, 1, scale H, scale W], as behind an f of that stride."""
    torch.manual_seed(250 + seed)
    layers = [nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 1, 1)]
    return nn.Sequential(*layers, nn.Upsample(scale_factor=scale, mode="bilinear")).eval()


def vector_category(width: int = 5, seed: int = 0) -> nn.Module:
    torch.manual_seed(300 + seed)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh()).eval()


def vector_task(width: int = 5, outputs: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(400 + seed)
    return nn.Sequential(nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, outputs)).eval()


class TokenTask(nn.Module):
    """[N, T, D] to [N, K] through attention, whose fused kernels have no double backward."""

    def __init__(self, width: int = 4, outputs: int = 1) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x)[:, None] for layer in (self.query, self.key, self.value))
        logits: Tensor = self.head(nn.functional.scaled_dot_product_attention(q, k, v)[:, 0].mean(1))
        return logits


def token_category(width: int = 4) -> nn.Module:
    torch.manual_seed(500)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh()).eval()


def token_task(width: int = 4, seed: int = 0) -> nn.Module:
    torch.manual_seed(600 + seed)
    return TokenTask(width).eval()


def category_file(net: nn.Module, x: Tensor, **options: object) -> ModuleFile:
    preprocessing = PREPROCESSING if x.ndim == 4 else None
    return trace(net, x, kind="category", preprocessing=preprocessing, **options)  # type: ignore[arg-type]


def task_file(net: nn.Module, x: Tensor, semantics: Semantics = "classification") -> ModuleFile:
    return trace(net, x, kind="task", outputs={"is": OutputMeaning(semantics=semantics)})


def fixed_image_nets() -> tuple[nn.Module, nn.Module, nn.Module]:
    """f, gS and gT whose weights are drawn without torch's own initialisations, so that no release of torch moves them."""
    nets = image_category(), image_task(), image_task()
    for index, net in enumerate(nets):
        random = generator(index, "weights")
        for name, value in net.state_dict().items():
            if value.is_floating_point():
                size = torch.randn(value.shape, generator=random) * (0.3 if value.ndim > 1 else 0.1)
                value.copy_(1 + size.abs() if name.endswith(("running_var", "1.weight")) else size)
    return nets


@cache
def image_files(outputs: int = 1) -> tuple[ModuleFile, ModuleFile, ModuleFile]:
    """f, gS and gT for images [N, 1, 8, 8], features [N, 4, 4, 4]. gS is gT with its input channels in reverse."""
    features = torch.rand(2, 4, 4, 4)
    f = category_file(image_category(), torch.randn(2, 1, 8, 8))
    return f, task_file(permuted_task(outputs=outputs), features), task_file(image_task(outputs=outputs), features)


@cache
def vector_files() -> tuple[ModuleFile, ModuleFile, ModuleFile]:
    """f, gS and gT for vectors [N, 3], features [N, 5], no batch norm, one regression output."""
    features = torch.rand(2, 5)
    f = category_file(vector_category(), torch.randn(2, 3))
    return f, *(task_file(vector_task(seed=seed), features, "regression") for seed in (1, 0))  # type: ignore[return-value]


@cache
def sketched_files() -> tuple[ModuleFile, ModuleFile, ModuleFile]:
    """f, gS and gT of free sizes; f's file has a sketch of features [4, 4, 4], of images of 8 by 8."""
    net, x = image_category(), torch.randn(40, 1, 8, 8)
    f = category_file(net, x[:2], sketch=sketch(category_file(net, x[:2]), x))
    heads = (nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1)) for _ in range(2))
    return f, *(task_file(head, torch.rand(2, 4, 4, 4)) for head in heads)  # type: ignore[return-value]


@cache
def strided_files(scale: float = 4.0) -> tuple[ModuleFile, ModuleFile, ModuleFile]:
    """f for images [N, 1, H, W] at stride 2, its gT whose masks are as large as the images, and a gS of another stride."""
    features = torch.rand(2, 4, 4, 4)
    task, teacher = (strided_task(each, seed=seed) for each, seed in ((scale, 1), (2.0, 0)))
    return image_files()[0], *(task_file(net, features, "segmentation") for net in (task, teacher))  # type: ignore[return-value]
