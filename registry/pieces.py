"""Bytes of uploads that are not whole yet. Pieces may come in any order, twice, over any host, and several at once.

uploads/ID          in a folder: a sparse file, the pieces at their places
uploads/ID.whole    the same when all of it was there: nobody writes to it any more
uploads/ID/A-B      in a bucket: one object for each piece, the bytes from A to before B
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import obstore

from graftery.errors import NotFound, StoreError
from registry.objects import asked


class Piece(NamedTuple):
    """The bytes from `start` to before `stop`."""

    start: int
    stop: int


class Kept(NamedTuple):
    """What is kept of an upload, and since when nothing came."""

    upload: str
    age_s: float


def reached(pieces: Sequence[Piece]) -> int:
    """How far the bytes go from the first one on without a hole."""
    at = 0
    for start, stop in sorted(pieces):
        if start > at:
            break
        at = max(at, stop)
    return at


def missing_parts(pieces: Sequence[Piece], size_bytes: int, part_bytes: int) -> Iterator[int]:
    """The numbers, from 0, of the parts of which a byte is missing."""
    spans, begin = sorted(pieces), 0
    at = 0  # all bytes of this part before `at` are there
    for number in range(-(-size_bytes // part_bytes)):
        at, stop = max(at, number * part_bytes), min((number + 1) * part_bytes, size_bytes)
        while begin < len(spans) and spans[begin].start <= at < stop:
            at, begin = max(at, spans[begin].stop), begin + 1
        if at < stop:
            yield number


class Pieces(Protocol):
    """Keeps the pieces of uploads until they are put together or dropped."""

    def open(self, upload: str) -> None: ...

    def write(self, upload: str, start: int, data: bytes) -> None:
        """When this returns, the piece survives a loss of power.

        Raises:
            NotFound: the upload was dropped.
        """

    def assemble(self, upload: str, pieces: Sequence[Piece], path: Path) -> None:
        """Make `path`, on the staging disk, a file of all pieces; no later `write` changes it.

        Raises:
            StoreError: a piece is lost.
        """

    def drop(self, upload: str) -> None: ...

    def kept(self) -> Iterator[Kept]: ...


class FolderPieces:
    """In a local folder, or one that all hosts share."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "uploads"
        self._folder.mkdir(parents=True, exist_ok=True)

    def _whole(self, upload: str) -> Path:
        return self._folder / f"{upload}.whole"

    def open(self, upload: str) -> None:
        (self._folder / upload).touch(exist_ok=False)

    def write(self, upload: str, start: int, data: bytes) -> None:
        with self._writing(upload) as file:
            if file is None:
                return
            left = memoryview(data)
            while left:
                written = os.pwrite(file.fileno(), left, start)
                start, left = start + written, left[written:]
            os.fsync(file.fileno())

    @contextmanager
    def _writing(self, upload: str) -> Iterator[BinaryIO | None]:
        """The file for one writer among others; None where the upload is whole, so that a piece that comes late is no news."""
        path = self._folder / upload
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                if not os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    raise FileNotFoundError(path)
                yield file
        except FileNotFoundError:
            if not self._whole(upload).exists():
                raise _gone(upload) from None
            yield None

    def assemble(self, upload: str, pieces: Sequence[Piece], path: Path) -> None:
        whole = self._whole(upload)
        try:
            (self._folder / upload).rename(whole)
        except FileNotFoundError:  # an earlier attempt was here
            if not whole.exists():
                raise _lost(upload) from None
        with whole.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # who still writes is waited for; nobody else gets in
        os.link(whole, path)

    def drop(self, upload: str) -> None:
        (self._folder / upload).unlink(missing_ok=True)
        self._whole(upload).unlink(missing_ok=True)

    def kept(self) -> Iterator[Kept]:
        for path in self._folder.iterdir():
            try:
                yield Kept(path.name.removesuffix(".whole"), time.time() - path.stat().st_mtime)
            except FileNotFoundError:
                continue


class BucketPieces:
    """In a bucket: any host takes any piece. Each is an object of its own, as S3's own parts may not be small."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def open(self, upload: str) -> None:
        """Nothing is needed before the first piece."""

    def write(self, upload: str, start: int, data: bytes) -> None:
        with asked():
            obstore.put(self._store, _key(upload, Piece(start, start + len(data))), data)

    def assemble(self, upload: str, pieces: Sequence[Piece], path: Path) -> None:
        at = 0
        with path.open("wb") as file:
            for piece in sorted(pieces):
                if piece.stop <= at:
                    continue
                file.write(self._read(upload, piece, at - piece.start))
                at = piece.stop
            file.flush()
            os.fsync(file.fileno())

    def _read(self, upload: str, piece: Piece, skip: int) -> bytes:
        try:
            with asked():
                found = obstore.get_range(self._store, _key(upload, piece), start=skip, end=piece.stop - piece.start)
        except FileNotFoundError:
            raise _lost(upload) from None
        return bytes(found)

    def drop(self, upload: str) -> None:
        with asked():
            for batch in obstore.list(self._store, prefix=f"uploads/{upload}"):
                obstore.delete(self._store, [meta["path"] for meta in batch])

    def kept(self) -> Iterator[Kept]:
        newest: dict[str, float] = {}
        with asked():
            for batch in obstore.list(self._store, prefix="uploads"):
                for meta in batch:
                    upload = meta["path"].split("/")[-2]
                    newest[upload] = max(newest.get(upload, 0.0), meta["last_modified"].timestamp())
        return (Kept(upload, time.time() - at) for upload, at in newest.items())


def _key(upload: str, piece: Piece) -> str:
    return f"uploads/{upload}/{piece.start}-{piece.stop}"


def _gone(upload: str) -> NotFound:
    return NotFound(f"There is no upload {upload}", hint="it expired, was given up, or is published: start another one")


def _lost(upload: str) -> StoreError:
    return StoreError(f"The store has lost bytes of the upload {upload}", hint="start another upload of the file")
