"""Bytes by their sha256: staged, hashed on the way, published whole or not at all. The one home of the store's layout.

sha256/ab/cd/HASH     published bytes (a local folder, or objects in a bucket)
staging/*             files on their way in; what a crash leaves is swept
uploads/*             what has come of uploads that come in pieces (registry/pieces.py)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from registry.buckets import BucketDriver
from registry.drivers import Driver, FolderDriver, Stored, missing
from registry.pieces import BucketPieces, FolderPieces, Kept, Piece, Pieces
from registry.settings import Settings
from registry.staging import FULL, age_s, full_is_an_error, in_use, is_in_use, require_free

CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Blob:
    """Bytes that are in the store, or staged for it."""

    digest: str
    size_bytes: int


class Staging:
    """A file on its way into the store. `path` can be read by others once `finish` was called."""

    def __init__(self, path: Path, file: BinaryIO, driver: Driver, free_bytes: int, blob: Blob | None = None) -> None:
        self.path = path
        self._file = file
        self._driver = driver
        self._free_bytes = free_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._blob = blob

    def write(self, data: bytes | memoryview) -> None:
        """Append.

        Raises:
            StoreError: `store_full`: there is no room, or there would be less than `free_bytes` after this.
        """
        with full_is_an_error():
            require_free(self.path.parent, self._free_bytes + len(data))
            self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def write_all(self, pieces: Iterable[bytes]) -> None:
        """Append them one after the other. Raises as `write` does."""
        for piece in pieces:
            self.write(piece)

    def finish(self) -> Blob:
        """Close the file: all of it is on the disk. Gives digest and size."""
        if self._blob is None:
            with full_is_an_error():
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
            self._blob = Blob(self._hash.hexdigest(), self._size)
        return self._blob

    def publish(self) -> Blob:
        """Put the bytes under their digest; when this returns, they survive a loss of power. Known bytes are kept once.

        Raises:
            StoreError: `store_full`.
        """
        blob = self.finish()
        with full_is_an_error():
            self._driver.publish(self.path, blob.digest, blob.size_bytes)
        return blob

    def discard(self) -> None:
        """Close and remove the staged file, if it is still there."""
        # A buffered rest that no longer fits must not hide the error that brought us here.
        try:
            self._file.close()
        except OSError as error:
            if error.errno not in FULL:
                raise
        finally:
            self.path.unlink(missing_ok=True)


class Store:
    """The bytes of one service: a folder under `settings.home`, a `file://` folder, or an `s3://bucket/prefix`."""

    def __init__(self, settings: Settings) -> None:
        url = settings.store_url or str(settings.home / "store")
        self._free_bytes = settings.free_bytes
        self._signed_s = settings.redirect_downloads_s
        if url.startswith("s3://"):
            scratch = settings.home / "store"
            bucket = BucketDriver(url, scratch / "cache", self._free_bytes)
            self._driver: Driver = bucket
            self._pieces: Pieces = BucketPieces(bucket.objects)
        else:
            scratch = Path(url.removeprefix("file://"))
            self._driver, self._pieces = FolderDriver(scratch), FolderPieces(scratch)
        self.staging = scratch / "staging"
        self.staging.mkdir(parents=True, exist_ok=True)

    def check_room(self) -> None:
        """Raise `store_full` where this machine's disk has less free than `free_bytes`."""
        with full_is_an_error():
            require_free(self.staging, self._free_bytes)

    @contextmanager
    def stage(self, size_bytes: int = 0) -> Iterator[Staging]:
        """Open a staging file; whatever happens, none is left behind.

        Args:
            size_bytes: what is expected, if it is known: refused at once where there is no room for it.

        Raises:
            StoreError: `store_full`.
        """
        with full_is_an_error():
            require_free(self.staging, self._free_bytes + size_bytes)
            handle, name = tempfile.mkstemp(dir=self.staging)
        staging = Staging(Path(name), os.fdopen(handle, "wb"), self._driver, self._free_bytes)
        try:
            with in_use(staging.path):
                yield staging
        finally:
            staging.discard()

    def open_upload(self, upload: str, size_bytes: int) -> None:
        """Begin to keep the pieces of an upload.

        Raises:
            StoreError: `store_full`: there is no room for all of it.
        """
        with full_is_an_error():
            require_free(self.staging, self._free_bytes + size_bytes)
            self._pieces.open(upload)

    def write_piece(self, upload: str, start: int, data: bytes) -> None:
        """Keep a piece; when this returns, it survives a loss of power.

        Raises:
            NotFound: the upload was dropped.
            StoreError: `store_full`.
        """
        with full_is_an_error():
            require_free(self.staging, self._free_bytes + len(data))
            self._pieces.write(upload, start, data)

    @contextmanager
    def assembled(self, upload: str, pieces: Sequence[Piece]) -> Iterator[Staging]:
        """The upload as a finished staging file. Its pieces stay until `drop_upload`, so that this can be done again.

        Raises:
            StoreError: a piece is lost, or `store_full`.
        """
        with self.scratch() as folder, full_is_an_error():
            path = folder / "whole"
            self._pieces.assemble(upload, pieces, path)
            with path.open("rb") as file:
                blob = Blob(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
                yield Staging(path, file, self._driver, self._free_bytes, blob)

    def drop_upload(self, upload: str) -> None:
        """Forget the pieces of an upload."""
        self._pieces.drop(upload)

    def uploads(self) -> Iterator[Kept]:
        """Every upload of which something is kept."""
        return self._pieces.kept()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder on the staging disk for files that are made on the way in; gone afterwards."""
        with full_is_an_error(), tempfile.TemporaryDirectory(dir=self.staging) as folder, in_use(Path(folder)):
            yield Path(folder)

    def put_bytes(self, data: bytes) -> Blob:
        """Store bytes that are at hand."""
        with self.stage(len(data)) as staging:
            staging.write(data)
            return staging.publish()

    def put_file(self, path: str | Path) -> Blob:
        """Store a copy of a local file."""
        with Path(path).open("rb") as source, self.stage(os.fstat(source.fileno()).st_size) as staging:
            while chunk := source.read(CHUNK_BYTES):
                staging.write(chunk)
            return staging.publish()

    def exists(self, digest: str) -> bool:
        return self._driver.stat(digest) is not None

    def size(self, digest: str) -> int:
        """Size in bytes.

        Raises:
            StoreError: there are no such bytes.
        """
        found = self._driver.stat(digest)
        if found is None:
            raise missing(digest)
        return found.size_bytes

    def read(self, digest: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` to before `end`, in chunks. Missing bytes are reported here, not at the first chunk.

        Raises:
            StoreError: there are no such bytes.
        """
        size = self.size(digest)
        return self._driver.read(digest, start, size if end is None else min(end, size))

    def signed_url(self, digest: str) -> str | None:
        """Where the bytes can be fetched from the store itself for a while, if that is to be told (`redirect_downloads_s`)."""
        return None if self._signed_s is None else self._driver.signed_url(digest, self._signed_s)

    def local_path(self, digest: str) -> Path:
        """A local file with the bytes: the very file of a folder, a verified copy from a bucket. Read it, do not keep it.

        Raises:
            StoreError: there are no such bytes, or they have another digest; `store_full`: a copy has no room.
        """
        with full_is_an_error():
            return self._driver.local_path(digest)

    def delete(self, digest: str) -> bool:
        """Remove bytes, however young; False where there were none. See `free`."""
        return self._driver.free(digest, older_than_s=float("-inf")) is not None

    def free(self, digest: str, older_than_s: float) -> int | None:
        """Remove bytes that nobody published within `older_than_s`: their size, or None where they were kept or missing."""
        return self._driver.free(digest, older_than_s)

    def stored(self) -> Iterator[Stored]:
        """Everything that is published, in no order."""
        return self._driver.stored()

    def sweep(self, older_than_s: float) -> int:
        """Remove staged files (and local copies) that nobody uses, wrote or asked for within `older_than_s`; how many."""
        there = (*self.staging.iterdir(), *self._driver.copies())
        old = [path for path in there if age_s(path) > older_than_s and not is_in_use(path)]
        for path in old:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        return len(old)
