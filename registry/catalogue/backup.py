"""All of the registry's rows about modules, to be written elsewhere and read back; jobs are not part of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import Conflict
from graftery.spec.manifest import json_of
from registry.catalogue import blobs
from registry.catalogue.find import changed, recount
from registry.catalogue.outs import tags_of
from registry.catalogue.publish import add_tags
from registry.layout.records import NameRecord, ParentRecord, VersionRecord
from registry.models import Alias, AliasChange, Edge, Module, ProbesRow, Version
from registry.store import Blob

_BATCH = 500
Key = tuple[str, int]


def name_records(session: Session) -> Iterator[NameRecord]:
    """Every name, the oldest first."""
    for rows in session.scalars(select(Module).order_by(Module.id).execution_options(yield_per=_BATCH)).partitions():
        ids = [row.id for row in rows]
        tags, aliases, changes = tags_of(session, ids), _aliases(session, ids), _changes(session, ids)
        for row in rows:
            more = {"tags": tags[row.id], "aliases": aliases[row.id], "changes": changes[row.id], "generic": None}
            yield NameRecord.model_validate(_fields(row, NameRecord, more))


def version_records(session: Session) -> Iterator[VersionRecord]:
    """Every version, the oldest first: parents come before what was made of them."""
    for rows in session.scalars(select(Version).order_by(Version.id).execution_options(yield_per=_BATCH)).partitions():
        ids = [row.id for row in rows]
        parents, probes = _parents(session, ids), _probes(session, ids)
        for row in rows:
            more = {
                "name": row.module.name,
                "kind": row.module.kind,
                "size_bytes": row.blob.size_bytes,
                "parents": parents[row.id],
                "probes": probes.get(row.id),
            }
            yield VersionRecord.model_validate(_fields(row, VersionRecord, more))


def _fields(row: Any, model: type[Any], more: Mapping[str, Any]) -> dict[str, Any]:
    return {field: more[field] if field in more else getattr(row, field) for field in model.model_fields}


def _aliases(session: Session, module_ids: Sequence[int]) -> defaultdict[int, list[dict[str, Any]]]:
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    query = select(Alias).where(Alias.module_id.in_(module_ids)).order_by(Alias.module_id, Alias.alias)
    for row in session.scalars(query):
        more = {"version": row.version.number, "updated_at": row.updated_at, "updated_by": row.updated_by}
        found[row.module_id].append({"alias": row.alias, **more})
    return found


def _changes(session: Session, module_ids: Sequence[int]) -> defaultdict[int, list[dict[str, Any]]]:
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    query = select(AliasChange).where(AliasChange.module_id.in_(module_ids)).order_by(AliasChange.id)
    for row in session.scalars(query):
        fields = ("alias", "old", "new", "rollback", "at", "by")
        found[row.module_id].append({field: getattr(row, field) for field in fields})
    return found


def _parents(session: Session, version_ids: Sequence[int]) -> defaultdict[int, list[ParentRecord]]:
    found: defaultdict[int, list[ParentRecord]] = defaultdict(list)
    query = select(Edge.child_id, Edge.role, Module.name, Version.number).join(Version, Version.id == Edge.parent_id)
    query = query.join(Module, Module.id == Version.module_id).where(Edge.child_id.in_(version_ids))
    for child, role, name, number in session.execute(query.order_by(Edge.child_id, Edge.role, Version.id)):
        found[child].append(ParentRecord(role=role, name=name, number=number))
    return found


def _probes(session: Session, version_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    fields = ("digest", "device_class", "made_at", "made_by")
    rows = session.scalars(select(ProbesRow).where(ProbesRow.version_id.in_(version_ids)))
    return {
        row.version_id: {field: getattr(row, field) for field in fields} | {"size_bytes": row.blob.size_bytes}
        for row in rows
    }


def restore_rows(session: Session, names: Iterable[NameRecord], versions: Iterable[VersionRecord]) -> int:
    """Write the rows of what is not there; parents have to come before what was made of them. How many versions are new.

    A name that is there keeps its description, tags and aliases; a version that is there stays as it is.

    Raises:
        Conflict: a name is of another kind here, or a number or these bytes are another version of it.
    """
    records = {record.name: record for record in names}
    modules = {name: _module(session, record) for name, record in records.items()}
    ids: dict[Key, int] = {}
    new = 0
    for record in versions:
        module, is_new = modules[record.name]
        ids[record.key], created = _version(session, module, record, ids)
        new += created
        if created and not is_new:
            changed(module)
    for name, (module, created) in modules.items():
        recount(session, module)
        if created:
            _restore_aliases(session, module, records[name], ids)
    session.flush()
    return new


def _module(session: Session, record: NameRecord) -> tuple[Module, bool]:
    module = session.scalar(select(Module).where(Module.name == record.name).with_for_update())
    if module is not None:
        if module.kind != record.kind:
            raise Conflict(f"{record.name} is of kind {module.kind} here, not {record.kind}", code="kind_conflict")
        module.last_number = max(module.last_number, record.last_number)
        return module, False
    plain = ("name", "kind", "description", "last_number", "created_at", "updated_at")
    module = Module(**{field: getattr(record, field) for field in plain})
    session.add(module)
    session.flush()
    add_tags(session, module, record.tags)
    return module, True


def _version(session: Session, module: Module, record: VersionRecord, ids: Mapping[Key, int]) -> tuple[int, bool]:
    query = select(Version).where(Version.module_id == module.id)
    known = session.scalars(query.where((Version.number == record.number) | (Version.digest == record.digest))).all()
    if known:
        if len(known) > 1 or (known[0].number, known[0].digest) != (record.number, record.digest):
            raise Conflict(
                f"{record.ref} with sha256 {record.digest[:12]}... is {known[0].ref} with {known[0].digest[:12]}... here",
                hint="import into a registry without this name",
            )
        return known[0].id, False
    blobs.touch(session, Blob(record.digest, record.size_bytes))
    plain = ("number", "digest", "manifest", "facts", "metrics", "tags", "created_at", "created_by", "yanked_at")
    row = Version(module_id=module.id, yank_reason=record.yank_reason, **{f: getattr(record, f) for f in plain})
    row.parts = None if record.parts is None else json_of(record.parts)
    session.add(row)
    session.flush()
    session.add_all(Edge(child_id=row.id, parent_id=ids[each.key], role=each.role) for each in record.parents)
    if record.probes is not None:
        blobs.touch(session, Blob(record.probes.digest, record.probes.size_bytes))
        fields = {field: getattr(record.probes, field) for field in ("digest", "made_at", "made_by")}
        session.add(ProbesRow(version_id=row.id, device_class=json_of(record.probes.device_class), **fields))
    return row.id, True


def _restore_aliases(session: Session, module: Module, record: NameRecord, ids: Mapping[Key, int]) -> None:
    for alias in record.aliases:
        row = Alias(module_id=module.id, alias=alias.alias, version_id=ids[record.name, alias.version])
        row.updated_at, row.updated_by = alias.updated_at, alias.updated_by
        session.add(row)
    for change in record.changes:  # one by one: their order is their meaning
        session.add(AliasChange(module_id=module.id, **change.model_dump()))
        session.flush()
