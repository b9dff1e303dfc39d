"""A generic network as it is seen: every cell with what is known of it. The number of queries does not grow with the cells."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from graftery.spec.cells import figure, kappa, own_figure
from graftery.spec.generic import (
    CellCertificate,
    CellJob,
    CellOut,
    CellState,
    GenericCertificate,
    GenericOut,
    GenericSummary,
    MemberOut,
)
from graftery.spec.wire import Page
from registry.generics.rows import KIND, Cell, find, grid
from registry.models import Edge, GenericCell, GenericMember, Job, Module, ProbesRow, ReplayRow, Version
from registry.pages import clamp, cut, read_cursor

_BY_JOB = "job "


def list_generics(session: Session, *, cursor: str | None = None, limit: int = 50) -> Page[GenericSummary]:
    """Generic networks, the newest name first."""
    limit, after = clamp(limit), read_cursor(cursor, int)
    query = select(Module).where(Module.kind == KIND).order_by(Module.id.desc()).limit(limit + 1)
    if after is not None:
        query = query.where(Module.id < after[0])
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.id,))
    counts = _counts(session, [row.id for row in rows])
    return Page[GenericSummary](
        items=[
            GenericSummary.model_validate(
                {**{field: getattr(row, field) for field in _PLAIN}, **counts.get(row.id, _NOTHING)}
            )
            for row in rows
        ],
        next=following,
    )


_PLAIN = ("name", "description", "created_at", "updated_at")
_NOTHING = {"categories": 0, "tasks": 0, "ready": 0}


def _counts(session: Session, ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Of each: how many rows, columns, and cells with a network."""
    found = {id_: dict(_NOTHING) for id_ in ids}
    query = select(GenericMember.generic_id, Module.kind, func.count()).join(
        Module, Module.id == GenericMember.member_id
    )
    query = query.where(GenericMember.generic_id.in_(ids)).group_by(GenericMember.generic_id, Module.kind)
    for id_, kind, count in session.execute(query):
        found[id_]["tasks" if kind == "task" else "categories"] = count
    ready = select(GenericCell.generic_id, func.count()).where(GenericCell.version_id.is_not(None))
    ready = ready.where(GenericCell.generic_id.in_(ids)).group_by(GenericCell.generic_id)
    for id_, count in session.execute(ready):
        found[id_]["ready"] = count
    return found


def matrix(session: Session, name: str) -> GenericOut:
    """A generic network with all its cells.

    Raises:
        NotFound: there is none of this name.
        Conflict: `kind_mismatch`.
    """
    generic = find(session, name)
    there = grid(session, generic)
    known = _Known.of(session, there.cells)
    return GenericOut(
        name=generic.name,
        description=generic.description,
        categories=[_member(each) for each in there.categories],
        tasks=[_member(each) for each in there.tasks],
        cells=[_cell_out(cell, known) for cell in there.cells],
        created_at=generic.created_at,
        updated_at=generic.updated_at,
    )


def _member(version: Version) -> MemberOut:
    return MemberOut(name=version.module.name, ref=version.ref, digest=version.digest)


@dataclass(frozen=True)
class _Known:
    """What stands behind the cells, by job or by version of the network."""

    jobs: dict[str, Job]
    parameters: dict[int, int]
    certificates: dict[int, CellCertificate]

    @classmethod
    def of(cls, session: Session, cells: Sequence[Cell]) -> _Known:
        networks = [cell.network.id for cell in cells if cell.network is not None]
        jobs = {id_ for cell in cells if (id_ := _job_id(cell)) is not None}
        return cls(
            {job.id: job for job in session.scalars(select(Job).where(Job.id.in_(jobs)))},
            _parameters(session, networks),
            certificates(session, networks),
        )


def _job_id(cell: Cell) -> str | None:
    """The job that made a cell's network; else the last one about it."""
    by = cell.network.created_by if cell.network is not None else None
    if by is not None and by.startswith(_BY_JOB):
        return by.removeprefix(_BY_JOB)
    return None if cell.row is None else cell.row.job_id


def _parameters(session: Session, networks: Collection[int]) -> dict[int, int]:
    """Of the adapters; 0 where a network has none."""
    query = select(Edge.child_id, Version.facts).join(Version, Version.id == Edge.parent_id)
    query = query.where(Edge.child_id.in_(networks), Edge.role == "adapter")
    found = {row[0]: int((row[1] or {}).get("parameters", 0)) for row in session.execute(query)}
    return dict.fromkeys(networks, 0) | found


def certificates(session: Session, networks: Collection[int]) -> dict[int, CellCertificate]:
    """How often each network was asked again, and how it answered."""
    recorded = set(session.scalars(select(ProbesRow.version_id).where(ProbesRow.version_id.in_(networks))))

    query = select(
        ReplayRow.version_id,
        func.count(),
        func.count().filter(ReplayRow.identical),
        func.count().filter(~ReplayRow.same),
    )
    query = query.where(ReplayRow.version_id.in_(networks)).group_by(ReplayRow.version_id)
    counts = {row[0]: (row[1], row[2], row[3]) for row in session.execute(query)}
    return {
        id_: CellCertificate(recorded=id_ in recorded, replays=all_, identical=identical, different=different)
        for id_ in networks
        for all_, identical, different in [counts.get(id_, (0, 0, 0))]
    }


def _cell_out(cell: Cell, known: _Known) -> CellOut:
    job = known.jobs.get(_job_id(cell) or "")
    state, reason = state_of(cell, job)
    told: dict[str, Any] = {"category": cell.category.module.name, "task": cell.task.module.name}
    told |= {"state": state, "reason": reason}
    if cell.row is not None:
        told["precheck"] = cell.row.precheck
        told["direct"] = own_figure((cell.row.direct or {}).get("metrics"))
    if job is not None:
        error = f"{job.error_code}: {job.error_message}" if job.error_code else None
        told |= {"job": CellJob(id=job.id, state=job.state, error=error), "recipe": job.recipe}
    if cell.network is not None:
        told |= _network(cell.network, job, known)
    return CellOut.model_validate(told)


def _network(network: Version, job: Job | None, known: _Known) -> dict[str, Any]:
    metrics = network.metrics or {}
    return {
        "network": network.ref,
        "digest": network.digest,
        "figure": own_figure(metrics),
        "teacher": figure(metrics, "teacher"),
        "samples": (metrics.get("evaluated") or {}).get("samples"),
        "labels": (job.result or {}).get("labels") if job is not None else None,
        "agreement": kappa(metrics),
        "parameters": known.parameters.get(network.id),
        "certificate": known.certificates.get(network.id),
    }


def state_of(cell: Cell, job: Job | None) -> tuple[CellState, str | None]:
    """The state of a cell whose last job this is, and why it has no network."""
    if cell.network is not None:
        return "ready", None
    if job is not None and job.state in ("queued", "running"):
        return "running", None
    if cell.row is not None and cell.row.rejected is not None:
        return "rejected", cell.row.rejected["reason"]
    if job is not None and job.state in ("failed", "cancelled"):
        return (
            "failed",
            f"its job has {job.state}" if job.error_code is None else f"{job.error_code}: {job.error_message}",
        )
    return "missing", None


def certificate(session: Session, name: str) -> GenericCertificate:
    """Whether the cells ever answered differently after a job, whoever's it was."""
    generic = find(session, name)
    cells = [cell.network for cell in grid(session, generic).cells if cell.network is not None]
    found = certificates(session, [network.id for network in cells])
    return GenericCertificate(
        name=name,
        cells=len(cells),
        recorded=sum(each.recorded for each in found.values()),
        replays=sum(each.replays for each in found.values()),
        identical=sum(each.identical for each in found.values()),
        different=[network.ref for network in cells if found[network.id].different],
    )
