"""An S3 bucket that keeps bytes by digest. Credentials, region and endpoint come from the AWS_ environment variables."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from graftery.errors import StoreError
from registry.drivers import READ_BYTES, Stored, key_of, missing, move
from registry.objects import asked
from registry.staging import require_free

# What one request reads. Its time limit, and that of trying it again, count from its start, however well it gets on.
PIECE_BYTES = 8 * 1024 * 1024


class BucketDriver:
    """A bucket. It has no locks: what protects a publish from `free` is the grace time, against a window of one request.

    Args:
        url: `s3://bucket/prefix`.
        cache: a local folder for copies of what has to be a file.
        free_bytes: no copy is made that would leave less free than this.
    """

    def __init__(self, url: str, cache: Path, free_bytes: int) -> None:
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT", "")
        self.objects = S3Store.from_url(url, client_options={"allow_http": endpoint.startswith("http://")})
        self._cache = cache
        self._free_bytes = free_bytes
        cache.mkdir(parents=True, exist_ok=True)

    def publish(self, path: Path, digest: str, size_bytes: int) -> None:
        # Known bytes are sent again: S3 has no other way to make an object young, and `free` looks at the age.
        with asked():
            obstore.put(self.objects, key_of(digest), path)

    def stat(self, digest: str) -> Stored | None:
        try:
            with asked():
                meta = obstore.head(self.objects, key_of(digest))
        except FileNotFoundError:
            return None
        return Stored(digest, meta["size"], _age_s(meta["last_modified"]))

    def read(self, digest: str, start: int, end: int) -> Iterator[bytes]:
        if start >= end:
            return iter(())
        first = self._piece(digest, start, end)  # whether the bytes are there is told now, not at the first chunk

        def chunks() -> Iterator[bytes]:
            yield from _chunks(first)
            for at in range(start + PIECE_BYTES, end, PIECE_BYTES):
                yield from _chunks(self._piece(digest, at, end))

        return chunks()

    def _piece(self, digest: str, start: int, end: int) -> bytes:
        """The bytes from `start`, at most `PIECE_BYTES` of them."""
        try:
            with asked():
                stop = min(start + PIECE_BYTES, end)
                return bytes(obstore.get_range(self.objects, key_of(digest), start=start, end=stop))
        except FileNotFoundError:
            raise missing(digest) from None

    def local_path(self, digest: str) -> Path:
        path = self._cache / key_of(digest)
        try:
            os.utime(path)  # what is in use stays; `Store.sweep` drops the rest
        except FileNotFoundError:
            self._copy(digest, path)
        return path

    def _copy(self, digest: str, path: Path) -> None:
        found = self.stat(digest)
        if found is None:
            raise missing(digest)
        require_free(self._cache, self._free_bytes + found.size_bytes)
        handle, name = tempfile.mkstemp(dir=self._cache)
        try:
            with os.fdopen(handle, "wb") as file:
                computed = hashlib.sha256()
                for chunk in self.read(digest, 0, found.size_bytes):
                    computed.update(chunk)
                    file.write(chunk)
            if computed.hexdigest() != digest:
                raise StoreError(f"The object {key_of(digest)} has other bytes than its name says")
            move(Path(name), path)
        finally:
            Path(name).unlink(missing_ok=True)

    def signed_url(self, digest: str, expires_s: float) -> str | None:
        return str(obstore.sign(self.objects, "GET", key_of(digest), timedelta(seconds=expires_s)))

    def free(self, digest: str, older_than_s: float) -> int | None:
        found = self.stat(digest)
        if found is None or found.age_s <= older_than_s:
            return None
        with asked():
            obstore.delete(self.objects, key_of(digest))
        (self._cache / key_of(digest)).unlink(missing_ok=True)
        return found.size_bytes

    def stored(self) -> Iterator[Stored]:
        with asked():
            for batch in obstore.list(self.objects, prefix="sha256"):
                for meta in batch:
                    yield Stored(meta["path"].rsplit("/", 1)[-1], meta["size"], _age_s(meta["last_modified"]))

    def copies(self) -> Iterable[Path]:
        return (path for path in self._cache.glob("**/*") if path.is_file())


def _chunks(piece: bytes) -> Iterator[bytes]:
    return (piece[at : at + READ_BYTES] for at in range(0, len(piece), READ_BYTES))


def _age_s(moment: datetime) -> float:
    return (datetime.now(UTC) - moment).total_seconds()
