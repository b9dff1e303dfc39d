"""Aliases: unique pointers to versions, with their history, and one call back."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import Conflict
from graftery.spec.names import check_alias
from graftery.spec.wire import AliasEvent, AliasOut
from registry.access import audit, caller
from registry.catalogue.find import changed, find_alias, find_module, resolve
from registry.clock import now
from registry.models import Alias, AliasChange, Module, Version


def alias_out(row: Alias) -> AliasOut:
    return AliasOut(
        name=row.version.module.name,
        alias=row.alias,
        version=row.version.number,
        ref=row.version.ref,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def set_alias(session: Session, name: str, alias: str, version: int, by: str | None = None) -> Alias:
    """Point an alias at a version, by its number.

    Raises:
        GrafteryError: `name_invalid`; `latest` is computed and cannot be set.
        NotFound: no such version, or `yanked`.
    """
    check_alias(alias)
    caller.check_name(name)
    module = find_module(session, name, lock=True)
    return _point(session, module, alias, resolve(session, f"{name}:{version}", for_pin=True), by, rollback=False)


def _point(session: Session, module: Module, alias: str, version: Version, by: str | None, *, rollback: bool) -> Alias:
    row = session.get(Alias, (module.id, alias))
    old = row.version.number if row is not None else None
    if row is not None and old == version.number:
        return row
    if row is None:
        row = Alias(module_id=module.id, alias=alias)
        session.add(row)
    row.version, row.updated_at, row.updated_by = version, now(), audit.author(by)
    _note(session, module, AliasChange(alias=alias, old=old, new=version.number, by=by, rollback=rollback))
    return row


def _note(session: Session, module: Module, change: AliasChange) -> None:
    what, action = f"{module.name}@{change.alias}", "rollback" if change.rollback else "alias"
    audit.note(session, action, what, module.name, by=change.by, old=change.old, new=change.new)
    change.module_id, change.by = module.id, audit.author(change.by)
    session.add(change)
    changed(module)
    session.flush()


def delete_alias(session: Session, name: str, alias: str, by: str | None = None) -> None:
    """Take an alias away; its history stays.

    Raises:
        NotFound: there is no such alias.
    """
    caller.check_name(name)
    module = find_module(session, name, lock=True)
    row = find_alias(session, module, alias)
    session.delete(row)
    _note(session, module, AliasChange(alias=alias, old=row.version.number, new=None, by=by, rollback=False))


def list_aliases(session: Session, name: str) -> list[AliasOut]:
    """The aliases of a name, by alias."""
    module = find_module(session, name)
    rows = session.scalars(select(Alias).where(Alias.module_id == module.id).order_by(Alias.alias))
    return [alias_out(row) for row in rows]


def _changes(session: Session, module: Module, alias: str) -> list[AliasChange]:
    query = select(AliasChange).where(AliasChange.module_id == module.id, AliasChange.alias == alias)
    return list(session.scalars(query.order_by(AliasChange.id)))


def alias_history(session: Session, name: str, alias: str) -> list[AliasEvent]:
    """Every change of an alias, the newest first; also of one that is gone.

    Raises:
        NotFound: the name never had this alias.
    """
    module = find_module(session, name)
    changes = _changes(session, module, alias)
    if not changes:
        find_alias(session, module, alias)
    return [AliasEvent(alias=alias, old=c.old, new=c.new, at=c.at, by=c.by) for c in reversed(changes)]


def rollback_alias(session: Session, name: str, alias: str, by: str | None = None) -> Alias:
    """Point an alias at what it pointed at before; twice: at what was before that. Deleted versions are passed over.

    Raises:
        NotFound: the name never had this alias.
        Conflict: there is nothing to go back to, or it was yanked.
    """
    caller.check_name(name)
    module = find_module(session, name, lock=True)
    changes = _changes(session, module, alias)
    if not changes:
        find_alias(session, module, alias)
    for number in reversed(_earlier(changes)):
        query = select(Version).where(Version.module_id == module.id, Version.number == number)
        version = session.scalar(query)
        if version is None:
            continue
        if version.yanked_at is not None:
            raise Conflict(
                f"{name}@{alias} was at {version.ref} before, which was yanked: {version.yank_reason}",
                hint="set the alias to another version",
            )
        return _point(session, module, alias, version, by, rollback=True)
    raise Conflict(f"{name}@{alias} has no earlier version to go back to")


def _earlier(changes: list[AliasChange]) -> list[int]:
    """The numbers that rollbacks can still reach, the last on top: each change lays one down, a rollback takes it up."""
    stack: list[int] = []
    for change in changes:
        if not change.rollback:
            stack.extend([change.old] if change.old is not None else [])
            continue
        while stack and stack.pop() != change.new:
            pass
    return stack
