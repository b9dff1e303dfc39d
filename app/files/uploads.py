"""An upload: stream the body to the store's staging, check it in a child process, publish the bytes, then the row.

In place of a body a request may name bytes that are there: an upload that came in pieces (`app.files.arrivals`), or a digest.

Nothing is held in memory, no transaction is open while the body streams or the file is checked, and whatever ends the
request early (a refusal, a full disk, a client that hangs up) leaves nothing staged.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ParamSpec, TypedDict, TypeVar, Unpack

import anyio
from fastapi import Depends, Header, Query, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool

from app.deps import Service
from app.files.arrivals import Received, check_quota, keep_quota, of_store, of_upload
from graftery.errors import GrafteryError
from graftery.spec.limits import MIB
from graftery.spec.manifest import Kind
from graftery.spec.names import DIGEST_PATTERN
from graftery.spec.wire import Tag, VersionOut
from registry import catalogue
from registry.store import Blob, Staging

CHUNK_BYTES = MIB
# A client that sends a byte at a time is not to fill the memory with what Python needs for each of them.
CHUNK_PIECES = 64
# A refused body up to this size is read to its end by the server; past it the connection is closed.
UNREAD_BYTES = 4 * MIB
_REFUSED_TYPES = ("multipart/", "application/x-www-form-urlencoded")
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?(?=,|$)")

_Args = ParamSpec("_Args")
_Found = TypeVar("_Found")

DigestHeader = Annotated[
    str | None,
    Header(description="sha-256=:<base64>: of the body; 422 if what arrives is something else (RFC 9530)"),
]

DescriptionQuery = Annotated[str | None, Query(max_length=65_536, description="Of the name; markdown")]
TagQuery = Annotated[list[Tag] | None, Query(max_length=64, description="Of the version")]


class Publication(TypedDict):
    """What an upload publishes (`registry.catalogue.publish`)."""

    name: str
    kind: Kind
    blob: Blob
    manifest: dict[str, Any] | None
    facts: dict[str, Any]
    metrics: dict[str, Any] | None
    description: str | None
    tags: Sequence[str]


@dataclass(frozen=True)
class There:
    """Bytes that are there already, and that a request names in place of a body."""

    upload: str | None
    digest: str | None


async def _there(
    upload: Annotated[
        str | None,
        Query(pattern="^[0-9a-f]{32}$", description="No body: publish this upload, all of whose parts have come"),
    ] = None,
    digest: Annotated[
        str | None,
        Query(pattern=f"^{DIGEST_PATTERN}$", description="No body: publish these bytes, which the namespace has"),
    ] = None,
) -> There:
    if upload is not None and digest is not None:
        raise GrafteryError("both upload and digest are given", code="request_invalid", hint="give one of them")
    return There(upload, digest)


ThereDep = Annotated[There, Depends(_there)]


@asynccontextmanager
async def received(request: Request, service: Service, name: str, there: There) -> AsyncIterator[Received]:
    """The file that the request sends or names; what is not published by the end of the block is removed.

    Raises:
        GrafteryError: `request_invalid` where there is a body and is not to be; what the three ways raise.
    """
    if there.upload is None and there.digest is None:
        async with _of_body(request, service, name) as found:
            yield found
        return
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        with unread_body(request):
            raise GrafteryError("there is a body, and it is not needed", code="request_invalid", hint="send none")
    if there.upload is not None:
        async with of_upload(service, name, there.upload) as found:
            yield found
    elif there.digest is not None:
        yield await run_in_threadpool(of_store, service, name, there.digest)


@asynccontextmanager
async def _of_body(request: Request, service: Service, name: str) -> AsyncIterator[Received]:
    """Stream the request's body to staging.

    Raises:
        GrafteryError: `unsupported_media_type`, `file_too_large`, `digest_mismatch`, `request_invalid`.
        StoreError: `store_full`, `quota_exceeded`.
        ClientDisconnect: the client hung up.
    """
    limit = service.settings.limits.file_bytes
    with unread_body(request):
        promised = _check_headers(request, limit)
        stated = request.headers.get("content-length", "")
        await run_in_threadpool(check_quota, service, name, int(stated) if stated.isdecimal() else 0, promised)
    async with contextmanager_in_threadpool(service.store.stage()) as staging:
        with unread_body(request):
            blob = await _stream(request, staging, limit)
        if promised is not None and promised != blob.digest:
            raise GrafteryError(
                f"the body has the sha256 {blob.digest}, and Repr-Digest says {promised}",
                code="digest_mismatch",
                hint="the body was changed or cut on its way: send it again",
            )
        yield Received(staging.path, blob, staging.publish)


async def _stream(request: Request, staging: Staging, limit: int) -> Blob:
    """Write the body as it comes, with one hop to a thread for `CHUNK_BYTES` of it, and no more than that in memory.

    The pieces are not joined: a copy into new memory takes about as long as their sha256.
    """
    taken = held = 0
    pieces: list[bytes] = []
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise _too_large(limit)
        pieces.append(chunk)
        held += len(chunk)
        if held >= CHUNK_BYTES or len(pieces) >= CHUNK_PIECES:
            await run_in_threadpool(staging.write_all, pieces)
            pieces, held = [], 0
    await run_in_threadpool(staging.write_all, pieces)
    return await run_in_threadpool(staging.finish)


@contextmanager
def unread_body(request: Request) -> Iterator[None]:
    """A refusal inside this block leaves a body that nobody reads: where that is long, the connection is closed."""
    try:
        yield
    except Exception:
        stated = request.headers.get("content-length", "")
        request.state.body_unread = not stated.isdecimal() or int(stated) > UNREAD_BYTES
        raise


def _check_headers(request: Request, limit: int) -> str | None:
    """Refuse what the headers alone forbid; gives the digest that the client promised."""
    media_type = request.headers.get("content-type", "").lower()
    if media_type.startswith(_REFUSED_TYPES):
        raise GrafteryError(
            f"the body is {media_type.split(';')[0]}",
            code="unsupported_media_type",
            hint="send the file's bytes as they are (curl --upload-file, or --data-binary @FILE)",
        )
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise GrafteryError(f"the body is encoded as {encoding}", code="unsupported_media_type", hint="send it plain")
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large(limit)
    return promised_digest(request.headers.get("repr-digest"))


def promised_digest(header: str | None) -> str | None:
    """sha256 as hex digits from a Repr-Digest header (RFC 9530); None where it names only other algorithms."""
    if header is None:
        return None
    match = _SHA256.search(header)
    if match is None:
        return None
    try:
        digest = base64.b64decode(match[1], validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 32:
        raise GrafteryError(
            "the sha-256 in Repr-Digest is not 32 bytes in base64",
            code="request_invalid",
            hint="write sha-256=:<base64 of the 32 bytes>:",
        )
    return digest.hex()


def _too_large(limit: int) -> GrafteryError:
    return GrafteryError(f"the file is over {limit} bytes", code="file_too_large", limit_bytes=limit)


async def check(
    service: Service, question: Callable[_Args, _Found], *args: _Args.args, **kwargs: _Args.kwargs
) -> _Found:
    """Ask the verifier in a thread; who waits for a free child waits here, and holds no thread."""
    return await anyio.to_thread.run_sync(partial(question, *args, **kwargs), limiter=service.verifying)


async def published(service: Service, received: Received, **fields: Unpack[Publication]) -> Response:
    """Publish in one transaction: 201 for a new version, 200 for one that was there."""

    def publish() -> tuple[VersionOut, bool]:
        with service.database.transaction() as session:
            row, created = catalogue.publish(session, **fields)
            if created:
                keep_quota(session, service.settings, fields["name"], received.upload)
            return catalogue.version_out(session, row), created

    version, created = await run_in_threadpool(publish)
    headers = {"Location": f"/v1/versions/{version.ref}"}
    return Response(version.model_dump_json(), 201 if created else 200, headers, "application/json")
