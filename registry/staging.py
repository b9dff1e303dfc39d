"""Files and folders on their way into the store: room for them, whether somebody uses them still, and since when nobody wrote them."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graftery.errors import StoreError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def in_use(path: Path) -> Iterator[None]:
    """Keep `sweep` from what is staged, however long its check takes; a process that dies keeps nothing."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


def is_in_use(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:  # published or removed meanwhile
        return float("-inf")


def require_free(folder: Path, size_bytes: int) -> None:
    """Raise `store_full` where the folder's disk has less free than this."""
    if shutil.disk_usage(folder).free < size_bytes:
        raise _full()


@contextmanager
def full_is_an_error() -> Iterator[None]:
    """Around what writes: the kernel's word that there is no room is a `StoreError`, `store_full`."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise _full() from error


def _full() -> StoreError:
    hint = "delete versions, run `graftery collect`, or add a disk"
    return StoreError("The disk is full", code="store_full", hint=hint)
