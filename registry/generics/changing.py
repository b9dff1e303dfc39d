"""Making a generic network, and its rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete as delete_rows
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from graftery.errors import Conflict, GrafteryError
from graftery.spec.generic import MOST_CELLS, MOST_MEMBERS
from graftery.spec.names import check_name
from registry.access import audit, caller
from registry.catalogue.find import find_module
from registry.catalogue.publish import take_name
from registry.generics.history import Became, note
from registry.generics.rows import KIND, Cell, Grid, cell_row, find, grid
from registry.models import Edge, GenericCell, GenericMember, Job, Module, Version


def create(session: Session, name: str, description: str | None = None) -> tuple[Module, bool]:
    """Give a generic network its name; whether it is new. One that is there stays as it is.

    Raises:
        Conflict: `kind_conflict`: the name is of another kind.
    """
    caller.check_name(check_name(name))
    before = session.scalar(select(func.count()).where(Module.name == name))
    module = take_name(session, name, KIND)
    if description is not None and not before:
        module.description = description
    if not before:
        note(session, module, "create")
    return module, not before


def add(session: Session, name: str, versions: Sequence[Version]) -> list[Version]:
    """Add rows (category modules) and columns (task modules), and adopt the networks that join them already.

    Returns:
        Those that are new.

    Raises:
        Conflict: a name is in it with another version.
        GrafteryError: `request_invalid`: there would be too many.
    """
    caller.check_name(name)
    generic = find(session, name, lock=True)
    there = grid(session, generic)
    known = {each.module_id: each for each in (*there.categories, *there.tasks)}
    new = []
    for version in versions:
        if version.module_id not in known:
            known[version.module_id] = version
            new.append(version)
        elif known[version.module_id].id != version.id:
            raise Conflict(
                f"the cells of {version.module.name} in {name} are of {known[version.module_id].ref}, not of {version.ref}",
                hint="name that version; or publish this one under a name of its own; or consolidate and promote",
            )
    _check_size(there, new)
    place = session.scalar(select(func.max(GenericMember.place)).where(GenericMember.generic_id == generic.id))
    for offset, version in enumerate(new, 1 + (place or 0)):
        row = GenericMember(generic_id=generic.id, member_id=version.module_id, version_id=version.id, place=offset)
        session.add(row)
    session.flush()
    if new:
        adopted = _adopt(session, generic, new)
        note(session, generic, "add", members={each.module.name: (None, each) for each in new}, cells=adopted)
    return new


def _check_size(there: Grid, new: Sequence[Version]) -> None:
    rows, columns = len(there.categories), len(there.tasks)
    rows += sum(each.module.kind == "category" for each in new)
    columns += sum(each.module.kind == "task" for each in new)
    if max(rows, columns) > MOST_MEMBERS or rows * columns > MOST_CELLS:
        raise GrafteryError(
            f"it would have {rows} categories and {columns} tasks; {MOST_CELLS} cells are the most",
            code="request_invalid",
            hint="make another generic network",
        )


def _adopt(session: Session, generic: Module, new: Sequence[Version]) -> list[Became]:
    """Networks of these very versions become their cells: without an adapter before those with one, then the newest."""
    ids, there = {each.id for each in new}, grid(session, generic)
    empty = {
        (cell.category.id, cell.task.id): cell
        for cell in there.cells
        if cell.network is None and ids & {cell.category.id, cell.task.id}
    }
    category, task = aliased(Edge), aliased(Edge)
    adapted = select(Edge.child_id).where(Edge.child_id == Version.id, Edge.role == "adapter").exists()
    query = (
        select(category.parent_id, task.parent_id, Version)
        .join(category, (category.child_id == Version.id) & (category.role == "category"))
        .join(task, (task.child_id == Version.id) & (task.role == "task"))
        .join(Module, Module.id == Version.module_id)
        .where(Module.kind == "network", Version.yanked_at.is_(None))
        .where(category.parent_id.in_([each.id for each in there.categories]))
        .where(task.parent_id.in_([each.id for each in there.tasks]))
        .where(or_(category.parent_id.in_(ids), task.parent_id.in_(ids)))
        .order_by(adapted, Version.id.desc())
    )
    adopted: list[Became] = []
    for category_id, task_id, network in session.execute(query):
        if "clones" in (network.parts or {}):
            continue  # it answers for other classes, too
        cell = empty.pop((category_id, task_id), None)
        if cell is not None:
            cell_row(session, generic, cell).version_id = network.id
            adopted.append((cell, None, network))
    session.flush()
    return adopted


def remove(session: Session, name: str, member: str) -> None:
    """Take a row or column out, with its cells; modules and networks stay.

    Raises:
        NotFound: it is not in it.
        Conflict: `job_state`: a job about one of its cells has not ended.
    """
    caller.check_name(name)
    generic = find(session, name, lock=True)
    there = grid(session, generic)
    module = find_module(session, member)
    version = there.member(member, "task" if module.kind == "task" else "category")
    cells = [cell for cell in there.cells if version.module_id in cell.place]
    _check_idle(session, cells)
    which = or_(GenericCell.category_id == module.id, GenericCell.task_id == module.id)
    session.execute(delete_rows(GenericCell).where(GenericCell.generic_id == generic.id, which))
    key = GenericMember.generic_id == generic.id, GenericMember.member_id == module.id
    session.execute(delete_rows(GenericMember).where(*key))
    gone: list[Became] = [(cell, cell.network, None) for cell in cells if cell.network is not None]
    note(session, generic, "remove", members={member: (version, None)}, cells=gone)


def _check_idle(session: Session, cells: Sequence[Cell]) -> None:
    ids = [cell.row.job_id for cell in cells if cell.row is not None and cell.row.job_id is not None]
    query = select(Job.id).where(Job.id.in_(ids), Job.finished_at.is_(None)).order_by(Job.created_at)
    running = session.scalars(query).all()
    if running:
        raise Conflict(
            f"a job about one of its cells has not ended: {', '.join(running[:5])}",
            code="job_state",
            hint="wait for it, or cancel it",
        )


def delete(session: Session, name: str) -> None:
    """Delete a generic network with its history; modules, networks and jobs stay."""
    caller.check_name(name)
    generic = find(session, name, lock=True)
    audit.note(session, "delete", name, name)
    session.delete(generic)
    session.flush()
