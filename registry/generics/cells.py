"""What comes into a cell: what a job has made, or a network that somebody puts there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from graftery.errors import Conflict, Misfit, NotFound
from graftery.spec.cells import refusal
from graftery.spec.generic import Accept
from graftery.spec.manifest import json_of
from registry.access import caller
from registry.catalogue.aliases import set_alias
from registry.catalogue.find import DEFAULT
from registry.catalogue.lineage import network_parts
from registry.generics.history import note
from registry.generics.rows import Cell, cell_row, find, grid
from registry.models import Module, Version


def place(session: Session, name: str, network: Version, *, replace: bool = False) -> tuple[Cell, bool]:
    """Put a network at hand into the cell of its category and task; whether that changed anything.

    Raises:
        NotFound: the network's category or task is not in the generic network.
        Misfit: `cells_differ`: it is composed of other versions than the other cells of its row and column.
        Conflict: the cell has another network.
    """
    caller.check_name(name)
    generic = find(session, name, lock=True)
    parts = network_parts(session, network)
    if parts.clones:
        raise Misfit(f"{network.ref} has clones, which add classes to its task", code="cells_differ")
    cell = grid(session, generic).cell(parts.category.module.name, parts.task.module.name)
    _check_same(cell, network, {"category": parts.category, "task": parts.task})
    if cell.network is not None and cell.network.id == network.id:
        return cell, False
    if cell.network is not None and not replace:
        raise Conflict(
            f"the cell {cell} of {name} has the network {cell.network.ref}",
            hint="say replace to put this one there; rollback undoes it",
        )
    old = cell.network
    row = cell_row(session, generic, cell)
    row.version_id, row.rejected = network.id, None
    note(session, generic, "place", cells=[(cell, old, network)])
    return grid(session, generic).cell(cell.category.module.name, cell.task.module.name), True


def _check_same(cell: Cell, network: Version, parts: Mapping[str, Version]) -> None:
    for role, wanted in (("category", cell.category), ("task", cell.task)):
        if parts[role].digest != wanted.digest:
            raise Misfit(
                f"{network.ref} is composed of {parts[role].ref}, the other cells of that {role} are of {wanted.ref}",
                code="cells_differ",
                hint=f"compose it of {wanted.ref}",
            )


def lock(session: Session, where: Mapping[str, Any] | None) -> None:
    """Lock the generic network that a job is for before its other names: whoever needs both takes them in this order."""
    if where is not None:
        _still(session, where)


def settle(session: Session, job_id: str, where: Mapping[str, Any], network: Version) -> dict[str, Any]:
    """Let a job's network into the cell that it was learned for, if it is good enough and the cell still waits for it.

    Args:
        where: of the job's request: `name`, `category`, `task`, `role` (`cell`, or `direct` for the figure beside it) and `accept`.

    Returns:
        For the job's result: the network's name, and what came of it.
    """
    told = {key: where[key] for key in ("name", "category", "task")}
    generic = _still(session, where)
    cell = None if generic is None else _cell(session, generic, where)
    if generic is None or cell is None:
        return {**told, "outcome": "gone", "reason": "the generic network has no such cell any more"}
    row, metrics = cell_row(session, generic, cell), network.metrics or {}
    if where.get("role") == "direct":
        row.direct = {"job": job_id, "network": network.ref, "metrics": metrics}
        return {**told, "outcome": "direct"}
    parts = network_parts(session, network)
    if (parts.category.digest, parts.task.digest) != (cell.category.digest, cell.task.digest):
        return {**told, "outcome": "overtaken", "reason": "its row or column is of another version by now"}
    if row.version_id is not None and row.version_id != network.id:
        return {**told, "outcome": "overtaken", "reason": "the cell has a network by now"}
    reason = refusal(metrics, Accept.model_validate(where.get("accept") or {}))
    if reason is not None:
        row.rejected = {"network": network.ref, "job": job_id, "reason": reason}
        return {**told, "outcome": "rejected", "reason": reason}
    row.version_id, row.rejected = network.id, None
    set_alias(session, network.module.name, DEFAULT, network.number, f"job {job_id}")
    note(session, generic, "cell", cells=[(cell, None, network)], jobs=[job_id], by=f"job {job_id}")
    return {**told, "outcome": "kept"}


def _still(session: Session, where: Mapping[str, Any]) -> Module | None:
    """The generic network, locked, if it is still there."""
    try:
        return find(session, where["name"], lock=True)
    except (NotFound, Conflict):
        return None


def _cell(session: Session, generic: Module, where: Mapping[str, Any]) -> Cell | None:
    try:
        return grid(session, generic).cell(where["category"], where["task"])
    except NotFound:
        return None


def order(session: Session, generic: Module, cell: Cell, job_id: str, precheck: Any = None) -> None:
    """Note that a job is to fill a cell."""
    row = cell_row(session, generic, cell)
    row.job_id, row.rejected = job_id, None
    row.precheck = None if precheck is None else json_of(precheck)
    session.flush()
