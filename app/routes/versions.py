"""/v1/versions: immutable versions, their files, yanks and lineage."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.deps import ExactRefPath, Posting, Reading, RefPath, ServiceDep, Writing
from app.errors import problems
from app.files import FILE_ANSWERS, File, WantedDep, file_answer
from app.openapi import BINARY
from graftery.spec.lineage import LineageOut
from graftery.spec.names import parse_reference
from graftery.spec.wire import VersionOut, YankRequest
from registry import catalogue
from registry.models import Version

router = APIRouter(prefix="/v1/versions", tags=["versions"])

KNOWN = ("not_found", "yanked", "name_invalid")


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
def get_file(request: Request, service: ServiceDep, session: Reading, ref: RefPath, wanted: WantedDep) -> Response:
    """The bytes of a version. The ETag is their sha256; they never change."""
    row = catalogue.resolve(session, ref)
    file = _file(row, pinned=parse_reference(ref).digest is not None, guarded=service.guard.asks)
    return file_answer(service.store, file, wanted, only_headers=request.method == "HEAD")


def _file(row: Version, *, pinned: bool, guarded: bool) -> File:
    is_network = row.module.kind == "network"
    name = f"{row.module.name}-{row.number}.{'json' if is_network else 'safetensors'}"
    media_type = "application/json" if is_network else BINARY
    return File(row.digest, row.blob.size_bytes, name, media_type, forever=pinned, guarded=guarded)
