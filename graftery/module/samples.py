"""The check of a sample set: a plain safetensors file with `x` [n, ...] and, where there are labels, `y` [n, ...]."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from graftery.errors import SamplesRefused, WeightsRefused
from graftery.module.check import FLOATS
from graftery.module.container import Entry, read_header
from graftery.module.file import read_tensors
from graftery.module.ops import DTYPE_NAMES, STORED
from graftery.module.verification import check_values
from graftery.spec.limits import Limits
from graftery.spec.manifest import LabelFacts, SamplesFacts, TensorSpec

_BLOCK = 2**22
_CLASSES = 4096
"""Whole labels below this are listed."""


def examine_samples(path: str | os.PathLike[str], limits: Limits) -> SamplesFacts:
    """Check a sample set: the header by the rules of module files, `x` floating and finite, as many labels as samples.

    Raises:
        ModuleFileError: the header breaks a rule of docs/module-file.md.
        SamplesRefused: `samples_invalid`.
    """
    with Path(path).open("rb") as file:
        entries = read_header(file, limits).entries
        if "x" not in entries or not entries.keys() <= {"x", "y"}:
            raise SamplesRefused(
                f"the file has the tensors {sorted(entries)[:5]}, it needs x, and y where there are labels"
            )
        x, y = _spec(entries["x"]), _spec(entries["y"]) if "y" in entries else None
        if x.dtype not in FLOATS or len(x.shape) < 2:
            raise SamplesRefused(f"x is {x.dtype} {list(entries['x'].shape)}, it has to be floating, [n, ...]")
        count = entries["x"].shape[0]
        if y is not None and entries["y"].shape[:1] != (count,):
            raise SamplesRefused(f"x has {count} samples, y has shape {list(entries['y'].shape)}")
        labels = None
        for name in entries:
            tensor = read_tensors(file, {name: entries[name]})[name]
            try:
                check_values(name, tensor, masks=False)
            except WeightsRefused as error:
                raise SamplesRefused(error.message, hint="leave out the samples that hold it, or repair them") from None
            labels = label_facts(tensor) if name == "y" else labels
    return SamplesFacts(count=count, labelled=y is not None, x=x, y=y, labels=labels)


def label_facts(y: Tensor) -> LabelFacts | None:
    """What labels that are finite hold; None where there is no number at all."""
    flat = y.reshape(-1)
    if flat.numel() == 0:
        return None
    flat = flat.view(torch.uint8) if y.dtype is torch.bool else flat
    least, greatest = (float(end) for end in (flat.min(), flat.max()))
    blocks = torch.split(flat, _BLOCK)
    whole = not y.is_floating_point() or all(bool((block == block.round()).all()) for block in blocks)
    if not whole or least < 0 or greatest >= _CLASSES:
        return LabelFacts(least=least, greatest=greatest, whole=whole)
    counts = sum(torch.bincount(block.long(), minlength=_CLASSES) for block in blocks)
    classes = tuple(torch.as_tensor(counts).nonzero().flatten().tolist())
    return LabelFacts(least=least, greatest=greatest, whole=whole, classes=classes)


def _spec(entry: Entry) -> TensorSpec:
    return TensorSpec(dtype=DTYPE_NAMES[STORED[entry.dtype]], shape=("N", *entry.shape[1:]))
