"""A generic network as it can be asked now: each cell's network, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from graftery.spec.generic import CellState
from registry.generics.matrix import state_of
from registry.generics.rows import KIND, find, grid
from registry.models import GenericCell, GenericChange, Job, Module, Version


@dataclass(frozen=True)
class CellNow:
    """A category under a task, by their names."""

    category: str
    task: str
    network: Version | None
    state: CellState
    reason: str | None


@dataclass(frozen=True)
class Stamp:
    """What is the same for as long as the cells of a generic network are; `number` counts its changes.

    Of an unready cell its job's state counts, but not how far that is.
    """

    name: str
    number: int
    made_at: tuple[datetime, datetime]
    unready: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Now:
    """A generic network with its cells, row by row."""

    stamp: Stamp
    cells: list[CellNow]


def stamp(session: Session, name: str) -> Stamp:
    """By which one sees, in far less time than `now` takes, that nothing changed.

    Raises:
        NotFound: there is none of this name.
        Conflict: `kind_mismatch`.
    """
    generic = find(session, name)
    count = select(func.count()).where(GenericChange.generic_id == generic.id)
    unready = (
        select(GenericCell.category_id, GenericCell.task_id, GenericCell.job_id, Job.state, GenericCell.rejected)
        .outerjoin(Job, Job.id == GenericCell.job_id)
        .where(GenericCell.generic_id == generic.id, GenericCell.version_id.is_(None))
        .order_by(GenericCell.category_id, GenericCell.task_id)
    )
    rows = tuple((*row[:4], str(row[4])) for row in session.execute(unready))
    return Stamp(generic.name, session.scalar(count) or 0, (generic.created_at, generic.updated_at), rows)


def now(session: Session, name: str) -> Now:
    """What a generic network is now; the number of queries does not grow with its cells.

    Raises:
        NotFound, Conflict: as `stamp` does.
    """
    stamped = stamp(session, name)  # before the cells: what changes between the two is seen next time
    cells = grid(session, find(session, name)).cells
    ids = [cell.row.job_id for cell in cells if cell.network is None and cell.row is not None and cell.row.job_id]
    jobs = {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(ids)))} if ids else {}
    found = []
    for cell in cells:
        state, reason = state_of(cell, jobs.get((cell.row.job_id or "") if cell.row is not None else ""))
        found.append(CellNow(cell.category.module.name, cell.task.module.name, cell.network, state, reason))
    return Now(stamped, found)


@dataclass(frozen=True)
class Served:
    """A generic network in a list of what can be asked; `parts`: digests of the modules of its cells."""

    name: str
    number: int
    parts: frozenset[str]


def served(session: Session) -> list[Served]:
    """All generic networks by name, in two queries."""
    query = select(GenericCell.generic_id, Version.parts).join(Version, Version.id == GenericCell.version_id)
    parts: dict[int, set[str]] = {}
    for id_, of_cell in session.execute(query):
        parts.setdefault(id_, set()).update(of_cell.values())
    number = select(func.count()).where(GenericChange.generic_id == Module.id).scalar_subquery()
    rows = session.execute(select(Module.id, Module.name, number).where(Module.kind == KIND).order_by(Module.name))
    return [Served(name, count, frozenset(parts.get(id_, ()))) for id_, name, count in rows]
