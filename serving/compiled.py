"""A module through torch.compile, for CUDA: batches are padded to a few sizes, each compiled before the first request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from graftery.errors import Unavailable
from graftery.module import ModuleFile
from graftery.module.probes import PROBE_X
from serving.parts import Eager
from serving.tolerance import TOLERANCE, distance


class Bucketed:
    """Runs a batch at the least bucket that holds it; larger ones in pieces of the largest.

    Args:
        run: a compiled net.
        weights: of the net; to be freed with it.
        buckets: rising batch sizes.
    """

    name = "compiled"

    def __init__(self, run: Callable[[Tensor], Sequence[Tensor]], weights: Eager, buckets: Sequence[int]) -> None:
        self._run, self._weights, self.buckets = run, weights, tuple(buckets)

    def __call__(self, x: Tensor) -> Sequence[Tensor]:
        pieces = [self._padded(piece) for piece in torch.split(x, self.buckets[-1])]
        return [torch.cat(each) if len(each) > 1 else each[0] for each in zip(*pieces, strict=True)]

    @property
    def size_bytes(self) -> int:
        return self._weights.size_bytes

    def free(self) -> None:
        self._weights.free()

    def _padded(self, x: Tensor) -> list[Tensor]:
        rows = len(x)
        bucket = next(size for size in self.buckets if size >= rows)
        if bucket > rows:
            x = torch.cat([x, x[-1:].expand(bucket - rows, *x.shape[1:])])
        return [y[:rows] for y in self._run(x)]


def buckets_up_to(rows: int) -> list[int]:
    """Powers of two, and at last the limit itself: 1, 2, 4, ..., rows."""
    sizes = [1]
    while sizes[-1] * 2 < rows:
        sizes.append(sizes[-1] * 2)
    return sizes if rows <= 1 else [*sizes, rows]


def compiled(file: ModuleFile, device: torch.device, max_rows: int, backend: str = "inductor") -> Bucketed:
    """Compile a module for every bucket, and compare each with eager.

    Args:
        max_rows: the largest bucket.
        backend: of torch.compile.

    Raises:
        Unavailable: `not_ready`: free sizes, no probe, or the compiled net differs by more than the tolerance.
    """
    probe = file.extras.get(PROBE_X)
    if probe is None or any(isinstance(size, str) for size in file.manifest.input.shape[1:]):
        raise Unavailable("free sizes would be compiled again for every size that comes", code="not_ready")
    net: nn.Module = file.net().to(device)
    eager = Eager(net)
    options: dict[str, Any] = {"backend": backend, "dynamic": False, "fullgraph": True}
    form = Bucketed(Eager(cast(nn.Module, torch.compile(net, **options))), eager, buckets_up_to(max_rows))
    with torch.inference_mode():
        for bucket in form.buckets:
            x = probe[torch.arange(bucket) % len(probe)].to(device)
            worst = max(distance(y.cpu().numpy(), z.cpu().numpy()) for y, z in zip(eager(x), form(x), strict=True))
            if not worst <= TOLERANCE:
                raise Unavailable(f"the compiled net differs by {worst:.2g} of the greatest number", code="not_ready")
    return form
