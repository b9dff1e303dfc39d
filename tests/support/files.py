"""Small module files and sample sets as bytes, made once a process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from graftery.module import ModuleFile, cut, trace
from graftery.spec.manifest import OutputMeaning, Preprocessing

CUT = "features"
SIDE = 8


class SmallTeacher(nn.Module):
    """[N, 1, 8, 8] -> one logit for each name in `outputs`, over features [N, channels, 4, 4]."""

    def __init__(self, outputs: Sequence[str], channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.heads = nn.ModuleDict({name: nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 1)) for name in outputs})

    def forward(self, x_N1HW: Tensor) -> dict[str, Tensor]:
        features = self.features(x_N1HW)
        return {name: head(features) for name, head in self.heads.items()}


@cache
def teacher(outputs: tuple[str, ...] = ("is",), channels: int = 4, seed: int = 0) -> ModuleFile:
    """A whole net with random weights."""
    torch.manual_seed(seed)
    meanings = {name: OutputMeaning(semantics="classification") for name in outputs}
    net = SmallTeacher(outputs, channels)
    return trace(net, torch.zeros(2, 1, SIDE, SIDE), outputs=meanings, description="random weights")


@cache
def parts(outputs: tuple[str, ...] = ("is",), channels: int = 4, seed: int = 0) -> tuple[ModuleFile, ...]:
    """The category module of `teacher(...)`, then its task modules."""
    category, tasks = cut(teacher(outputs, channels, seed), CUT)
    return category, *tasks.values()


@cache
def free_size_parts() -> tuple[ModuleFile, ModuleFile]:
    """A category module and a task module that read images of any size."""
    torch.manual_seed(0)
    category = trace(nn.Conv2d(1, 4, 3, padding=1), torch.zeros(2, 1, SIDE, SIDE), kind="category")
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    meanings = {"is": OutputMeaning(semantics="classification")}
    return category, trace(head, torch.zeros(2, 4, SIDE, SIDE), kind="task", outputs=meanings)


@cache
def file_bytes(file: ModuleFile) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        file.save(path)
        return path.read_bytes()


@cache
def samples(count: int = 12, labelled: bool = True, side: int = SIDE) -> bytes:
    """Noise images [n, 1, side, side], with labels 0/1 [n] on request."""
    generator = torch.Generator().manual_seed(count)
    tensors = {"x": torch.randn(count, 1, side, side, generator=generator)}
    if labelled:
        tensors["y"] = (torch.arange(count) % 2).to(torch.int64)
    return save(tensors)


@cache
def with_preprocessing(file: ModuleFile, preprocessing: Preprocessing) -> ModuleFile:
    """The same net, whose owner states another preprocessing."""
    return replace(file, manifest=file.manifest.model_copy(update={"preprocessing": preprocessing}))
