"""/v1/versions: immutable versions, their files, yanks, lineage and impact."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from app.deps import ExactRefPath, Posting, Reading, RefPath, ServiceDep, Writing
from app.edge.errors import problems
from app.edge.openapi import BINARY
from app.files.downloads import FILE_ANSWERS, File, WantedDep, file_answer
from graftery.spec import graphs
from graftery.spec.graphs import GraphFormat
from graftery.spec.impact import ImpactOut
from graftery.spec.lineage import Direction, LineageOut
from graftery.spec.names import parse_reference
from graftery.spec.wire import VersionOut, YankRequest
from registry import catalogue
from registry.models import Version

router = APIRouter(prefix="/v1/versions", tags=["versions"])

KNOWN = ("not_found", "yanked", "name_invalid")
GRAPHS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/vnd.graphviz": {
                "schema": {"type": "string"},
                "example": 'digraph lineage {\n  n0 [label="dog-teacher:1\\nteacher"];\n}\n',
            },
            "text/vnd.mermaid": {
                "schema": {"type": "string"},
                "example": 'flowchart LR\n  n0[/"dog-teacher:1<br/>teacher"\\]\n',
            },
        }
    }
}


@router.get("/{ref}", responses=problems(*KNOWN))
def get_version(session: Reading, ref: RefPath) -> VersionOut:
    """What a reference names now."""
    return catalogue.version_out(session, catalogue.resolve(session, ref))


@router.delete("/{ref}", status_code=204, responses=problems(*KNOWN, "has_dependents"))
def delete_version(work: Writing, ref: ExactRefPath) -> None:
    """Delete a version that nothing was made from; its bytes are freed by the next collection."""
    catalogue.delete_version(work.session, ref)


@router.post("/{ref}/yank", responses=problems(*KNOWN, "idempotency_conflict"), response_model=VersionOut | ImpactOut)
def yank_version(work: Posting, ref: ExactRefPath, request: YankRequest) -> Response:
    """Hide a version from names and aliases; its number and its digest still resolve, so nothing pinned breaks.

    With `dry_run` nothing is changed, and the answer is what `GET .../impact` says.
    """
    if request.dry_run:
        return work.answer(catalogue.yank_impact(work.session, ref))
    return work.answer(catalogue.version_out(work.session, catalogue.yank(work.session, ref, request.reason)))


@router.post("/{ref}/unyank", responses=problems(*KNOWN, "idempotency_conflict"), response_model=VersionOut)
def unyank_version(work: Posting, ref: ExactRefPath) -> Response:
    """Take a yank back."""
    return work.answer(catalogue.version_out(work.session, catalogue.unyank(work.session, ref)))


@router.get("/{ref}/lineage", response_model=LineageOut, responses={**problems(*KNOWN), **GRAPHS})
def get_lineage(
    session: Reading,
    ref: RefPath,
    direction: Annotated[
        Direction, Query(description="up: made from what; down: what was made; both: one graph of the two")
    ] = "up",
    depth: Annotated[int, Query(ge=1, le=100)] = 20,
    how: Annotated[
        Literal["json", GraphFormat], Query(alias="format", description="dot: for Graphviz; mermaid: for Markdown")
    ] = "json",
) -> LineageOut | Response:
    """What a version was made from, what was made from it, or both; as JSON, or as a graph to look at."""
    found = catalogue.lineage(session, ref, direction, depth)
    return found if how == "json" else Response(graphs.draw(found, how), media_type=graphs.MEDIA_TYPES[how])


@router.get("/{ref}/impact", responses=problems(*KNOWN))
def get_version_impact(session: Reading, ref: RefPath) -> ImpactOut:
    """What would be touched if the version were yanked: names that are served first; and what keeps it from being deleted."""
    return catalogue.version_impact(session, ref)


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
