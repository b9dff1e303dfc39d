"""From rows to what crosses HTTP, a page at a time: the number of queries does not grow with the page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from graftery.spec.wire import ModuleOut, VersionOut
from registry.models import Alias, Module, ModuleTag, Version

_Ids = Collection[int] | Select[int]
"""Some, or a query for them where they may be many."""


def versions_out(session: Session, rows: Sequence[Version]) -> list[VersionOut]:
    aliases = aliases_of(session, {row.module_id for row in rows})
    return [_version_out(row, aliases[row.module_id]) for row in rows]


def version_out(session: Session, row: Version) -> VersionOut:
    return versions_out(session, [row])[0]


def _version_out(row: Version, aliases: dict[str, int]) -> VersionOut:
    return VersionOut.model_validate(
        {
            "name": row.module.name,
            "kind": row.module.kind,
            "version": row.number,
            "ref": row.ref,
            "digest": row.digest,
            "size_bytes": row.blob.size_bytes,
            "created_at": row.created_at,
            "created_by": row.created_by,
            "aliases": [alias for alias, number in aliases.items() if number == row.number],
            "tags": row.tags,
            "yanked": row.yanked_at is not None,
            "yank_reason": row.yank_reason,
            "manifest": row.manifest,
            "facts": row.facts,
            "parts": row.parts,
            "metrics": row.metrics,
        }
    )


def modules_out(session: Session, rows: Sequence[Module]) -> list[ModuleOut]:
    ids = [row.id for row in rows]
    aliases, tags, newest = aliases_of(session, ids), tags_of(session, ids), newest_of(session, ids)
    counts = _counts(session, [row.id for row in rows if row.counted_to != row.last_number])
    return [
        _module_out(row, aliases[row.id], tags[row.id], counts.get(row.id, row.version_count or 0), newest.get(row.id))
        for row in rows
    ]


def module_out(session: Session, row: Module) -> ModuleOut:
    return modules_out(session, [row])[0]


def _module_out(row: Module, aliases: dict[str, int], tags: list[str], versions: int, latest: int | None) -> ModuleOut:
    return ModuleOut.model_validate(
        {
            "name": row.name,
            "kind": row.kind,
            "description": row.description,
            "tags": tags,
            "versions": versions,
            "latest": latest,
            "aliases": aliases,
            "created_at": row.created_at,
            "updated_at": row.updated_at,
        }
    )


def aliases_of(session: Session, module_ids: _Ids) -> defaultdict[int, dict[str, int]]:
    """Per module: alias to version number, by name."""
    query = select(Alias.module_id, Alias.alias, Version.number).join(Version, Version.id == Alias.version_id)
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for module_id, alias, number in session.execute(query.where(Alias.module_id.in_(module_ids)).order_by(Alias.alias)):
        found[module_id][alias] = number
    return found


def tags_of(session: Session, module_ids: Iterable[int]) -> defaultdict[int, list[str]]:
    """Per module: its tags, by name."""
    query = select(ModuleTag).where(ModuleTag.module_id.in_(module_ids)).order_by(ModuleTag.tag)
    found: defaultdict[int, list[str]] = defaultdict(list)
    for row in session.scalars(query):
        found[row.module_id].append(row.tag)
    return found


def _counts(session: Session, module_ids: Collection[int]) -> dict[int, int]:
    """Per module: how many versions it has."""
    if not module_ids:
        return {}
    query = select(Version.module_id, func.count()).where(Version.module_id.in_(module_ids))
    found = {row[0]: row[1] for row in session.execute(query.group_by(Version.module_id))}
    return {module_id: found.get(module_id, 0) for module_id in module_ids}


def newest_of(session: Session, module_ids: _Ids) -> dict[int, int]:
    """Per module: the newest version that is not yanked, if there is one. The index is read from its end, not counted."""
    number = (
        select(Version.number)
        .where(Version.module_id == Module.id, Version.yanked_at.is_(None))
        .order_by(Version.number.desc())
        .limit(1)
        .correlate(Module)
        .scalar_subquery()
    )
    rows = session.execute(select(Module.id, number).where(Module.id.in_(module_ids)))
    return {row[0]: row[1] for row in rows if row[1] is not None}
