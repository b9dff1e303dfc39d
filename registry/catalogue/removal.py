"""Taking versions out: yank hides one and can be undone, delete removes one that nothing depends on."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from graftery.errors import Conflict, GrafteryError
from graftery.spec.names import parse_reference
from registry.access import audit, caller
from registry.catalogue.find import DEFAULT, changed, find_module, recount, resolve
from registry.catalogue.pins import in_generics, pinning
from registry.clock import now
from registry.models import Alias, Edge, Module, Version


def yank(session: Session, ref: str, reason: str) -> Version:
    """Hide a version from names and aliases; its number and digest still lead to it. A second yank changes the reason."""
    version = exact(session, ref)
    version.yanked_at, version.yank_reason = now(), reason
    audit.note(session, "yank", version.ref, version.module.name, reason=reason)
    return version


def unyank(session: Session, ref: str) -> Version:
    """Undo a yank."""
    version = exact(session, ref)
    version.yanked_at, version.yank_reason = None, None
    audit.note(session, "unyank", version.ref, version.module.name)
    return version


def exact(session: Session, ref: str, *, lock: bool = True) -> Version:
    """The version to change, its module locked. What a name or alias points at may move under the caller.

    Args:
        lock: False: the caller only looks at what it would change.

    Raises:
        GrafteryError: `request_invalid`: the reference does not say which version.
        AccessRefused: `forbidden`: the caller's key may not change this name.
    """
    reference = parse_reference(ref)
    if reference.number is None and reference.digest is None:
        raise GrafteryError(
            f"{ref} does not say which version",
            code="request_invalid",
            hint=f"write {reference.name}:<number> or {reference.name}@sha256:<digest>",
        )
    caller.check_name(reference.name)
    if lock:
        changed(find_module(session, reference.name, lock=True))
    return resolve(session, ref)


def delete_version(session: Session, ref: str) -> None:
    """Delete a version. Its number is not used again; its bytes go with the next `collect`.

    Raises:
        Conflict: `has_dependents`, with the references that depend on it in `dependents`.
    """
    version = exact(session, ref)
    _lock(session, [version.id])
    _refuse_dependents(version.ref, keeping(session, version))
    audit.note(session, "delete", version.ref, version.module.name, digest=version.digest)
    session.execute(delete(Alias).where(Alias.version_id == version.id))
    module = version.module
    session.delete(version)
    recount(session, module)


def delete_module(session: Session, name: str) -> None:
    """Delete a name with its versions, aliases and history, if nothing outside depends on them.

    Raises:
        Conflict: `has_dependents`.
    """
    caller.check_name(name)
    module = find_module(session, name, lock=True)
    ids = list(session.scalars(select(Version.id).where(Version.module_id == module.id)))
    _lock(session, ids)
    _refuse_dependents(name, dependents(session, ids))
    audit.note(session, "delete", name, name, versions=len(ids))
    session.execute(delete(Alias).where(Alias.module_id == module.id))
    session.execute(delete(Edge).where(Edge.child_id.in_(ids)))
    session.execute(delete(Version).where(Version.module_id == module.id))
    session.execute(delete(Module).where(Module.id == module.id))


def _lock(session: Session, version_ids: Collection[int]) -> None:
    # Who names one of them now (an edge, a pin) waits, and finds it gone: the foreign key refuses.
    session.scalars(select(Version.id).where(Version.id.in_(version_ids)).with_for_update()).all()


def keeping(session: Session, version: Version) -> list[str]:
    """What has to go or move before the version can be deleted: aliases, what was made of it, jobs."""
    return [*_aliases(session, version), *dependents(session, [version.id])]


def _aliases(session: Session, version: Version) -> list[str]:
    found = session.scalars(select(Alias.alias).where(Alias.version_id == version.id).order_by(Alias.alias))
    count = session.scalar(select(func.count()).where(Version.module_id == version.module_id))
    # A network's only version has `default` by itself: nobody asked for it, and there is nowhere to move it.
    return [f"{version.module.name}@{alias}" for alias in found if alias != DEFAULT or count != 1]


def dependents(session: Session, version_ids: Collection[int]) -> list[str]:
    """What was made of the versions, apart from themselves, and the jobs that need them."""
    made = select(Edge.child_id).where(Edge.parent_id.in_(version_ids), Edge.child_id.not_in(version_ids))
    children = select(Module.name, Version.number).join(Version, Version.module_id == Module.id)
    rows = session.execute(children.where(Version.id.in_(made)).order_by(Version.id))
    return [
        *(f"{name}:{number}" for name, number in rows),
        *(f"generic network {each}" for each in in_generics(session, version_ids)),
        *(f"job {job_id}" for job_id in pinning(session, version_ids)),
    ]


def _refuse_dependents(what: str, found: list[str]) -> None:
    if found:
        room = "versions" if parse_reference(what).number else "modules"
        raise Conflict(
            f"{what} cannot be deleted while others depend on it: {', '.join(found[:10])}",
            code="has_dependents",
            hint=f"delete or move these first, or yank it; /v1/{room}/{what}/impact shows all that depends on it",
            dependents=found,
        )
