"""The same bits at every run, on CUDA too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """On CUDA: kernels that repeat their bits where there are any, and float32 without TF32.

    Where there are none torch warns: the gradients of bilinear upsampling, of adaptive average pooling, of pixels' cross entropy.

    cuBLAS repeats them only with CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment of the process, which the worker sets.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    precision = torch.get_float32_matmul_precision()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.set_float32_matmul_precision(precision)
