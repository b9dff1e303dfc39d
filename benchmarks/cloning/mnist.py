"""MNIST from its four official files (idx, gzipped or not), in a folder that the user names."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
UNSIGNED_BYTE = 8
"""The type code of an idx file."""
SIDE = 28
MOST_BYTES = 1 << 30


def present(folder: Path) -> bool:
    """Whether the four files are there."""
    return all(_path(folder, name) is not None for names in FILES.values() for name in names)


def read(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Images uint8 [n, 1, 28, 28] and digits int64 [n].

    Raises:
        SystemExit: a file is missing or is no such file.
    """
    images, labels = (idx(_needed(folder, name), dims) for name, dims in zip(FILES[split], (3, 1), strict=True))
    if images.shape[1:] != (SIDE, SIDE) or len(images) != len(labels) or not len(labels) or labels.max() > 9:
        raise SystemExit(f"{folder}: images {images.shape} and labels {labels.shape} are not MNIST's {split} files")
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels).long()


def idx(path: Path, dims: int) -> np.ndarray:
    """An idx file of unsigned bytes with this many dimensions.

    Raises:
        SystemExit: anything else, also one byte too few or too many.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            found = file.read(MOST_BYTES)
    except (OSError, EOFError) as error:
        raise SystemExit(f"{path} cannot be read: {error}") from error
    head = 4 + 4 * dims
    if len(found) < head or found[:4] != bytes([0, 0, UNSIGNED_BYTE, dims]):
        raise SystemExit(f"{path} is no idx file of unsigned bytes with {dims} dimensions")
    shape = struct.unpack(f">{dims}I", found[4:head])
    size = 1
    for each in shape:
        size *= each
    if len(found) - head != size:
        raise SystemExit(f"{path} holds {len(found) - head} bytes, its head says {size}")
    return np.frombuffer(found, np.uint8, offset=head).reshape(shape).copy()


def _path(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _needed(folder: Path, name: str) -> Path:
    path = _path(folder, name)
    if path is None:
        raise SystemExit(f"{folder} holds neither {name} nor {name}.gz")
    return path
