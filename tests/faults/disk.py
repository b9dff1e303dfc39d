"""A small disk for the store, which a test can fill: a real one where mounting is allowed, else a store that says so."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIZE_MIB = 64
_PIECE_BYTES = 65_536


@dataclass(frozen=True)
class Disk:
    """`full` is there while the disk has no room; `real`: the kernel says so, not `tests.faults.narrow`."""

    folder: Path
    full: Path
    real: bool

    def fill(self) -> None:
        """Leave no byte."""
        if not self.real:
            self.full.touch()
            return
        with self.full.open("wb", buffering=0) as file:
            size = _PIECE_BYTES
            while size:
                try:
                    file.write(os.urandom(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2

    def free(self) -> None:
        self.full.unlink(missing_ok=True)


@contextmanager
def small_disk(home: Path) -> Iterator[Disk]:
    folder = home / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)]
    real = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield Disk(folder, (folder if real else home) / "full", real)
    finally:
        if real:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
