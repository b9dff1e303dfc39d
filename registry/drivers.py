"""What keeps bytes under their digest: the driver's promise, and a local folder that keeps it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from graftery.errors import StoreError

READ_BYTES = 1024 * 1024


class Stored(NamedTuple):
    """Published bytes; the age counts from when they were last published, not from when they were made."""

    digest: str
    size_bytes: int
    age_s: float


class Driver(Protocol):
    """Keeps bytes by digest. The store above it hashes, stages and checks for room."""

    def publish(self, path: Path, digest: str, size_bytes: int) -> None:
        """Take the staged file; afterwards the bytes are durable and their age is 0, whether or not they were known."""

    def stat(self, digest: str) -> Stored | None: ...

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]: ...

    def local_path(self, digest: str) -> Path: ...

    def signed_url(self, digest: str, expires_s: float) -> str | None:
        """Where anybody can GET the bytes for so long; None: there is no such place."""

    def free(self, digest: str, older_than_s: float) -> int | None:
        """Remove the bytes if they are older; never between a `publish` and the age that it sets. Gives the size."""

    def stored(self) -> Iterator[Stored]: ...

    def copies(self) -> Iterable[Path]:
        """Local copies that may be dropped at any time."""


def key_of(digest: str) -> str:
    """`sha256/ab/cd/HASH`."""
    return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}"


def missing(digest: str) -> StoreError:
    """The error for bytes that a row names and the store lacks."""
    return StoreError(f"The store has no bytes with sha256 {digest}", hint="restore them from a backup of the store")


def move(source: Path, target: Path) -> None:
    """Rename on the same disk, durably: the folders are written out, too."""
    made = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    for folder in (target.parent, *(folder.parent for folder in made)):
        _sync(folder)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class FolderDriver:
    """A local folder (or a network one that has rename and flock)."""

    def __init__(self, root: Path) -> None:
        self._root = root
        (root / "sha256").mkdir(parents=True, exist_ok=True)

    def _path(self, digest: str) -> Path:
        return self._root / key_of(digest)

    @contextmanager
    def _lock(self, operation: int) -> Iterator[None]:
        # Publishers share it, `free` has it alone: between its look at the age and its unlink nobody publishes.
        with (self._root / ".lock").open("w") as file:
            fcntl.flock(file, operation)
            yield

    def publish(self, path: Path, digest: str, size_bytes: int) -> None:
        target = self._path(digest)
        with self._lock(fcntl.LOCK_SH):
            known = self.stat(digest)
            if known is not None and known.size_bytes == size_bytes:
                os.utime(target)
                return
            os.utime(path)
            path.chmod(0o444)
            move(path, target)

    def stat(self, digest: str) -> Stored | None:
        try:
            found = self._path(digest).stat()
        except FileNotFoundError:
            return None
        return Stored(digest, found.st_size, time.time() - found.st_mtime)

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        file = self.local_path(digest).open("rb")

        def chunks() -> Iterator[bytes]:
            with file:
                file.seek(start)
                left = end - start
                while left > 0 and (chunk := file.read(min(READ_BYTES, left))):
                    left -= len(chunk)
                    yield chunk

        return chunks()

    def local_path(self, digest: str) -> Path:
        path = self._path(digest)
        if not path.exists():
            raise missing(digest)
        return path

    def signed_url(self, digest: str, expires_s: float) -> str | None:
        return None

    def free(self, digest: str, older_than_s: float) -> int | None:
        with self._lock(fcntl.LOCK_EX):
            found = self.stat(digest)
            if found is None or found.age_s <= older_than_s:
                return None
            self._path(digest).unlink()
            return found.size_bytes

    def stored(self) -> Iterator[Stored]:
        for path in (self._root / "sha256").glob("??/??/*"):
            found = self.stat(path.name)
            if found is not None:
                yield found

    def copies(self) -> Iterable[Path]:
        return ()
