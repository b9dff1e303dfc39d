"""Immutable bytes as an answer: whole, a part, or not changed."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Response
from fastapi.responses import StreamingResponse

from app.edge.openapi import BINARY
from app.files.ranges import matches, span
from registry.store import Store

FILE = {BINARY: {"schema": {"type": "string", "format": "binary"}}, "application/json": {"schema": {}}}
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": FILE},
    206: {"description": "The part that Range asks for", "content": FILE},
    307: {
        "description": "The store itself has it, at a signed URL that is good for a while; ask there with the same Range"
    },
    304: {"description": "Not changed"},
}


@dataclass(frozen=True)
class Wanted:
    """What of a file is asked for: the conditional and range headers of a request."""

    if_none_match: str | None
    range: str | None
    if_range: str | None


async def _wanted(
    if_none_match: Annotated[str | None, Header()] = None,
    range: Annotated[str | None, Header(description="One range of bytes: bytes=0-1023")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Wanted:
    return Wanted(if_none_match, range, if_range)


WantedDep = Annotated[Wanted, Depends(_wanted)]


@dataclass(frozen=True)
class File:
    """Bytes in the store, and how they are handed out.

    Args:
        forever: the address names these bytes for ever.
        guarded: keys are asked for: a cache that several share must not hand the bytes to somebody without one.
    """

    digest: str
    size_bytes: int
    name: str
    media_type: str = BINARY
    forever: bool = False
    guarded: bool = False

    @property
    def headers(self) -> dict[str, str]:
        whose = "private" if self.guarded else "public"
        return {
            "ETag": f'"{self.digest}"',
            "Accept-Ranges": "bytes",
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(self.digest)).decode()}:",
            "Content-Disposition": f'attachment; filename="{self.name}"',
            # A digest names these bytes for ever; a name, an alias or a number may be deleted or moved.
            "Cache-Control": f"{whose}, max-age=31536000, immutable" if self.forever else "no-cache",
        }


def file_answer(store: Store, file: File, wanted: Wanted, *, only_headers: bool = False) -> Response:
    """The answer to a GET, or with `only_headers` to a HEAD, for a file.

    Raises:
        GrafteryError: `range_invalid`.
        StoreError: `store_corrupt`: the bytes are missing.
    """
    headers = file.headers
    if matches(wanted.if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    # A range is of a GET: a HEAD tells the whole size (RFC 9110, 14.2).
    part = None if only_headers else span(wanted.range, wanted.if_range, headers["ETag"], file.size_bytes)
    start, end = part or (0, file.size_bytes)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size_bytes}"
    elsewhere = None if only_headers else store.signed_url(file.digest)
    if elsewhere is not None:
        store.size(file.digest)  # missing bytes are ours to report
        kept = {name: headers[name] for name in ("ETag", "Repr-Digest")}
        return Response(status_code=307, headers=kept | {"Location": elsewhere, "Cache-Control": "no-store"})
    headers["Content-Length"] = str(end - start)
    bytes_: Iterator[bytes] = iter(()) if only_headers else store.read(file.digest, start, end)
    return StreamingResponse(bytes_, 206 if part else 200, headers, file.media_type)
