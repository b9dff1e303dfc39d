"""/v1/modules/NAME/aliases: movable names of versions, with a history and a rollback."""

from __future__ import annotations

from fastapi import APIRouter, Response

from app.deps import AliasPath, NamePath, Posting, Reading, Writing
from app.edge.errors import problems
from graftery.spec.wire import AliasEvent, AliasOut, AliasRequest
from registry import catalogue

router = APIRouter(prefix="/v1/modules/{name}/aliases", tags=["aliases"])

KNOWN = ("not_found", "name_invalid")


@router.get("", responses=problems(*KNOWN))
def list_aliases(session: Reading, name: NamePath) -> list[AliasOut]:
    """The aliases of a name. `default` is what the bare name means where it is set; `latest` is computed."""
    return catalogue.list_aliases(session, name)


@router.put("/{alias}", responses=problems(*KNOWN, "yanked", "conflict"))
def set_alias(work: Writing, name: NamePath, alias: AliasPath, request: AliasRequest) -> AliasOut:
    """Point an alias at a version; it is made if it is not there."""
    return catalogue.alias_out(catalogue.set_alias(work.session, name, alias, request.version))


@router.delete("/{alias}", status_code=204, responses=problems(*KNOWN))
def delete_alias(work: Writing, name: NamePath, alias: AliasPath) -> None:
    """Remove an alias; its history stays."""
    catalogue.delete_alias(work.session, name, alias)


@router.get("/{alias}/history", responses=problems(*KNOWN))
def get_alias_history(session: Reading, name: NamePath, alias: AliasPath) -> list[AliasEvent]:
    """Every change of the alias, newest first."""
    return catalogue.alias_history(session, name, alias)


@router.post(
    "/{alias}/rollback",
    responses=problems(*KNOWN, "yanked", "conflict", "idempotency_conflict"),
    response_model=AliasOut,
)
def rollback_alias(work: Posting, name: NamePath, alias: AliasPath) -> Response:
    """Point the alias at what it named before its last change."""
    return work.answer(catalogue.alias_out(catalogue.rollback_alias(work.session, name, alias)))
