"""Module files of a size, and the same file again and again under another digest."""

from __future__ import annotations

from pathlib import Path

MARK = "bench-{:08d}"
"""In the description of a large file: another number is another file, of the same size."""
LAYER_BYTES = 16 * 2**20


def write_large(path: Path, size_bytes: int) -> None:
    """Write a module file of about this size: linear layers of 16 MiB, or a smaller one."""
    import torch
    from torch import nn

    from graftery.module import trace

    layer_bytes = min(size_bytes, LAYER_BYTES)
    width = int((layer_bytes / 4) ** 0.5)
    torch.manual_seed(0)
    layers = [nn.Linear(width, width, bias=False) for _ in range(size_bytes // layer_bytes)]
    net = nn.Sequential(*layers).eval()
    trace(net, torch.zeros(2, width), kind="category", description=MARK.format(0)).save(path)


def numbered(data: bytes, number: int) -> bytes:
    """The same file with another number, and so with another digest."""
    old = MARK.format(0).encode()
    if data.count(old) != 1:
        raise ValueError("the file has no mark, or several")
    return data.replace(old, MARK.format(number).encode())
