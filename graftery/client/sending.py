"""Files on their way to a service: not at all where it has the bytes, at once where they are few, else in parts.

What has arrived is kept by the service: after a cut connection or a killed service, and in the next call, the rest is sent.
"""

from __future__ import annotations

import hashlib
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from graftery.client.answers import parse
from graftery.client.transfer import UPLOAD_TIMEOUT, Address, upload
from graftery.client.transport import Transport, broke
from graftery.errors import GrafteryError, NotFound, ServiceError, Unavailable
from graftery.spec.limits import MIB
from graftery.spec.uploading import Target, UploadOut, UploadRequest

IN_PARTS_BYTES = 16 * MIB
"""Files from this size on go in parts."""
AT_ONCE = 4
PATIENCE_S = 60.0
"""For so long a service may be away, or say 503, without a byte getting through."""
PAUSE_S = 0.5


class _Patience:
    """Bears errors that may pass, for `PATIENCE_S` from the first one on after bytes got through."""

    def __init__(self) -> None:
        self.reached = False
        self._failing_since: float | None = None

    def worked(self) -> None:
        self._failing_since = None

    def bear(self, error: GrafteryError) -> None:
        """Wait a moment, or raise the error."""
        away = isinstance(error, ServiceError) and broke(error)
        self.reached |= bool(error.details.get("reached"))
        self._failing_since = self._failing_since or time.monotonic()
        passes = self.reached if away else isinstance(error, Unavailable)
        if not passes or time.monotonic() - self._failing_since > PATIENCE_S:
            raise error
        time.sleep(PAUSE_S)


def send(transport: Transport, address: Address, file: Path, digest: str, target: Target) -> httpx.Response:
    """Publish a file's bytes under `address`, whose path ends with the name.

    Raises:
        GrafteryError: the service's refusal; nothing of the file is published.
        ServiceError: the service was away for too long. What has arrived is kept for the next call, for a day.
    """
    patience = _Patience()
    while True:
        try:
            known = _has(transport, address, digest)
            patience.reached = True
            if known:
                return _publish(transport, address, digest=digest)
            if file.stat().st_size < IN_PARTS_BYTES:
                return upload(transport, address, file, digest)
            return _in_parts(transport, address, _Parts(transport, file, digest, address, patience), target)
        except GrafteryError as error:
            patience.bear(error)


def _has(transport: Transport, address: Address, digest: str) -> bool:
    """Whether the service has these bytes, and may say so."""
    try:
        transport.get(f"/v1/blobs/{digest}", name=address.name)
    except NotFound:
        return False
    return True


def _publish(transport: Transport, address: Address, **there: str) -> httpx.Response:
    """PUT without a body: the bytes are there. Sent once; the caller looks again where it breaks."""
    params = {**address.params, **there}
    return transport.request("PUT", address.path, params=params, timeout=UPLOAD_TIMEOUT)


def _in_parts(transport: Transport, address: Address, parts: _Parts, target: Target) -> httpx.Response:
    size = parts.file.stat().st_size
    request = UploadRequest(name=address.name, size_bytes=size, digest=parts.digest, target=target)
    found = parse(UploadOut, transport.post("/v1/uploads", request.model_dump()))
    try:
        while found.missing:  # a service tells of the first 10 000 only
            parts.send(found)
            found = parse(UploadOut, transport.get(f"/v1/uploads/{found.id}"))
        parts.progress(found.size_bytes, found.size_bytes)
        return _publish(transport, address, upload=found.id)
    except NotFound as error:
        # It expired; or an earlier request to publish it was heard, and the answer was not: look again.
        raise Unavailable(f"the upload {found.id} is gone", hint="try again") from error


class _Parts:
    """Sends the parts of one file, some at once; after an error no more are begun."""

    def __init__(self, transport: Transport, file: Path, digest: str, address: Address, patience: _Patience) -> None:
        self.file = file
        self.digest = digest
        self._transport = transport
        self.progress: Callable[[int, int], None] = address.progress or (lambda done, total: None)
        self._patience = patience
        self._lock = threading.Lock()
        self._done = 0

    def send(self, found: UploadOut) -> None:
        sizes = {
            number: min(found.part_bytes, found.size_bytes - number * found.part_bytes) for number in found.missing
        }
        self._done = found.size_bytes - sum(sizes.values())
        stop = threading.Event()

        def one(number: int) -> None:
            if stop.is_set():
                return
            try:
                self._one(found, number, sizes[number])
            except BaseException:
                stop.set()
                raise

        with ThreadPoolExecutor(AT_ONCE) as pool:
            sent = [pool.submit(one, number) for number in found.missing]
            try:
                for each in sent:
                    each.result()
            finally:
                stop.set()

    def _one(self, found: UploadOut, number: int, size: int) -> None:
        with self.file.open("rb") as source:
            source.seek(number * found.part_bytes)
            body = source.read(size)
        header = f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"
        headers = {"Content-Type": "application/octet-stream", "Repr-Digest": header}
        self._transport.request("PUT", f"/v1/uploads/{found.id}/parts/{number}", content=body, headers=headers)
        with self._lock:
            self._patience.worked()
            self._done += size
            self.progress(self._done, found.size_bytes)
