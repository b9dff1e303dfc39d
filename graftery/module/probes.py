"""The probe: a small input and the outputs that go with it, so that a file can prove what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from graftery.module.derivatives import as_outputs
from graftery.module.file import ModuleFile

PROBE_X = "probe.x"


def with_probe(file: ModuleFile, x: Tensor) -> ModuleFile:
    """The file with `x`, which is never the owner's data, as its probe."""
    kept = {name: tensor for name, tensor in file.extras.items() if not name.startswith("probe.")}
    y = outputs_at(file, x)
    return replace(file, extras={**kept, PROBE_X: x, **{probe_y(file, name): value for name, value in y.items()}})


def outputs_at(file: ModuleFile, x: Tensor) -> dict[str, Tensor]:
    """The file's outputs by name at x, without grad."""
    with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]):
        values = as_outputs(file.net()(x.clone()))
    return {name: value.contiguous() for name, value in zip(file.graph.outputs, values, strict=True)}


def stated(file: ModuleFile) -> tuple[Tensor | None, Mapping[str, Tensor | None]]:
    """The probe in the file: x, and y by output; None for what is missing."""
    return file.extras.get(PROBE_X), {name: file.extras.get(probe_y(file, name)) for name in file.graph.outputs}


def probe_y(file: ModuleFile, output: str) -> str:
    """The tensor's name: `probe.y`, with several outputs `probe.y.NAME`."""
    return "probe.y" if len(file.graph.outputs) == 1 else f"probe.y.{output}"
