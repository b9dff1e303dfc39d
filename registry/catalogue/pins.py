"""What queued and running jobs need: a version that is pinned by one cannot be deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.models import JobPin


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
