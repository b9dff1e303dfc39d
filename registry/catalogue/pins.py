"""What jobs and generic networks need: a version that is pinned by a queued or running job, or is in such a network, cannot be deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from registry.models import GenericCell, GenericMember, Job, JobPin, Module


def pin(session: Session, job_id: str, version_ids: Iterable[int]) -> None:
    """Keep the versions until `unpin`."""
    session.add_all(JobPin(job_id=job_id, version_id=version_id) for version_id in dict.fromkeys(version_ids))
    session.flush()


def unpin(session: Session, job_id: str) -> None:
    """The job has ended: what it needed may go."""
    session.execute(delete(JobPin).where(JobPin.job_id == job_id))


def pinning(session: Session, version_ids: Collection[int]) -> list[str]:
    """The jobs that need one of the versions."""
    query = select(JobPin.job_id).where(JobPin.version_id.in_(version_ids)).distinct()
    return list(session.scalars(query.order_by(JobPin.job_id)))


def in_generics(session: Session, version_ids: Collection[int]) -> list[str]:
    """The generic networks that have one of the versions, as a row, a column or a cell."""
    member = select(GenericMember.generic_id).where(GenericMember.version_id.in_(version_ids))
    cell = select(GenericCell.generic_id).where(GenericCell.version_id.in_(version_ids))
    query = select(Module.name).where(Module.id.in_(member.union(cell))).order_by(Module.name)
    return list(session.scalars(query))


def pinning_jobs(session: Session, version_ids: Select[int]) -> list[tuple[str, str, str, int]]:
    """Job, its kind, its state and a version that it needs, for each such pair; by job, the oldest first."""
    query = select(Job.id, Job.kind, Job.state, JobPin.version_id).join(JobPin, JobPin.job_id == Job.id)
    query = query.where(JobPin.version_id.in_(version_ids)).order_by(Job.created_at, Job.id, JobPin.version_id)
    return [(row[0], row[1], row[2], row[3]) for row in session.execute(query)]
