"""The working side. Everything is fenced: after another attempt has taken the job, nothing here writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, delete, or_, select, true, update
from sqlalchemy.orm import Session
from sqlalchemy.sql.elements import ColumnElement

from graftery.spec.wire import JobKind
from registry.catalogue import blobs
from registry.clock import from_now, now
from registry.jobs.rows import end, fail_job, write_event
from registry.models import BlobRow, Job, JobEventRow
from registry.store import Blob

MAX_CRASHES = 3


@dataclass(frozen=True)
class Claim:
    """A job that a worker has taken. `attempt` goes with everything that it writes about it."""

    id: str
    attempt: int
    kind: JobKind
    request: dict[str, Any]
    pinned: dict[str, str]
    recipe: dict[str, Any] | None
    checkpoint: Blob | None
    checkpoint_step: int | None


@dataclass(frozen=True)
class Beat:
    """What a heartbeat learns: whether the job is still this worker's, and whether it should be cancelled."""

    alive: bool
    cancel: bool


def claim(
    session: Session,
    worker: str,
    lease_s: float,
    max_crashes: int = MAX_CRASHES,
    device_bytes: int | None = None,
    *,
    makes_room: bool = False,
) -> Claim | None:
    """Take the job that is due: a queued one, or one whose worker has been silent for longer than its lease.

    A job that is estimated to need more than `device_bytes` is left to a worker with more; None takes any. With
    `makes_room` only a `collect` is taken: the worker's disk has no room for another job.

    Jobs that are due but cannot go on are ended on the way: cancelled where that was asked, failed (`crashed`) where
    `max_crashes` workers died in a row without a new checkpoint between them.
    """
    takes = or_(Job.kind == "collect", Job.cancel_requested) if makes_room else _fits(device_bytes)
    while (job := _next(session, takes)) is not None:
        if job.state == "running":
            job.crashes += 1
        if job.cancel_requested:
            end(session, job, "cancelled")
        elif job.crashes >= max_crashes:
            fail_job(session, job, "crashed", f"The job's process died {job.crashes} times without getting further")
        else:
            return _take(session, job, worker, lease_s)
    return None


def is_any_due(session: Session, device_bytes: int | None = None) -> bool:
    """Whether `claim` would find a job: a look that costs no write."""
    return bool(session.scalar(select(select(Job.id).where(_is_due(device_bytes)).exists())))


_QUEUED = Job.state == "queued"


def _lost() -> ColumnElement[bool]:
    return and_(Job.state == "running", Job.lease_until < now())


def _is_due(device_bytes: int | None) -> ColumnElement[bool]:
    return and_(or_(_QUEUED, _lost()), _fits(device_bytes))


def _fits(device_bytes: int | None) -> ColumnElement[bool]:
    if device_bytes is None:
        return true()
    # Who may end a job need not be able to run it.
    return or_(Job.memory_bytes.is_(None), Job.memory_bytes <= device_bytes, Job.cancel_requested)


def _next(session: Session, takes: ColumnElement[bool]) -> Job | None:
    """The due job that goes first of those that `takes` holds for, locked.

    Asked for in two: the index gives the first queued job at once, however many there are, and a condition that also takes
    lost ones would have the database sort them all.
    """
    order = Job.priority, Job.created_at, Job.id
    due = select(Job).where(takes).order_by(*order).limit(1)
    due = due.with_for_update(skip_locked=True, of=Job).execution_options(populate_existing=True)
    found = [session.scalar(due.where(condition)) for condition in (_lost(), _QUEUED)]
    return min(
        (job for job in found if job is not None), key=lambda job: (job.priority, job.created_at, job.id), default=None
    )


def _take(session: Session, job: Job, worker: str, lease_s: float) -> Claim:
    job.state, job.worker = "running", worker
    job.attempt += 1
    job.lease_until = from_now(lease_s)
    if job.started_at is None:
        job.started_at = now()
    write_event(session, job, "state", {"state": "running", "attempt": job.attempt, "worker": worker})
    checkpoint = job.checkpoint
    return Claim(
        id=job.id,
        attempt=job.attempt,
        kind=job.kind,  # type: ignore[arg-type]
        request=job.request,
        pinned=job.pinned,
        recipe=job.recipe,
        checkpoint=None if checkpoint is None else Blob(checkpoint.digest, checkpoint.size_bytes),
        checkpoint_step=None if checkpoint is None else job.checkpoint_step,
    )


def heartbeat(session: Session, job_id: str, attempt: int, lease_s: float) -> Beat:
    """Keep the job for another `lease_s`."""
    statement = update(Job).where(*_fence(job_id, attempt)).values(lease_until=from_now(lease_s))
    cancel = session.scalar(statement.returning(Job.cancel_requested))
    return Beat(alive=cancel is not None, cancel=bool(cancel))


def _fence(job_id: str, attempt: int) -> tuple[ColumnElement[bool], ...]:
    return Job.id == job_id, Job.attempt == attempt, Job.state == "running"


def _held(session: Session, job_id: str, attempt: int) -> Job | None:
    """The job, locked, if this attempt still has it."""
    query = select(Job).where(*_fence(job_id, attempt)).with_for_update(of=Job)
    return session.scalar(query.execution_options(populate_existing=True))


def progress(session: Session, job_id: str, attempt: int, data: dict[str, Any]) -> bool:
    """Say how far the job is; callers keep to two a second. False: it is no longer theirs."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    job.progress = data
    write_event(session, job, "progress", data)
    return True


def checkpoint(session: Session, job_id: str, attempt: int, step: int, blob: Blob) -> bool:
    """Note from where the next attempt goes on; the bytes are in the store. The crashes so far are forgiven."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    blobs.touch(session, blob)
    job.checkpoint_digest, job.checkpoint_step, job.crashes = blob.digest, step, 0
    write_event(session, job, "checkpoint", {"step": step})
    return True


def finish(session: Session, job_id: str, attempt: int, result: dict[str, Any]) -> bool:
    """The job has succeeded. False: another attempt has it, and the caller rolls back what it made."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    job.result = result
    write_event(session, job, "result", result)
    end(session, job, "succeeded")
    return True


def fail(session: Session, job_id: str, attempt: int, code: str, message: str) -> bool:
    """The job has ended by itself with an error."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    fail_job(session, job, code, message)
    return True


def cancelled(session: Session, job_id: str, attempt: int) -> bool:
    """The worker has stopped the job, as was asked."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    end(session, job, "cancelled")
    return True


def requeue(session: Session, job_id: str, attempt: int) -> bool:
    """Give the job back, to go on from its last checkpoint: the worker is drained. It costs the job nothing."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    _queue_again(session, job)
    return True


def crashed(session: Session, job_id: str, attempt: int, message: str, max_crashes: int = MAX_CRASHES) -> bool:
    """The job's process died under a worker that lives: queue it again, or fail it after `max_crashes` in a row."""
    job = _held(session, job_id, attempt)
    if job is None:
        return False
    job.crashes += 1
    if job.crashes >= max_crashes:
        fail_job(session, job, "crashed", message)
    else:
        _queue_again(session, job)
    return True


def _queue_again(session: Session, job: Job) -> None:
    if job.cancel_requested:
        end(session, job, "cancelled")
        return
    job.state, job.worker, job.lease_until = "queued", None, None
    write_event(session, job, "state", {"state": "queued"})


def forget_progress(session: Session, older_than_s: float, at_once: int = 100) -> int:
    """Delete the `progress` events of jobs that ended longer ago than this; of how many jobs, `at_once` at most.

    What else happened stays, and so does the last progress in the job's own row.
    """
    told = JobEventRow.type == "progress"
    has_some = select(JobEventRow.seq).where(JobEventRow.job_id == Job.id, told).exists()
    ended = select(Job.id).where(Job.finished_at < from_now(-older_than_s), has_some).limit(at_once)
    ids = list(session.scalars(ended))
    if ids:
        session.execute(delete(JobEventRow).where(JobEventRow.job_id.in_(ids), told))
    return len(ids)


def held_bytes() -> ColumnElement[bool]:
    """SQL, for queries of `blobs`: a job that has not ended would go on from these bytes."""
    return select(Job.id).where(Job.checkpoint_digest == BlobRow.digest).exists()
