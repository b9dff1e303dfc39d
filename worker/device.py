"""Where a job computes: the device and the number of threads. Runs in the child, the only place with torch."""

from __future__ import annotations

import os
import sys

import torch

from graftery.errors import GrafteryError


def use(device: str, threads: int) -> torch.device:
    """Set the number of threads, and find the device.

    Args:
        device: `auto` (the first GPU that CUDA_VISIBLE_DEVICES leaves, else the CPU), `cpu`, `cuda`, `cuda:1`.
        threads: CPU threads, 0 for torch's own choice. Sums depend on their number: fix it to get the same bytes.

    Raises:
        GrafteryError: `unavailable`, the device is not there.
    """
    # Read when CUDA starts: without it cuBLAS does not repeat its bits.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if threads > 0:
        torch.set_num_threads(threads)
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise GrafteryError(f"The device {device!r} cannot be used: {first}", code="unavailable") from error
    return torch.device(device)


def memory_bytes(device: str) -> int | None:
    """The memory of a CUDA device; None for the CPU, which has no fixed share."""
    found = use(device, 0)
    return int(torch.cuda.get_device_properties(found).total_memory) if found.type == "cuda" else None


if __name__ == "__main__":
    # For a worker, which has no torch itself: `python -m worker.device DEVICE` prints the bytes, or nothing.
    sys.stdout.write(str(memory_bytes(sys.argv[1]) or ""))
