"""/v1/keys and /v1/audit: who may do what, and who did. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from app.deps import Cursor, Limit, NamePath, Reading, Writing, link_next
from app.edge.errors import problems
from graftery.spec.access import AuditOut, KeyMade, KeyOut, KeyRequest, RotateRequest
from graftery.spec.wire import Page
from registry.access import audit, keys

router = APIRouter(prefix="/v1", tags=["access"])

# PUT, not POST: the answer of a POST is kept under its Idempotency-Key, and a secret is kept nowhere.


@router.get("/keys", responses=problems())
def list_keys(
    request: Request, response: Response, session: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Page[KeyOut]:
    """Keys by their names, revoked and expired ones too; without their secrets, which nobody has but their owners."""
    page = keys.list_keys(session, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get("/keys/{name}", responses=problems("not_found", "name_invalid"))
def get_key(session: Reading, name: NamePath) -> KeyOut:
    """What a key may do, and until when."""
    return keys.get(session, name)


@router.put("/keys/{name}", status_code=201, responses=problems("conflict", "name_invalid"))
def create_key(work: Writing, response: Response, name: NamePath, request: KeyRequest) -> KeyMade:
    """Make a key. Its secret is in this answer, and nowhere else."""
    response.headers["Cache-Control"] = "no-store"
    return keys.create(work.session, name, request)


@router.put("/keys/{name}/secret", responses=problems("not_found", "conflict", "name_invalid"))
def rotate_key(work: Writing, response: Response, name: NamePath, request: RotateRequest) -> KeyMade:
    """Give a key a new secret; the one before may be taken for a while more."""
    response.headers["Cache-Control"] = "no-store"
    return keys.rotate(work.session, name, request.overlap_s)


@router.delete("/keys/{name}", status_code=204, responses=problems("not_found", "name_invalid"))
def revoke_key(work: Writing, name: NamePath) -> None:
    """Take a key back for good."""
    keys.revoke(work.session, name)


@router.get("/audit", responses=problems())
def list_audit(
    *,
    request: Request,
    response: Response,
    session: Reading,
    by: Annotated[
        str | None, Query(max_length=200, description="Who: the name of a key, `job ID`, `local USER`")
    ] = None,
    name: Annotated[
        str | None, Query(max_length=128, description="Changes of this name, its versions and aliases")
    ] = None,
    action: Annotated[str | None, Query(max_length=32, description="publish, alias, yank, key.create, ...")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[AuditOut]:
    """Every change, newest first: who, when, what, in which request."""
    page = audit.list_changes(session, by=by, name=name, action=action, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page
