"""/v1/uploads: files that come in pieces, over many connections and hosts; /v1/blobs: bytes that need not come at all."""

from __future__ import annotations

import re
from email.utils import format_datetime
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.deps import Posting, Reading, Service, ServiceDep
from app.edge.errors import problems
from app.edge.openapi import binary_body
from app.files import pieces, teachers
from app.files.arrivals import drop_upload, no_bytes
from app.files.uploads import DigestHeader, promised_digest, unread_body
from app.requests import names
from graftery.errors import GrafteryError
from graftery.spec.manifest import FILE_KINDS
from graftery.spec.names import DIGEST_PATTERN, NAME_PATTERN, check_name, namespace_of
from graftery.spec.uploading import OFFSET_TYPE, TUS_VERSION, BlobOut, UploadOut, UploadRequest
from registry import catalogue

router = APIRouter(prefix="/v1", tags=["uploads"])

UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", examples=["0f" * 16])]
TusHeader = Annotated[
    str,
    # Stated and not enforced: tus wants 412 for it, not 422.
    Header(
        alias="tus-resumable", examples=[TUS_VERSION], json_schema_extra={"pattern": rf"^{re.escape(TUS_VERSION)}$"}
    ),
]
TUS = {"Tus-Resumable": TUS_VERSION}
OFFSET_HEADERS: dict[str, Any] = {
    "Upload-Offset": {"description": "All bytes before this one are there", "schema": {"type": "integer"}},
    "Upload-Expires": {"description": "When it is given up, if nothing comes", "schema": {"type": "string"}},
}
PIECE_REFUSALS = ("not_found", "tus_version", "store_full")


@router.options("/uploads", status_code=204, responses=problems())
def describe_uploads(service: ServiceDep) -> Response:
    """What of tus 1.0 is spoken here."""
    limit = str(service.settings.limits.file_bytes)
    extensions = {"Tus-Version": TUS_VERSION, "Tus-Extension": "expiration,termination", "Tus-Max-Size": limit}
    return Response(status_code=204, headers=TUS | extensions)


@router.post(
    "/uploads",
    status_code=201,
    response_model=UploadOut,
    responses={
        **problems(
            "name_invalid", "kind_conflict", "idempotency_conflict", "file_too_large", "quota_exceeded", "store_full"
        ),
        200: {"description": "An upload of these bytes to this name is under way: go on with it", "model": UploadOut},
    },
)
def create_upload(work: Posting, request: UploadRequest) -> Response:
    """Begin an upload in pieces. What cannot be published is refused here as far as it can be known without the bytes."""
    service = work.service
    _check(service, request)
    settings = service.settings
    row, created = catalogue.begin_upload(work.session, request, settings.upload_part_bytes, settings.upload_expires_s)
    if created:
        catalogue.require_quota(work.session, request.name, settings.quota(namespace_of(request.name)))
        service.store.open_upload(row.id, request.size_bytes)
    out = catalogue.upload_out(work.session, row)
    return work.answer(out, status=201 if created else 200, location=f"/v1/uploads/{row.id}")


def _check(service: Service, request: UploadRequest) -> None:
    limit = service.settings.limits.file_bytes
    if request.size_bytes > limit:
        raise GrafteryError(f"the file is over {limit} bytes", code="file_too_large", limit_bytes=limit)
    match request.target:
        case "teacher":
            wanted = teachers.names_of(request.name, ())
        case "samples":
            wanted = {request.name: ("samples",)}
        case _:
            wanted = {request.name: FILE_KINDS}
    names.check(service.database, wanted)


@router.get(
    "/uploads/{id}",
    response_model=UploadOut,
    responses={
        **problems("not_found", "tus_version"),
        200: {"description": "Where it stands, in its headers too", "headers": OFFSET_HEADERS},
    },
)
def get_upload(
    service: ServiceDep, response: Response, id: UploadId, tus_resumable: TusHeader = TUS_VERSION
) -> UploadOut:
    """Where an upload stands. HEAD gives the headers of tus: Upload-Offset and Upload-Length."""
    _check_tus(tus_resumable)
    upload = pieces.look(service, id)
    response.headers.update(_headers(upload))
    response.headers.update({"Upload-Length": str(upload.size_bytes), "Cache-Control": "no-store"})
    return upload


@router.patch(
    "/uploads/{id}",
    status_code=204,
    responses={
        **problems(*PIECE_REFUSALS, "upload_offset", "unsupported_media_type", "file_too_large"),
        204: {"description": "It is kept", "headers": OFFSET_HEADERS},
    },
    openapi_extra=binary_body("The bytes from Upload-Offset on", OFFSET_TYPE),
)
async def append_upload(
    *,
    request: Request,
    service: ServiceDep,
    id: UploadId,
    upload_offset: Annotated[int, Header(ge=0, le=2**50)],
    tus_resumable: TusHeader = TUS_VERSION,
) -> Response:
    """Append bytes, as tus 1.0 says. What has come before a connection breaks is kept."""
    with unread_body(request):
        _check_tus(tus_resumable)
        if request.headers.get("content-type", "").lower() != OFFSET_TYPE:
            raise GrafteryError(
                f"the body has to be of type {OFFSET_TYPE}", code="unsupported_media_type", hint="set Content-Type"
            )
        upload = await run_in_threadpool(pieces.look_to_change, service, id)
        await pieces.append(request, service, upload, upload_offset)
    return Response(status_code=204, headers=_headers(await run_in_threadpool(pieces.look, service, id)))


@router.put(
    "/uploads/{id}/parts/{number}",
    status_code=204,
    responses=problems(*PIECE_REFUSALS[::2], "digest_mismatch"),
    openapi_extra=binary_body("The bytes of the part, all of them"),
)
async def upload_part(
    *,
    request: Request,
    service: ServiceDep,
    id: UploadId,
    number: Annotated[int, Path(ge=0, le=2**50, examples=[0])],
    repr_digest: DigestHeader = None,
) -> None:
    """Send one part. Parts may come in any order, several at once, and again; one that breaks off is not kept."""
    with unread_body(request):
        promised = promised_digest(repr_digest)
        upload = await run_in_threadpool(pieces.look_to_change, service, id)
        await pieces.take_part(request, service, upload, number, promised)


@router.delete("/uploads/{id}", status_code=204, responses=problems("not_found", "tus_version"))
def delete_upload(service: ServiceDep, id: UploadId, tus_resumable: TusHeader = TUS_VERSION) -> Response:
    """Give an upload up; its bytes are freed."""
    _check_tus(tus_resumable)
    pieces.look_to_change(service, id)
    drop_upload(service, id)
    return Response(status_code=204, headers=TUS)


@router.get("/blobs/{digest}", responses=problems("not_found", "name_invalid"))
def get_blob(
    service: ServiceDep,
    session: Reading,
    digest: Annotated[str, Path(pattern=f"^{DIGEST_PATTERN}$", examples=["0f" * 32])],
    name: Annotated[
        str,
        Query(
            description="Under which they would be published: only what versions in its namespace have is told",
            json_schema_extra={"pattern": f"^{NAME_PATTERN}$"},
        ),
    ],
) -> BlobOut:
    """Whether bytes are there: then a PUT with `?digest=` publishes them under another name, and nothing is sent."""
    row = catalogue.shared_blob(session, digest, check_name(name))
    if row is None or not service.store.exists(digest):
        raise no_bytes(name, digest)
    return BlobOut(digest=row.digest, size_bytes=row.size_bytes)


def _check_tus(version: str) -> None:
    if version != TUS_VERSION:
        raise GrafteryError(
            f"tus {version} is not spoken here",
            code="tus_version",
            hint=f"speak {TUS_VERSION}",
            headers={"Tus-Version": TUS_VERSION},
        )


def _headers(upload: UploadOut) -> dict[str, str]:
    return TUS | {
        "Upload-Offset": str(upload.offset),
        "Upload-Expires": format_datetime(upload.expires_at, usegmt=True),
    }
