"""/v1/versions: immutable versions, their files, yanks and lineage."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.deps import ExactRefPath, Posting, Reading, RefPath, ServiceDep, Writing
from app.errors import problems
from app.openapi import BINARY
from app.ranges import matches, span
from graftery.spec.names import parse_reference
from graftery.spec.wire import LineageOut, VersionOut, YankRequest
from registry import catalogue
from registry.models import Version

router = APIRouter(prefix="/v1/versions", tags=["versions"])

KNOWN = ("not_found", "yanked", "name_invalid")
FILE = {BINARY: {"schema": {"type": "string", "format": "binary"}}, "application/json": {"schema": {}}}
FILE_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": FILE},
    206: {"description": "The part that Range asks for", "content": FILE},
    304: {"description": "Not changed"},
}


@router.get("/{ref}", responses=problems(*KNOWN))
def get_version(session: Reading, ref: RefPath) -> VersionOut:
    """What a reference names now."""
    return catalogue.version_out(session, catalogue.resolve(session, ref))


@router.delete("/{ref}", status_code=204, responses=problems(*KNOWN, "has_dependents"))
def delete_version(work: Writing, ref: ExactRefPath) -> None:
    """Delete a version that nothing was made from; its bytes are freed by the next collection."""
    catalogue.delete_version(work.session, ref)


@router.post("/{ref}/yank", responses=problems(*KNOWN, "idempotency_conflict"), response_model=VersionOut)
def yank_version(work: Posting, ref: ExactRefPath, request: YankRequest) -> Response:
    """Hide a version from names and aliases; its number and its digest still resolve, so nothing pinned breaks."""
    return work.answer(catalogue.version_out(work.session, catalogue.yank(work.session, ref, request.reason)))


@router.post("/{ref}/unyank", responses=problems(*KNOWN, "idempotency_conflict"), response_model=VersionOut)
def unyank_version(work: Posting, ref: ExactRefPath) -> Response:
    """Take a yank back."""
    return work.answer(catalogue.version_out(work.session, catalogue.unyank(work.session, ref)))


@router.get("/{ref}/lineage", responses=problems(*KNOWN))
def get_lineage(
    session: Reading,
    ref: RefPath,
    direction: Annotated[Literal["up", "down"], Query(description="up: made from what; down: what was made")] = "up",
    depth: Annotated[int, Query(ge=1, le=100)] = 20,
) -> LineageOut:
    """What a version was made from, or what was made from it."""
    return catalogue.lineage(session, ref, direction, depth)


@router.head(
    "/{ref}/file",
    operation_id="head_file",
    response_class=Response,
    responses={**problems(*KNOWN), 200: {"description": "The file's headers"}, 304: {"description": "Not changed"}},
)
@router.get(
    "/{ref}/file",
    operation_id="get_file",
    response_class=StreamingResponse,
    responses={**problems(*KNOWN, "range_invalid", "store_corrupt"), **FILE_ANSWERS},
)
def get_file(
    *,
    request: Request,
    service: ServiceDep,
    session: Reading,
    ref: RefPath,
    if_none_match: Annotated[str | None, Header()] = None,
    range: Annotated[str | None, Header(description="One range of bytes: bytes=0-1023")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """The bytes of a version. The ETag is their sha256; they never change."""
    row = catalogue.resolve(session, ref)
    headers = _headers(row, pinned=parse_reference(ref).digest is not None)
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    size = row.blob.size_bytes
    part = span(range, if_range, headers["ETag"], size)
    start, end = part or (0, size)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    bytes_: Iterator[bytes] = iter(()) if request.method == "HEAD" else service.store.read(row.digest, start, end)
    return StreamingResponse(bytes_, 206 if part else 200, headers, _media_type(row))


def _media_type(row: Version) -> str:
    return "application/json" if row.module.kind == "network" else BINARY


def _headers(row: Version, *, pinned: bool) -> dict[str, str]:
    suffix = "json" if row.module.kind == "network" else "safetensors"
    return {
        "ETag": f'"{row.digest}"',
        "Accept-Ranges": "bytes",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(row.digest)).decode()}:",
        "Content-Disposition": f'attachment; filename="{row.module.name}-{row.number}.{suffix}"',
        # A digest names these bytes for ever; a name, an alias or a number may be deleted or moved.
        "Cache-Control": "public, max-age=31536000, immutable" if pinned else "no-cache",
    }
