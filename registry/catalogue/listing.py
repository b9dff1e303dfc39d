"""Looking around: modules, versions, what is served; and the module's own text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from graftery.errors import Conflict
from graftery.spec.manifest import Kind
from graftery.spec.wire import ModuleOut, ModulePatch, Page, VersionOut
from registry.access import audit, caller
from registry.catalogue.find import changed, find_module
from registry.catalogue.outs import modules_out, versions_out
from registry.catalogue.publish import add_tags
from registry.models import BlobRow, Module, ModuleTag, Version
from registry.pages import clamp, cut, read_cursor


def get_module(session: Session, name: str) -> Module:
    """The row of a name.

    Raises:
        NotFound: with names like it in `near`.
    """
    return find_module(session, name)


def list_modules(
    session: Session,
    *,
    kind: Kind | None = None,
    q: str | None = None,
    tag: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[ModuleOut]:
    """Modules, the newest name first.

    Args:
        q: a part of the name or description; case does not matter.
    """
    limit, after = clamp(limit), read_cursor(cursor, int)
    query, place = select(Module), Module.id
    if tag is not None:
        # By the tag's rows, in their order: a rare tag is not looked for among all names.
        query = query.join(ModuleTag, ModuleTag.module_id == Module.id).where(ModuleTag.tag == tag)
        place = ModuleTag.module_id
    query = query.order_by(place.desc()).limit(limit + 1)
    if kind is not None:
        query = query.where(Module.kind == kind)
    if q:
        query = query.where(
            Module.name.icontains(q, autoescape=True) | Module.description.icontains(q, autoescape=True)
        )
    if after is not None:
        query = query.where(place < after[0])
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.id,))
    return Page[ModuleOut](items=modules_out(session, rows), next=following)


def list_versions(session: Session, name: str, *, cursor: str | None = None, limit: int = 50) -> Page[VersionOut]:
    """All versions of a name, yanked ones too, the newest first."""
    limit, after = clamp(limit), read_cursor(cursor, int)
    module = find_module(session, name)
    query = select(Version).where(Version.module_id == module.id).order_by(Version.number.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Version.number < after[0])
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.number,))
    return Page[VersionOut](items=versions_out(session, rows), next=following)


def module_etag(row: Module) -> str:
    """The ETag of a module, quotes included: another one after each change."""
    return f'"{row.id}-{row.row_version}"'


def update_module(session: Session, name: str, patch: ModulePatch, if_match: str | None = None) -> Module:
    """Replace what the patch has: the description, all tags.

    Args:
        if_match: the If-Match header; None: whatever the module is now.

    Raises:
        Conflict: `precondition_failed`: the module has changed since.
    """
    caller.check_name(name)
    module = find_module(session, name, lock=True)
    wanted = [tag.strip() for tag in ("*" if if_match is None else if_match).split(",")]
    if "*" not in wanted and module_etag(module) not in wanted:
        raise Conflict(
            f"{name} has changed since it was read", code="precondition_failed", hint="read it again, then retry"
        )
    if patch.description is not None:
        module.description = patch.description
    if patch.tags is not None:
        session.execute(delete(ModuleTag).where(ModuleTag.module_id == module.id))
        add_tags(session, module, patch.tags)
    changed(module)
    audit.note(session, "describe", name, name, fields=sorted(patch.model_dump(exclude_none=True)))
    return module


def served_networks(session: Session) -> list[tuple[Module, Sequence[Version]]]:
    """Every network that can be asked: its versions that are not yanked, oldest first; by name."""
    query = select(Version).join(Module).where(Module.kind == "network", Version.yanked_at.is_(None))
    found: dict[int, tuple[Module, list[Version]]] = {}
    for version in session.scalars(query.order_by(Module.name, Version.number)):
        found.setdefault(version.module_id, (version.module, []))[1].append(version)
    return list(found.values())


class Figures(NamedTuple):
    """How much there is: versions by kind, files and bytes in the store."""

    versions: dict[str, int]
    blobs: int
    size_bytes: int


def figures(session: Session) -> Figures:
    """Count everything."""
    versions = select(Module.kind, func.count()).join(Version, Version.module_id == Module.id).group_by(Module.kind)
    blobs, size_bytes = session.execute(select(func.count(), func.coalesce(func.sum(BlobRow.size_bytes), 0))).one()
    by_kind = {row[0]: row[1] for row in session.execute(versions)}
    return Figures(by_kind, int(blobs), int(size_bytes))
