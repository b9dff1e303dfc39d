"""MNIST's official files, made up: four of them, and what is no such file."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.cloning import mnist
from benchmarks.cloning.worlds import Mnist, absent


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The training files gzipped, the test files plain."""
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        arrays = random.integers(0, 256, (count, 28, 28), np.uint8), np.arange(count, dtype=np.uint8) % 10
        for name, array in zip(mnist.FILES[split], arrays, strict=True):
            if split == "train":
                (tmp_path / f"{name}.gz").write_bytes(gzip.compress(_idx(array)))
            else:
                (tmp_path / name).write_bytes(_idx(array))
    return tmp_path


def test_reads_plain_and_gzipped_files(folder: Path) -> None:
    x, y = mnist.read(folder, "test")
    assert (x.shape, x.dtype, y.dtype) == ((20, 1, 28, 28), torch.uint8, torch.int64)
    assert y.tolist() == [label % 10 for label in range(20)]
    assert mnist.read(folder, "train")[0].shape == (60, 1, 28, 28)
    raw = (folder / "t10k-images-idx3-ubyte").read_bytes()
    assert x.flatten()[:5].tolist() == list(raw[16:21])


def test_the_last_sixth_of_the_training_images_is_to_choose(folder: Path) -> None:
    world = Mnist(folder)
    assert absent("mnist", None, folder, folder) is None
    assert [len(world.raw(split)[1]) for split in ("train", "validation", "test")] == [50, 10, 20]
    x = world.prepared(world.raw("validation")[0])
    assert x.shape == (10, 1, 28, 28)
    assert torch.equal(world.raw("validation")[0], mnist.read(folder, "train")[0][-10:])
    assert world.net(5)(x).shape == (10, 5)


def test_a_folder_without_one_of_the_files_is_said_to_lack_it(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    assert not mnist.present(folder)
    with pytest.raises(SystemExit, match=r"neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"):
        mnist.read(folder, "test")


BROKEN = {
    "empty": b"",
    "a head that ends early": bytes([0, 0, 8, 3, 0, 0]),
    "another type": bytes([0, 0, 13, 3]) + struct.pack(">3I", 1, 28, 28) + bytes(784),
    "other dimensions": bytes([0, 0, 8, 1]) + struct.pack(">I", 784) + bytes(784),
    "a byte too few": bytes([0, 0, 8, 3]) + struct.pack(">3I", 1, 28, 28) + bytes(783),
    "a byte too many": bytes([0, 0, 8, 3]) + struct.pack(">3I", 1, 28, 28) + bytes(785),
    "a size beyond all bounds": bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1) + bytes(784),
    "other magic": b"\x89PNG" + struct.pack(">3I", 1, 28, 28) + bytes(784),
}


@pytest.mark.parametrize("found", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_idx_file_is_refused(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(found)
    with pytest.raises(SystemExit, match=r"no idx file|its head says"):
        mnist.idx(path, 3)


@pytest.mark.parametrize("found", [b"plain", gzip.compress(bytes(100))[:-9]], ids=["not gzipped", "cut off"])
def test_a_broken_archive_is_refused(tmp_path: Path, found: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(found)
    with pytest.raises(SystemExit, match="cannot be read"):
        mnist.idx(path, 3)


def test_files_that_do_not_belong_together_are_refused(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(_idx(np.zeros(19, np.uint8)))
    with pytest.raises(SystemExit, match="are not MNIST's test files"):
        mnist.read(folder, "test")
