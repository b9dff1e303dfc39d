"""Generic networks to be written elsewhere and read back, beside the rows of `registry.catalogue.backup`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from graftery.errors import GrafteryError
from graftery.spec.manifest import Kind
from registry.generics.rows import find, grid
from registry.layout.records import CellRecord, GenericChangeRecord, GenericRecord, NameRecord, VersionKey
from registry.models import GenericCell, GenericChange, GenericMember, Module, Version


def generic_record(session: Session, name: str) -> GenericRecord:
    """What is in a generic network."""
    generic = find(session, name)
    there = grid(session, generic)
    query = select(GenericMember, Version).join(Version, Version.id == GenericMember.version_id)
    query = query.where(GenericMember.generic_id == generic.id).order_by(GenericMember.place, GenericMember.member_id)
    rows = select(GenericChange).where(GenericChange.generic_id == generic.id).order_by(GenericChange.id)
    changes = session.scalars(rows).all()
    places = {row.id: place for place, row in enumerate(changes)}
    return GenericRecord(
        members=[_key(version) for _, version in session.execute(query)],
        cells=[
            CellRecord(category=cell.category.module.name, task=cell.task.module.name, network=_key(cell.network))
            for cell in there.cells
            if cell.network is not None
        ],
        changes=[
            GenericChangeRecord(
                action=row.action,
                at=row.at,
                by=row.by,
                details=row.details,
                undoes=None if row.undoes is None else places[row.undoes],
            )
            for row in changes
        ],
    )


def _key(version: Version) -> VersionKey:
    return VersionKey(name=version.module.name, number=version.number)


def restore_generics(session: Session, names: Iterable[NameRecord]) -> None:
    """Fill the generic networks that are empty here; one that has anything in it stays as it is.

    Raises:
        GrafteryError: `layout_invalid`; a row, column or cell names what is not there, or is of another kind.
    """
    for record in names:
        if record.generic is None:
            continue
        generic = find(session, record.name, lock=True)
        count = session.scalar(select(func.count()).where(GenericMember.generic_id == generic.id))
        if not count:
            _fill(session, generic, record.generic)


def _fill(session: Session, generic: Module, record: GenericRecord) -> None:
    members: dict[str, Version] = {}
    for place, member in enumerate(record.members, 1):
        version = members[member.name] = _version(session, generic, member, ("category", "task"))
        ids = {"member_id": version.module_id, "version_id": version.id}
        session.add(GenericMember(generic_id=generic.id, place=place, **ids))
    for cell in record.cells:
        network = _version(session, generic, cell.network, ("network",))
        category, task = (members.get(name) for name in (cell.category, cell.task))
        wanted = {"category": category and category.digest, "task": task and task.digest}
        if not wanted.items() <= (network.parts or {}).items():
            _refuse(generic, f"{network.ref} is not of the cell {cell.category} x {cell.task}")
        if category is not None and task is not None:
            ids = {"category_id": category.module_id, "task_id": task.module_id}
            session.add(GenericCell(generic_id=generic.id, version_id=network.id, **ids))
    made: list[int] = []
    for change in record.changes:  # one by one: their order is their meaning
        undoes = made[change.undoes] if change.undoes is not None and change.undoes < len(made) else None
        row = GenericChange(generic_id=generic.id, undoes=undoes, **change.model_dump(exclude={"undoes"}))
        session.add(row)
        session.flush()
        made.append(row.id)


def _version(session: Session, generic: Module, key: VersionKey, kinds: tuple[Kind, ...]) -> Version:
    query = select(Version).join(Module).where(Module.name == key.name, Version.number == key.number)
    version = session.scalar(query.where(Module.kind.in_(kinds)))
    if version is None:
        _refuse(generic, f"there is no {' or '.join(kinds)} {key.name}:{key.number}")
    return version


def _refuse(generic: Module, why: str) -> NoReturn:
    raise GrafteryError(f"the generic network {generic.name} cannot be read back: {why}", code="layout_invalid")
