"""/v1/modules: names, what stands behind them, and the upload of module files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from app.deps import Cursor, Limit, NamePath, Reading, ServiceDep, Writing, link_next
from app.edge.errors import problems
from app.edge.openapi import binary_body
from app.files.ranges import matches
from app.files.uploads import (
    DescriptionQuery,
    DigestHeader,
    TagQuery,
    ThereDep,
    check,
    published,
    received,
    unread_body,
)
from app.requests import members, names
from graftery.errors import GrafteryError
from graftery.spec.impact import ImpactOut
from graftery.spec.manifest import FILE_KINDS, Kind
from graftery.spec.wire import ModuleOut, ModulePatch, Page, VersionOut
from registry import catalogue

router = APIRouter(prefix="/v1/modules", tags=["modules"])

IfMatch = Annotated[str | None, Header(description="The ETag that was read: 412 if the row has changed since")]
UPLOAD_REFUSALS = (
    "module_file_invalid",
    "name_invalid",
    "kind_conflict",
    "conflict",
    "digest_mismatch",
    "file_too_large",
    "unsupported_media_type",
    "store_full",
    "quota_exceeded",
    "not_found",
    "upload_incomplete",
    "unavailable",
)
# Of what says that it was trained against a compatibility group.
MEMBER_REFUSALS = (
    "group_mismatch",
    "shape_mismatch",
    "preprocessing_mismatch",
    "architecture_mismatch",
    "kind_mismatch",
    "at_chance",
    "store_corrupt",
)
# Of a group.
GROUP_REFUSALS = ("common_classes", "recipe_invalid", "samples_invalid")
UPLOAD_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "These bytes are a version of this name already", "model": VersionOut}
}


@router.get("", responses=problems())
def list_modules(
    *,
    request: Request,
    response: Response,
    session: Reading,
    kind: Kind | None = None,
    q: Annotated[str | None, Query(max_length=200, description="Part of the name or the description")] = None,
    tag: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[ModuleOut]:
    """Names of all kinds, newest first."""
    page = catalogue.list_modules(session, kind=kind, q=q, tag=tag, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get(
    "/{name}",
    response_model=ModuleOut,
    responses={**problems("not_found", "name_invalid"), 304: {"description": "Not changed"}},
)
def get_module(
    session: Reading,
    response: Response,
    name: NamePath,
    if_none_match: Annotated[str | None, Header()] = None,
) -> ModuleOut | Response:
    """A name: its kind, description, tags, versions and aliases."""
    row = catalogue.get_module(session, name)
    etag = catalogue.module_etag(row)
    if matches(if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return catalogue.module_out(session, row)


@router.patch("/{name}", responses=problems("not_found", "precondition_failed", "name_invalid"))
def update_module(
    work: Writing, response: Response, name: NamePath, patch: ModulePatch, if_match: IfMatch = None
) -> ModuleOut:
    """Change the description or the tags."""
    row = catalogue.update_module(work.session, name, patch, if_match)
    response.headers["ETag"] = catalogue.module_etag(row)
    return catalogue.module_out(work.session, row)


@router.delete(
    "/{name}",
    status_code=204,
    responses=problems("not_found", "has_dependents", "precondition_failed", "name_invalid"),
)
def delete_module(work: Writing, name: NamePath, if_match: IfMatch = None) -> None:
    """Delete a name with all its versions, unless something else was made from one of them."""
    etag = catalogue.module_etag(catalogue.get_module(work.session, name))
    if if_match is not None and not matches(if_match, etag):
        raise GrafteryError(f"{name} has changed: its ETag is {etag}", code="precondition_failed")
    catalogue.delete_module(work.session, name)


@router.get("/{name}/versions", responses=problems("not_found", "name_invalid"))
def list_versions(
    *, request: Request, response: Response, session: Reading, name: NamePath, cursor: Cursor = None, limit: Limit = 50
) -> Page[VersionOut]:
    """The versions of a name, newest first, yanked ones included."""
    page = catalogue.list_versions(session, name, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get("/{name}/impact", responses=problems("not_found", "name_invalid"))
def get_module_impact(session: Reading, name: NamePath) -> ImpactOut:
    """What would be touched if all versions of a name were yanked, and what keeps the name from being deleted."""
    return catalogue.name_impact(session, name)


@router.put(
    "/{name}",
    status_code=201,
    response_model=VersionOut,
    responses={**problems(*UPLOAD_REFUSALS, *MEMBER_REFUSALS, *GROUP_REFUSALS), **UPLOAD_ANSWERS},
    openapi_extra=binary_body("A module file (docs/module-file.md)"),
)
async def upload_module(
    *,
    request: Request,
    service: ServiceDep,
    name: NamePath,
    description: DescriptionQuery = None,
    tag: TagQuery = None,
    there: ThereDep,
    repr_digest: DigestHeader = None,
) -> Response:
    """Upload a module file: a category, a task, an adapter, a compatibility group, or a teacher net that is not to be cut.

    The file is checked before it is published. The same bytes again give the version that is there. What was trained against a
    compatibility group names it by its digest: the group has to be here, and what its heads reach on the module's
    features is kept in `metrics`.
    """
    with unread_body(request):
        await run_in_threadpool(names.check, service.database, {name: FILE_KINDS})
    async with received(request, service, name, there) as upload:
        found = await check(service, service.verifier.verify, upload.path)
        kind = found.manifest["kind"]
        await run_in_threadpool(names.check, service.database, {name: (kind,)})
        metrics = await check(service, members.metrics_of, service, found.manifest, upload.path)
        blob = await run_in_threadpool(upload.publish)
        return await published(
            service,
            upload,
            name=name,
            kind=kind,
            blob=blob,
            manifest=found.manifest,
            facts=found.facts,
            metrics=metrics,
            description=description,
            tags=tag or (),
        )
