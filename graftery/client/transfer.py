"""Bytes to and from a service: streamed, counted, resumed, verified. No transfer holds a file in memory."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

import httpx

from graftery.client.transport import Transport, broke
from graftery.errors import Conflict, ServiceError, StoreError

Progress = Callable[[int, int], None]
"""Called with the bytes that are through and the bytes in all."""

CHUNK_BYTES = 1024**2
MAX_TRIES = 5
PAUSE_S = 0.5
# The answer to an upload comes after the verifier has looked at the file.
UPLOAD_TIMEOUT = httpx.Timeout(connect=10.0, read=900.0, write=120.0, pool=30.0)


def sha256_of(path: Path) -> str:
    """sha256 of a file, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Address:
    """Where to upload to, and what to say besides."""

    path: str
    params: Mapping[str, Any]
    progress: Progress | None = None

    @property
    def name(self) -> str:
        """The path's last part: under which the file is published."""
        return unquote(self.path.rpartition("/")[2])


def upload(transport: Transport, address: Address, file: Path, digest: str) -> httpx.Response:
    """PUT a file's bytes, with their digest for the service to compare.

    The same bytes under the same name are the same version, so a broken connection is answered by sending again.
    """
    size_bytes = file.stat().st_size
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size_bytes),
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:",
    }
    for attempt in range(1, MAX_TRIES + 1):
        sent: dict[str, Any] = {"content": _chunks(file, size_bytes, address.progress), "params": address.params}
        try:
            return transport.request("PUT", address.path, headers=headers, timeout=UPLOAD_TIMEOUT, **sent)
        except ServiceError as error:
            if not error.details.get("reached") or attempt == MAX_TRIES:
                raise
        time.sleep(PAUSE_S)
    raise AssertionError("the loop returns or raises")


@dataclass(frozen=True)
class Wanted:
    """A file to download: where it is, and what it must be."""

    path: str
    digest: str
    size_bytes: int
    progress: Progress | None = None


def download(transport: Transport, wanted: Wanted, target: Path) -> None:
    """GET a file into `target`, which appears complete and verified or not at all.

    What has arrived stays in `.NAME.DIGEST.part` beside the target, so that a later call goes on from there.

    Raises:
        StoreError: `digest_mismatch`, the bytes are not those that were asked for.
        ServiceError: the connection broke, again and again, without a byte between.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.parent / f".{target.name}.{wanted.digest[:16]}.part"
    with _sole(partial) as file:
        try:
            _fill(transport, wanted, file)
            _verify(partial, wanted)
        except StoreError:
            partial.unlink()
            raise
        os.fsync(file.fileno())
        partial.replace(target)


def _chunks(file: Path, size_bytes: int, progress: Progress | None) -> Iterator[bytes]:
    done = 0
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            done += len(chunk)
            if progress is not None:
                progress(done, size_bytes)


def _fill(transport: Transport, wanted: Wanted, file: BinaryIO) -> None:
    """Append until the file has its size; gives up after MAX_TRIES broken connections that brought nothing."""
    fruitless = 0
    while (before := file.seek(0, os.SEEK_END)) < wanted.size_bytes:
        try:
            _receive(transport, wanted, file)
            broken = ServiceError(f"{wanted.path}: the body ended early", reached=True)
        except ServiceError as error:
            if not broke(error):
                raise
            broken = error
        fruitless = 0 if file.tell() > before else fruitless + 1
        if fruitless == MAX_TRIES or (fruitless and before == 0 and not broken.details["reached"]):
            raise broken
        time.sleep(PAUSE_S if fruitless else 0)
    file.flush()


def _receive(transport: Transport, wanted: Wanted, file: BinaryIO) -> None:
    have = file.tell()
    # Identity: a compressed body would have other offsets and another length.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with transport.stream(wanted.path, headers) as response:
        _check_etag(response.history[0] if response.history else response, wanted.digest)
        if have and not _continues(response, have):
            file.truncate(0)
        for chunk in response.iter_raw():
            file.write(chunk)
            if file.tell() > wanted.size_bytes:
                raise StoreError(
                    f"{wanted.path}: more than the stated {wanted.size_bytes} bytes", code="digest_mismatch"
                )
            if wanted.progress is not None:
                wanted.progress(file.tell(), wanted.size_bytes)


def _verify(partial: Path, wanted: Wanted) -> None:
    if (found := sha256_of(partial)) != wanted.digest:
        raise StoreError(
            f"{wanted.path}: the bytes have sha256 {found[:12]}..., not {wanted.digest[:12]}...",
            code="digest_mismatch",
            hint="nothing was kept; try again",
        )


def _check_etag(response: httpx.Response, digest: str) -> None:
    """The ETag of bytes is their digest: another one means another file, and nothing of it may be appended."""
    etag = response.headers.get("ETag", "")
    if digest not in etag:
        raise StoreError(f"the service offers {etag or 'bytes without an ETag'}, not {digest}", code="digest_mismatch")


def _continues(response: httpx.Response, have: int) -> bool:
    return response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


@contextmanager
def _sole(partial: Path) -> Iterator[BinaryIO]:
    """The partial file, opened to append, for one process at a time."""
    with partial.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = partial.exists() and os.path.samestat(partial.stat(), os.fstat(file.fileno()))
        except BlockingIOError:
            free = False
        if not free:
            raise Conflict(f"another process is writing {partial}", hint="wait for it, or pull to another path")
        yield file
