"""Promotion and rollback: many cells of a generic network at once, in one transaction, or none of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import Conflict, NotFound
from graftery.spec.consolidating import CellReport, worse_than
from registry import jobs
from registry.access import caller
from registry.catalogue.aliases import set_alias
from registry.catalogue.find import DEFAULT, resolve
from registry.generics.history import Became, note
from registry.generics.rows import Cell, Grid, cell_row, find, grid
from registry.models import GenericChange, GenericMember, Job, Module, Version

Swap = tuple[Cell, str | None, str | None]
"""A cell, the reference of the network that it has, and of the one that it is to have."""


def promote(session: Session, name: str, job_ids: Sequence[str], worst: float) -> GenericChange:
    """Put the networks that consolidations made into the cells that they were about, and their modules into the rows and columns.

    Args:
        job_ids: of rows and columns that share no cell.
        worst: points that no cell may be worse by.

    Raises:
        NotFound: there is no such generic network, or no such job.
        Conflict: `job_state`: a job is no consolidation of this network that has succeeded; `conflict`: a cell changed since it began, or
            two of them are about one; `cells_worse`: with the cells that are.
    """
    caller.check_name(name)
    generic = find(session, name, lock=True)
    made = [_made(session, name, job_id, worst) for job_id in job_ids]
    there = grid(session, generic)
    swaps = [_swaps(there, each) for each in made]
    _check_apart([cell for each in swaps for cell, *_ in each])
    members: dict[str, tuple[Version | None, Version | None]] = {}
    for each, own in zip(made, swaps, strict=True):
        before, after = resolve(session, each["before"]), resolve(session, each["module"], for_pin=True)
        _check_complete(there, before, own)
        _swap_member(session, generic, before, after)
        members[after.module.name] = before, after
    became = _swap(session, generic, [swap for own in swaps for swap in own])
    return note(session, generic, "promote", members=members, cells=became, jobs=job_ids)


def _made(session: Session, name: str, job_id: str, worst: float) -> Mapping[str, Any]:
    """The result of a job, if it may be promoted."""
    job = jobs.get(session, job_id)
    _check_job(job, name)
    made: Mapping[str, Any] = job.result or {}
    if made["unchanged"]:
        raise Conflict(
            f"job {job.id} changed nothing: no state was better than the start", hint="there is nothing to promote"
        )
    _check_rule(made["cells"], worst)
    return made


def _swaps(there: Grid, made: Mapping[str, Any]) -> list[Swap]:
    return [(there.cell(each["category"], each["task"]), each["before"], each["network"]) for each in made["cells"]]


def _check_apart(cells: Sequence[Cell]) -> None:
    """Refuse jobs that made a network each for one cell: neither has what the other learned."""
    seen: set[tuple[int, int]] = set()
    for cell in cells:
        if cell.place in seen:
            raise Conflict(
                f"two of the jobs are about the cell {cell}", hint="promote one, then consolidate the other one again"
            )
        seen.add(cell.place)


def _check_job(job: Job, name: str) -> None:
    about = (job.request.get("generic") or {}).get("name")
    if job.kind != "consolidate" or about != name:
        raise Conflict(
            f"job {job.id} is no consolidation of {name}",
            code="job_state",
            hint=f"POST /v1/generic/{name}/consolidate begins one",
        )
    if job.state != "succeeded":
        raise Conflict(f"job {job.id} is {job.state}", code="job_state", hint="only what has succeeded can be promoted")


def _check_rule(cells: Sequence[Mapping[str, Any]], worst: float) -> None:
    found = worse_than((CellReport.model_validate(cell["report"]) for cell in cells), worst)
    worse = [f"{each.cell}: {each.figure} {each.before:.4f} to {each.after:.4f}" for each in found]
    if worse:
        raise Conflict(
            f"{len(worse)} of {len(cells)} cells would be worse by more than {worst:g} points: {'; '.join(worse[:5])}",
            code="cells_worse",
            hint="consolidate with labels, with more steps or another rate; or allow more in worst",
            cells=worse,
        )


def _check_complete(there: Grid, before: Version, swaps: Sequence[Swap]) -> None:
    """Refuse to change the module of a row or column of which a cell came in meanwhile: it would be of the old one."""
    asked = {cell.place for cell, *_ in swaps}
    new = [
        str(cell)
        for cell in there.cells
        if before.module_id in cell.place and cell.network is not None and cell.place not in asked
    ]
    if new:
        raise Conflict(
            f"cells came in after the consolidation began: {', '.join(new[:5])}",
            hint="consolidate again, over these too",
        )


def _swap_member(session: Session, generic: Module, before: Version, after: Version) -> None:
    member = session.get(GenericMember, (generic.id, before.module_id))
    if member is None or member.version_id != before.id:
        raise Conflict(
            f"{before.module.name} is of another version in {generic.name} by now, not of {before.ref}",
            hint="somebody else promoted or rolled back: look at the network's changes, then begin again",
        )
    member.version_id = after.id


def _swap(session: Session, generic: Module, swaps: Sequence[Swap]) -> list[Became]:
    became: list[Became] = []
    for cell, old, new in swaps:
        there = None if cell.network is None else cell.network.ref
        if there != old:
            raise Conflict(
                f"the cell {cell} of {generic.name} has {there or 'no network'} by now, not {old or 'none'}",
                hint="somebody else changed it: look at the network's changes, then begin again",
            )
        became.append((cell, cell.network, _point(session, generic, cell, new)))
    session.flush()
    return became


def _point(session: Session, generic: Module, cell: Cell, ref: str | None) -> Version | None:
    """Let a cell have a network, and what its name serves too."""
    version = None if ref is None else resolve(session, ref, for_pin=True)
    cell_row(session, generic, cell).version_id = None if version is None else version.id
    if version is not None:
        set_alias(session, version.module.name, DEFAULT, version.number)
    return version


def rollback(session: Session, name: str, change_id: int | None = None) -> GenericChange:
    """Undo a promotion, or a cell that was replaced: every cell of it has again what it had before.

    Args:
        change_id: by default the last change that can be undone.

    Raises:
        NotFound: there is no such change.
        Conflict: there is nothing to undo; a cell changed again since; what it had was yanked.
    """
    caller.check_name(name)
    generic = find(session, name, lock=True)
    change = _to_undo(session, generic, change_id)
    there = grid(session, generic)
    swaps = [(there.cell(each["category"], each["task"]), each["new"], each["old"]) for each in change.details["cells"]]
    members = {}
    for member, (old, new) in change.details["members"].items():
        members[member] = resolve(session, new), resolve(session, old, for_pin=True)
        _swap_member(session, generic, *members[member])
        _check_complete(there, members[member][0], swaps)
    became = _swap(session, generic, swaps)
    return note(session, generic, "rollback", members=members, cells=became, undoes=change.id)


def _to_undo(session: Session, generic: Module, change_id: int | None) -> GenericChange:
    """The change that is meant: a promotion or a replaced cell that was not undone yet."""
    query = select(GenericChange).where(GenericChange.generic_id == generic.id).order_by(GenericChange.id.desc())
    changes = session.scalars(query).all()
    undone = {change.undoes for change in changes}
    there = {change.id: change for change in changes if _can_be_undone(change) and change.id not in undone}
    if change_id is not None and change_id not in {change.id for change in changes}:
        raise NotFound(f"{generic.name} has no change {change_id}")
    if not there or (change_id is not None and change_id not in there):
        what = "has no change that can be undone" if change_id is None else f"cannot undo its change {change_id}"
        raise Conflict(f"{generic.name} {what}", hint="promotions and replaced cells can be undone, once")
    return next(iter(there.values())) if change_id is None else there[change_id]


def _can_be_undone(change: GenericChange) -> bool:
    cells = change.details["cells"]
    return change.action in ("promote", "place") and bool(cells) and all(cell["old"] is not None for cell in cells)
