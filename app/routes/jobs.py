"""/v1/jobs: long work, its live events, cancel and retry; and the collection of bytes that nothing names."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Annotated, Any, get_args
from urllib.parse import urlencode

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sse_starlette import EventSourceResponse

from app.deps import Cursor, Limit, Posting, Reading, Service, ServiceDep, Work, link_next
from app.edge.errors import problems
from app.events import as_sse
from graftery.spec.wire import CollectRequest, EventType, JobEvent, JobKind, JobOut, JobState, Page, TransplantsOut
from registry import jobs, queue
from registry.access.caller import caller
from registry.models import Job

router = APIRouter(prefix="/v1", tags=["jobs"])

_ID_PATTERN = r"^[A-Za-z0-9-]+$"
JobId = Annotated[str, Path(min_length=1, max_length=64, pattern=_ID_PATTERN, examples=["0196f2c8a4c0"])]
JobIds = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64, pattern=_ID_PATTERN)]] | None,
    Query(max_length=50, description="Only these; may be given several times"),
]
HEARTBEAT_S = 15.0
_EVENT_SCHEMA = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"type": "string", "enum": list(get_args(EventType))},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobEvent"},
        },
    },
}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events; `id` counts from 1, `data` is a JobEvent. The stream ends with the job",
        "content": {
            "text/event-stream": {
                "schema": _EVENT_SCHEMA,
                "example": 'id: 3\nevent: progress\ndata: {"seq":3,"type":"progress","at":"2026-01-01T00:00:00Z",'
                '"data":{"phase":"train","step":120,"steps":600,"loss":0.21}}\n\n',
            }
        },
    },
    204: {"description": "The job has ended and there is nothing after Last-Event-ID: do not reconnect"},
}


def wake(work: Work, rows: Iterable[Job]) -> None:
    """Wake a worker for each job after the commit."""
    work.after_commit += [partial(queue.wake, work.service.settings, row.id) for row in rows]


def accepted(work: Work, row: Job, out: JobOut | None = None) -> Response:
    """202 with the job (as `out` tells it) and where to find it."""
    wake(work, [row])
    return work.answer(out or jobs.job_out(row), status=202, location=f"/v1/jobs/{row.id}")


def accepted_all(work: Work, rows: list[Job], out: TransplantsOut) -> Response:
    """`accepted`, for the jobs of one request: the list of just these is where to find them."""
    wake(work, rows)
    return work.answer(out, status=202, location=f"/v1/jobs?{urlencode([('id', row.id) for row in rows])}")


@router.get("/jobs", responses=problems())
def list_jobs(
    *,
    request: Request,
    response: Response,
    session: Reading,
    state: JobState | None = None,
    kind: JobKind | None = None,
    id: JobIds = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Page[JobOut]:
    """Jobs, newest first."""
    page = jobs.list_jobs(session, state=state, kind=kind, ids=id, cursor=cursor, limit=limit)
    link_next(request, response, page)
    return page


@router.get("/jobs/{id}", responses=problems("not_found"))
def get_job(session: Reading, id: JobId) -> JobOut:
    """What was asked, where it stands, what came of it."""
    return jobs.job_out(jobs.get(session, id))


@router.get("/jobs/{id}/events", response_class=EventSourceResponse, responses={**problems("not_found"), **EVENTS})
async def get_job_events(
    request: Request,
    service: ServiceDep,
    id: JobId,
    last_event_id: Annotated[int, Header(ge=0, le=2**31 - 1, description="Resume after this event")] = 0,
) -> Response:
    """The job's events from the first (or after Last-Event-ID) and then as they happen."""
    after = await run_in_threadpool(_after, service, id, last_event_id)
    if after is None:
        return Response(status_code=204)
    events = service.hub.follow(id, after)
    if caller().key_id is not None:
        events = _while_taken(service, request.headers.get("authorization"), events)
    return EventSourceResponse((as_sse(event) async for event in events), ping=HEARTBEAT_S, send_timeout=60)


async def _while_taken(
    service: Service, authorization: str | None, events: AsyncGenerator[JobEvent]
) -> AsyncGenerator[JobEvent]:
    """The events, until the key that asked for them is taken back."""
    async with aclosing(events):
        async for event in events:
            if not await service.guard.still(authorization):
                return
            yield event


def _after(service: Service, id: str, seq: int) -> int | None:
    """Where to go on: after `seq`, or the job's last event where it has not as many; None: it has ended and that was all."""
    with service.database.read() as session:
        row = jobs.get(session, id)
        return None if row.finished_at is not None and seq >= row.last_seq else min(seq, row.last_seq)


@router.post(
    "/jobs/{id}/cancel",
    response_model=JobOut,
    responses=problems("not_found", "job_state", "idempotency_conflict"),
)
def cancel_job(work: Posting, id: JobId) -> Response:
    """Ask a job to stop. A queued one is cancelled at once, a running one by its worker within a second."""
    return work.answer(jobs.job_out(jobs.request_cancel(work.session, id)))


@router.post(
    "/jobs/{id}/retry",
    status_code=202,
    response_model=JobOut,
    responses=problems("not_found", "job_state", "idempotency_conflict"),
)
def retry_job(work: Posting, id: JobId) -> Response:
    """Queue the same work again, with the same pinned parts, recipe and seed, as a new job."""
    return accepted(work, jobs.retry(work.session, id))


@router.post("/collect", status_code=202, response_model=JobOut, responses=problems("idempotency_conflict"))
def collect(work: Posting, request: CollectRequest | None = None) -> Response:
    """Free the bytes that no version and no job names. The job's result says how much was freed."""
    asked: dict[str, Any] = (request or CollectRequest()).model_dump(mode="json")
    return accepted(work, jobs.submit(work.session, kind="collect", request=asked, pinned={}, recipe=None))
