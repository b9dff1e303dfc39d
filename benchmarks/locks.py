"""Locks between processes that share a folder: the kernel frees them when the process that holds them dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock while the block runs.

    Args:
        path: of its file, which is there only while it is held.
        wait: until who has it lets it go; else the block is told False where another has it.
    """
    file = _taken(path, wait)
    try:
        yield file is not None
    finally:
        if file is not None:
            path.unlink(missing_ok=True)  # before it is let go: after that, the file may be another's
            file.close()


def _taken(path: Path, wait: bool) -> IO[str] | None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.close()
            return None
        if _is(file, path):
            return file
        file.close()  # who had it has removed the file meanwhile


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
