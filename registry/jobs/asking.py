"""The asking side: submit, look, cancel, retry."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from statistics import median
from typing import Any
from uuid import uuid4

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from graftery.errors import Conflict
from graftery.spec.access import Scope
from graftery.spec.wire import JobError, JobEvent, JobKind, JobOut, JobState, Page
from registry.access import audit, caller
from registry.catalogue import pins
from registry.catalogue.find import resolve
from registry.jobs.rows import end, get, locked, write_event
from registry.models import GenericCell, Job, JobEventRow
from registry.pages import clamp, cut, moment, read_cursor

# A statement takes so many values: PostgreSQL 65535, SQLite fewer.
_AT_ONCE = 500
_RULE = frozenset[Scope]({"admin"})


def submit(
    session: Session,
    *,
    kind: JobKind,
    request: dict[str, Any],
    pinned: dict[str, str],
    recipe: dict[str, Any] | None = None,
    priority: int = 0,
    memory_bytes: int | None = None,
    retry_of: str | None = None,
) -> Job:
    """Queue a job.

    Args:
        pinned: role to `name@sha256:...`; these versions cannot be deleted until the job has ended.
        priority: smaller goes first; within one priority, older goes first.
        memory_bytes: only a worker whose device has this much takes it; None: any.

    Raises:
        NotFound: a pinned version does not exist.
        AccessRefused: `forbidden`: the caller may not have such a job, or not give its names.
    """
    _check_caller(kind, request)
    versions = [resolve(session, ref, for_pin=True).id for ref in pinned.values()]
    job = Job(
        id=uuid4().hex,
        kind=kind,
        state="queued",
        request=request,
        pinned=pinned,
        recipe=recipe,
        priority=priority,
        memory_bytes=memory_bytes,
        retry_of=retry_of,
        last_seq=0,
    )
    session.add(job)
    session.flush()
    pins.pin(session, job.id, versions)
    write_event(session, job, "state", {"state": "queued"})
    name = request.get("name")
    audit.note(session, kind if retry_of is None else "retry", f"job {job.id}", name, of=retry_of)
    return job


def _check_caller(kind: str, request: Mapping[str, Any]) -> None:
    """Refuse a caller who may not ask for a job, or for its names: also who retries or cancels another's."""
    if kind == "collect":  # the door knows a job's path, and not its kind
        caller.check_scope(caller.caller(), _RULE, "a collection")
    caller.check_name(request.get("name"))
    for name in (request.get("network"), request.get("generic", {}).get("name")):
        if name is not None:
            caller.check_name(name)
    for cell in request.get("cells", ()):  # a consolidation publishes their networks anew
        caller.check_name(cell["before"].partition(":")[0])


def list_jobs(
    session: Session,
    *,
    state: JobState | None = None,
    kind: JobKind | None = None,
    ids: Sequence[str] | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[JobOut]:
    """Jobs, the newest first; of those in `ids` where that is given."""
    limit, after = clamp(limit), _read_place(cursor)
    query = select(Job).order_by(Job.created_at.desc(), Job.id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(Job.state == state)
    if kind is not None:
        query = query.where(Job.kind == kind)
    if ids is not None:
        query = query.where(Job.id.in_(ids))
    if after is not None:
        moment, job_id = after
        query = query.where(or_(Job.created_at < moment, and_(Job.created_at == moment, Job.id < job_id)))
    rows, following = cut(session.scalars(query).all(), limit, lambda row: (row.created_at.isoformat(), row.id))
    return Page[JobOut](items=[job_out(row) for row in rows], next=following)


def _read_place(cursor: str | None) -> tuple[datetime, str] | None:
    keys = read_cursor(cursor, str, str)
    return None if keys is None else (moment(keys[0]), keys[1])


def job_out(row: Job) -> JobOut:
    error = JobError(code=row.error_code, message=row.error_message or "") if row.error_code else None
    columns = {field: getattr(row, field) for field in JobOut.model_fields if field != "error"}
    return JobOut.model_validate({**columns, "error": error})


def counts(session: Session) -> dict[str, int]:
    """How many jobs there are of each state."""
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    return {row[0]: row[1] for row in rows}


def largest_queued(session: Session) -> int:
    """The largest estimate of memory among the queued jobs, in bytes: 0 where none has one."""
    return session.scalar(select(func.max(Job.memory_bytes)).where(Job.state == "queued")) or 0


def request_cancel(session: Session, job_id: str) -> Job:
    """Cancel a queued job; ask the worker of a running one to. A cancelled job stays as it is.

    Raises:
        NotFound: there is no such job.
        AccessRefused: as `submit` does.
        Conflict: `job_state`: it has succeeded or failed.
    """
    job = locked(session, job_id)
    _check_caller(job.kind, job.request)
    if job.state in {"succeeded", "failed"}:
        raise Conflict(f"Job {job_id} has {job.state} already", code="job_state")
    if job.state == "cancelled" or job.cancel_requested:
        return job
    if job.state == "queued":
        end(session, job, "cancelled")
    job.cancel_requested = job.state == "running"
    audit.note(session, "cancel", f"job {job_id}", job.request.get("name"))
    return job


def retry(session: Session, job_id: str) -> Job:
    """Queue a new job with the request, pins and recipe of one that failed or was cancelled.

    Raises:
        NotFound: there is no such job, or a version that it needs is gone.
        AccessRefused: as `submit` does.
        Conflict: `job_state`.
    """
    job = get(session, job_id)
    if job.state not in {"failed", "cancelled"}:
        raise Conflict(
            f"Job {job_id} is {job.state}", code="job_state", hint="only failed and cancelled jobs can be retried"
        )
    again = submit(
        session,
        kind=job.kind,  # type: ignore[arg-type]
        request=job.request,
        pinned=job.pinned,
        recipe=job.recipe,
        priority=job.priority,
        memory_bytes=job.memory_bytes,
        retry_of=job.id,
    )
    # Where a cell of a generic network waits for the old one, it waits for this one now.
    session.execute(update(GenericCell).where(GenericCell.job_id == job.id).values(job_id=again.id))
    return again


def numbers_of(session: Session, job_ids: Sequence[str]) -> dict[str, int]:
    """Of each job that there is, the number of its last event."""
    found: dict[str, int] = {}
    for start in range(0, len(job_ids), _AT_ONCE):
        query = select(Job.id, Job.last_seq).where(Job.id.in_(job_ids[start : start + _AT_ONCE]))
        found |= {row[0]: row[1] for row in session.execute(query)}
    return found


def usual_seconds(session: Session, tasks: Collection[str], looked_at: int = 200) -> dict[str, float]:
    """What the last transplants into task modules took, by these modules' digests: the median; none where there were none lately."""
    if not tasks:
        return {}
    query = select(Job).where(Job.kind == "transplant", Job.state == "succeeded").order_by(Job.created_at.desc())
    took: dict[str, list[float]] = {}
    for row in session.scalars(query.limit(looked_at)):
        digest = row.pinned.get("task", "").rpartition(":")[2]
        if row.result and digest in tasks:
            took.setdefault(digest, []).append(row.result["seconds"])
    return {digest: median(seconds) for digest, seconds in took.items()}


def events_after(session: Session, job_id: str, seq: int = 0, limit: int = 200) -> list[JobEvent]:
    """The events of a job after number `seq`, in order."""
    query = select(JobEventRow).where(JobEventRow.job_id == job_id, JobEventRow.seq > seq)
    rows = session.scalars(query.order_by(JobEventRow.seq).limit(limit))
    return [JobEvent.model_validate({"seq": r.seq, "type": r.type, "at": r.at, "data": r.data}) for r in rows]
