"""The bodies that bring an upload in pieces: appended (tus 1.0), or whole parts, several at once.

Each piece is durable and noted before the next is read, so whatever ends a request loses `part_bytes` at most.
"""

from __future__ import annotations

import hashlib

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.deps import Service
from graftery.errors import Conflict, GrafteryError
from graftery.spec.uploading import UploadOut
from registry import catalogue
from registry.access.caller import check_name
from registry.pieces import Piece


def look(service: Service, upload: str) -> UploadOut:
    """Where an upload stands.

    Raises:
        NotFound: there is none, or it has expired.
    """
    with service.database.read() as session:
        return catalogue.upload_out(session, catalogue.get_upload(session, upload))


def look_to_change(service: Service, upload: str) -> UploadOut:
    """The same, for who may publish under its name.

    Raises:
        AccessRefused: `forbidden`.
    """
    found = look(service, upload)
    check_name(found.name)
    return found


async def append(request: Request, service: Service, upload: UploadOut, offset: int) -> int:
    """Take the body from `offset` on; where it breaks off, what has come is kept. Gives the new offset.

    Raises:
        Conflict: `upload_offset`, with the right `offset`.
        GrafteryError: `file_too_large`: there is more than was announced.
    """
    if offset != upload.offset:
        raise Conflict(
            f"the upload stands at {upload.offset}, and Upload-Offset says {offset}",
            code="upload_offset",
            hint=f"go on from {upload.offset}",
            offset=upload.offset,
        )
    piece = bytearray()
    try:
        async for chunk in request.stream():
            if offset + len(piece) + len(chunk) > upload.size_bytes:
                raise GrafteryError(
                    f"the upload was announced with {upload.size_bytes} bytes, and there are more",
                    code="file_too_large",
                    limit_bytes=upload.size_bytes,
                )
            piece += chunk
            if len(piece) >= upload.part_bytes:
                offset = await _keep(service, upload.id, offset, piece)
    except ClientDisconnect:
        await _keep(service, upload.id, offset, piece)
        raise
    return await _keep(service, upload.id, offset, piece)


async def take_part(request: Request, service: Service, upload: UploadOut, number: int, promised: str | None) -> None:
    """Take a whole part; one that comes twice is kept once.

    Raises:
        GrafteryError: `request_invalid`: there is no such part, or its size is another; `digest_mismatch`.
    """
    start = number * upload.part_bytes
    size = min(upload.part_bytes, upload.size_bytes - start)
    if size <= 0:
        last = (upload.size_bytes - 1) // upload.part_bytes
        raise GrafteryError(f"there is no part {number}: the last one is {last}", code="request_invalid")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > size:
            break
    if len(body) != size:
        raise GrafteryError(
            f"part {number} has {size} bytes, and {'more' if len(body) > size else len(body)} came",
            code="request_invalid",
            hint=f"send the {size} bytes from {start} on",
        )
    if promised is not None and (found := hashlib.sha256(body).hexdigest()) != promised:
        raise GrafteryError(
            f"part {number} has the sha256 {found}, and Repr-Digest says {promised}",
            code="digest_mismatch",
            hint="it was changed on its way: send it again",
        )
    await _keep(service, upload.id, start, body)


async def _keep(service: Service, upload: str, start: int, piece: bytearray) -> int:
    """Bytes first, row second. Empties the piece, and gives where the next one begins."""
    data = bytes(piece)
    piece.clear()

    def keep() -> None:
        service.store.write_piece(upload, start, data)
        with service.database.transaction() as session:
            catalogue.note_piece(session, upload, Piece(start, start + len(data)), service.settings.upload_expires_s)

    if data:
        await run_in_threadpool(keep)
    return start + len(data)
