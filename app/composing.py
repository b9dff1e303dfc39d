"""A network composed by hand."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app import names
from app.parts import manifest_of
from graftery.spec.fit import check_join
from graftery.spec.manifest import NetworkParts, Role
from graftery.spec.wire import NetworkRequest
from registry import catalogue
from registry.models import Version
from registry.store import Store


def compose(session: Session, store: Store, request: NetworkRequest) -> tuple[Version, bool]:
    """Check that the parts fit, and publish the network: its bytes are the document that pins them.

    Returns:
        The version, and whether it is new.

    Raises:
        NotFound: a reference names nothing.
        Conflict: the name belongs to another kind.
        Misfit: the parts do not fit without further learning.
    """
    names.check_in(session, {request.name: ("network",)})
    category = catalogue.resolve(session, request.category, kinds={"category"}, for_pin=True)
    task = catalogue.resolve(session, request.task, kinds={"task"}, for_pin=True)
    adapter = None
    if request.adapter is not None:
        adapter = catalogue.resolve(session, request.adapter, kinds={"adapter"}, for_pin=True)
    check_join(
        manifest_of(category),
        manifest_of(task),
        adapter=None if adapter is None else manifest_of(adapter),
        with_adapter=adapter is not None,
        force=request.force,
    )
    parts = NetworkParts(
        category=category.digest, adapter=None if adapter is None else adapter.digest, task=task.digest
    )
    named: list[tuple[Role, Version | None]] = [("category", category), ("adapter", adapter), ("task", task)]
    row, created = catalogue.publish(
        session,
        name=request.name,
        kind="network",
        blob=store.put_bytes(catalogue.compose_document(parts)),
        parts=parts,
        parents=[(role, version.id) for role, version in named if version is not None],
    )
    if request.alias is not None:
        catalogue.set_alias(session, request.name, request.alias, row.number)
    return row, created
