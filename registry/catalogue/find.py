"""From a reference to a row, and from a wrong one to what the reader may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from graftery.errors import Conflict, Misfit, NotFound
from graftery.spec.manifest import Kind
from graftery.spec.names import LATEST, Reference, parse_reference
from registry.clock import now
from registry.models import Alias, Module, Version

DEFAULT = "default"
_NAMES_LOOKED_AT = 10_000


def near(wanted: str, names: Iterable[str]) -> list[str]:
    """At most five names like the one that was asked for, best first."""
    by_lower = {name.lower(): name for name in names}
    return [by_lower[match] for match in difflib.get_close_matches(wanted.lower(), by_lower, n=5)]


def _not_found(what: str, near_: list[str]) -> NotFound:
    hint = f"there is {', '.join(near_)}" if near_ else None
    return NotFound(f"There is no {what}", hint=hint, near=near_)


def find_module(session: Session, name: str, *, lock: bool = False) -> Module:
    """The row of a name; with `lock`, nobody else changes it or its versions and aliases until the transaction ends.

    Raises:
        NotFound: with names like it in `near`.
    """
    query = select(Module).where(Module.name == name)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    module = session.scalar(query)
    if module is None:
        names = session.scalars(select(Module.name).order_by(Module.id.desc()).limit(_NAMES_LOOKED_AT))
        raise _not_found(f"module named {name!r}", near(name, names))
    return module


def kind_of(session: Session, name: str) -> Kind | None:
    """Of which kind a name is; None: it is free. Names like it are not looked for, which takes long where there are many."""
    kind: Kind | None = session.scalar(select(Module.kind).where(Module.name == name))
    return kind


def version_of(session: Session, name: str, digest: str) -> Version | None:
    """The version with these bytes under this name; None where there is none. Names like it are not looked for."""
    return session.scalar(select(Version).join(Module).where(Module.name == name, Version.digest == digest))


def changed(module: Module) -> None:
    """Note that what a reader of the module sees has changed: its ETag is another one from now on."""
    module.row_version += 1
    module.updated_at = now()


def recount(session: Session, module: Module) -> None:
    """Note how many versions there are now; the module is locked."""
    session.flush()
    query = select(func.count()).where(Version.module_id == module.id)
    module.version_count, module.counted_to = session.scalar(query), module.last_number


def newest(session: Session, module: Module) -> Version | None:
    """The newest version that is not yanked."""
    query = select(Version).where(Version.module_id == module.id, Version.yanked_at.is_(None))
    return session.scalar(query.order_by(Version.number.desc()).limit(1))


def version_numbers(session: Session, name: str) -> list[int]:
    """The numbers of a name's versions that are not yanked, oldest first."""
    query = select(Version.number).join(Module).where(Module.name == name, Version.yanked_at.is_(None))
    return list(session.scalars(query.order_by(Version.number)))


def resolve(session: Session, ref: str, *, kinds: Collection[Kind] | None = None, for_pin: bool = False) -> Version:
    """The version that a reference names now.

    Args:
        kinds: what the caller can use.
        for_pin: the caller makes something new of it (a network, a job): a yanked version must be named by its digest.
            Otherwise its number will do.

    Raises:
        NotFound: `not_found` with what is near, or `yanked`.
        Conflict: `kind_mismatch`.
    """
    reference = parse_reference(ref)
    module = find_module(session, reference.name)
    if kinds is not None and module.kind not in kinds:
        raise Conflict(f"{ref} is of kind {module.kind}; needed is {' or '.join(sorted(kinds))}", code="kind_mismatch")
    version = _pointed_at(session, module, reference)
    pinned = reference.digest is not None or (reference.number is not None and not for_pin)
    if version.yanked_at is not None and not pinned:
        raise NotFound(
            f"{version.ref} was yanked: {version.yank_reason}",
            code="yanked",
            hint=_instead_of(version, reference),
        )
    return version


def _instead_of(version: Version, reference: Reference) -> str:
    """What to do where a yanked version was meant: an alias does not move away from it by itself."""
    alias = None if reference.number is not None else reference.alias or DEFAULT
    other = "choose another version" if alias is None else f"point {version.module.name}@{alias} at another version"
    return f"{other}, or pin this one as {version.pin}"


def _pointed_at(session: Session, module: Module, reference: Reference) -> Version:
    if reference.number is not None:
        return _one(session, module, reference, Version.number == reference.number)
    if reference.digest is not None:
        return _one(session, module, reference, Version.digest == reference.digest)
    if reference.alias is not None and reference.alias != LATEST:
        return find_alias(session, module, reference.alias).version
    default = None if reference.alias else session.get(Alias, (module.id, DEFAULT))
    return default.version if default is not None else _newest_or_yanked(session, module)


def _one(session: Session, module: Module, reference: Reference, condition: ColumnElement[bool]) -> Version:
    version = session.scalar(select(Version).where(Version.module_id == module.id, condition))
    if version is None:
        numbers = select(Version.number).where(Version.module_id == module.id)
        there = [f"{module.name}:{n}" for n in session.scalars(numbers.order_by(Version.number.desc()).limit(5))]
        raise _not_found(f"version {reference}", there)
    return version


def group_version(session: Session, digest: str) -> Version:
    """The version of a compatibility group with these bytes: one that is not yanked, if there is any, and the newest of them.

    Who names it by its digest still finds it where it is yanked, as with any other version.

    Raises:
        Misfit: `group_mismatch`; there is none.
    """
    query = select(Version).join(Module).where(Version.digest == digest, Module.kind == "group")
    found = session.scalar(query.order_by(Version.yanked_at.is_not(None), Version.id.desc()).limit(1))
    if found is None:
        raise Misfit(
            f"there is no compatibility group with the sha256 {digest}",
            code="group_mismatch",
            hint="push the group's file first; its members name it by its digest",
        )
    return found


def find_alias(session: Session, module: Module, alias: str) -> Alias:
    """The row of an alias.

    Raises:
        NotFound: with the module's aliases in `near`.
    """
    row = session.get(Alias, (module.id, alias))
    if row is None:
        there = session.scalars(select(Alias.alias).where(Alias.module_id == module.id).order_by(Alias.alias))
        raise _not_found(f"alias {module.name}@{alias}", [f"{module.name}@{other}" for other in there])
    return row


def _newest_or_yanked(session: Session, module: Module) -> Version:
    version = newest(session, module)
    if version is None:
        yanked = session.scalar(select(Version).where(Version.module_id == module.id).limit(1)) is not None
        code, what = ("yanked", "only yanked versions") if yanked else ("not_found", "no version")
        raise NotFound(f"{module.name} has {what}", code=code)
    return version
