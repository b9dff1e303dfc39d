"""What both sides of a job's life share: its row, its events, its end."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from graftery.errors import NotFound
from graftery.spec.wire import EventType
from registry.catalogue import pins
from registry.clock import now
from registry.models import Job, JobEventRow

Final = Literal["succeeded", "failed", "cancelled"]


def get(session: Session, job_id: str) -> Job:
    """The row of a job.

    Raises:
        NotFound: there is none.
    """
    job = session.get(Job, job_id)
    if job is None:
        raise NotFound(f"There is no job {job_id}")
    return job


def locked(session: Session, job_id: str) -> Job:
    get(session, job_id)
    query = select(Job).where(Job.id == job_id).with_for_update(of=Job)
    return session.scalars(query.execution_options(populate_existing=True)).one()


def fail_job(session: Session, job: Job, code: str, message: str) -> None:
    job.error_code, job.error_message = code, message
    end(session, job, "failed", error={"code": code, "message": message})


def end(session: Session, job: Job, state: Final, **data: Any) -> None:
    """The last state: what the job needed may go, its checkpoint is no longer held."""
    job.state, job.finished_at, job.lease_until, job.checkpoint_digest = state, now(), None, None
    pins.unpin(session, job.id)
    write_event(session, job, "state", {"state": state, **data})


def write_event(session: Session, job: Job, type_: EventType, data: dict[str, Any]) -> None:
    """Write an event with the next number. The caller has the job's row, so the numbers have no holes."""
    job.last_seq += 1
    session.add(JobEventRow(job_id=job.id, seq=job.last_seq, type=type_, data=data))
    session.flush()
