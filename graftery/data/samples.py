"""Sample sets: inputs `x` [n, ...] with or without labels `y`, kept as plain safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graftery.data.streams import generator
from graftery.errors import SamplesRefused


@dataclass(frozen=True)
class SampleSet:
    """Inputs and, where there are any, their labels.

    Args:
        x: [n, ...] floating, finite, already preprocessed as the category module expects.
        y: by the meaning of the output: classification with one logit, 0/1 [n]; with K logits, class ids int64 [n];
            segmentation, 0/1 or ids [n, H, W] with 255 = ignore; regression, floating, shaped like the output.

    Raises:
        SamplesRefused: `samples_invalid`; empty, unequal lengths, wrong dtypes, or values that are not finite.
    """

    x: Tensor
    y: Tensor | None = None

    def __post_init__(self) -> None:
        if self.x.ndim < 2 or len(self.x) == 0 or not self.x.is_floating_point():
            raise SamplesRefused(
                f"x is {self.x.dtype} {list(self.x.shape)}: it must be floating, [n, ...], n at least 1"
            )
        if self.y is not None and (self.y.ndim < 1 or len(self.y) != len(self.x)):
            raise SamplesRefused(f"x has {len(self.x)} rows, but y is {list(self.y.shape)}")
        for name, value in (("x", self.x), ("y", self.y)):
            if value is not None and not torch.isfinite(value).all():
                raise SamplesRefused(f"{name} holds NaN or Inf")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def labels(self) -> int:
        """How many samples have a label."""
        return 0 if self.y is None else len(self)

    def take(self, index: Tensor) -> SampleSet:
        """The samples of these rows."""
        return SampleSet(self.x[index], None if self.y is None else self.y[index])

    def save(self, path: str | Path) -> None:
        tensors = {"x": self.x} if self.y is None else {"x": self.x, "y": self.y}
        save_file({name: value.contiguous() for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: str | Path) -> SampleSet:
        """Read a safetensors file that holds `x` and optionally `y`.

        Raises:
            SamplesRefused: `samples_invalid`.
        """
        try:
            tensors = load_file(path)
        except (SafetensorError, ValueError) as error:
            raise SamplesRefused(f"the samples cannot be read: {error}") from error
        return _of(tensors)


def _of(tensors: Mapping[str, Tensor]) -> SampleSet:
    if "x" not in tensors or tensors.keys() - {"x", "y"}:
        raise SamplesRefused(f"the file holds {sorted(tensors)}: it must hold x, optionally y, and nothing else")
    return SampleSet(tensors["x"], tensors.get("y"))


def choose(samples: SampleSet, count: int, seed: int, *, by_class: bool) -> SampleSet:
    """`count` samples drawn by the seed; by class, each class gives the same number as far as it can.

    Raises:
        SamplesRefused: `samples_missing`; there are fewer than `count`.
    """
    if count > len(samples):
        raise SamplesRefused(f"{count} samples are asked for, {len(samples)} are there", code="samples_missing")
    order = torch.randperm(len(samples), generator=generator(seed, "choose"))
    if by_class and samples.y is not None:
        order = order[_rounds(samples.y[order]).argsort(stable=True)]
    return samples.take(order[:count].sort().values)


def _rounds(y: Tensor) -> Tensor:
    """For each row, how many rows of its class come before it: sorting by it deals the classes out in turn."""
    flat = y.flatten()
    rounds = torch.zeros(len(flat), dtype=torch.int64)
    for label in torch.unique(flat):
        rows = flat == label
        rounds[rows] = torch.arange(int(rows.sum()))
    return rounds
