from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from graftery.spec.wire import JobEvent
from registry import catalogue, jobs
from registry.clock import from_now
from registry.db import Database
from registry.models import Job, JobPin
from tests.support.crowd import claim_all, in_processes, in_threads
from tests.support.plans import plans
from tests.support.registry import blob_of, put


def submit(database: Database, n: int = 1, **more: object) -> list[str]:
    ids = []
    for _ in range(n):
        with database.transaction() as session:
            ids.append(jobs.submit(session, **{"kind": "collect", "request": {}, "pinned": {}, **more}).id)
    return ids


def take(database: Database, lease_s: float = 60.0, worker: str = "w", **more: int) -> jobs.Claim | None:
    with database.transaction() as session:
        return jobs.claim(session, worker, lease_s, **more)


def job_of(database: Database, job_id: str) -> Job:
    with database.read() as session:
        return jobs.get(session, job_id)


def events(database: Database, job_id: str) -> list[JobEvent]:
    with database.read() as session:
        return jobs.events_after(session, job_id)


def states(database: Database, job_id: str) -> list[str]:
    return [event.data["state"] for event in events(database, job_id) if event.type == "state"]


def lose(database: Database, job_id: str) -> None:
    """The worker dies: its lease runs out."""
    with database.transaction() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=from_now(-0.01)))


def test_claim(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin}
    (job_id,) = submit(database, kind="transplant", request={"a": 1}, pinned=pinned, recipe={"b": 2})
    assert take(database, worker="gpu-1") == jobs.Claim(
        job_id, 1, "transplant", {"a": 1}, pinned, {"b": 2}, checkpoint=None, checkpoint_step=None
    )
    out = jobs.job_out(job_of(database, job_id))
    assert (out.state, out.attempt, out.worker) == ("running", 1, "gpu-1")
    assert out.started_at is not None and out.started_at >= out.created_at
    assert events(database, job_id)[-1].data == {"state": "running", "attempt": 1, "worker": "gpu-1"}
    assert take(database) is None


def test_order_is_priority_then_age(database: Database) -> None:
    (later, first, urgent) = (submit(database, priority=priority)[0] for priority in (1, 0, -5))
    second = submit(database, priority=0)[0]
    taken = [take(database) for _ in range(4)]
    assert [claim.id for claim in taken if claim] == [urgent, first, second, later]


def test_threads_take_each_job_once(database_url: str, database: Database) -> None:
    ids = submit(database, 20)
    taken = in_threads(lambda index: claim_all(index, database_url), 5)
    assert Counter(job_id for own in taken for job_id in own) == Counter(ids)
    assert all(job_of(database, job_id).attempt == 1 for job_id in ids)


def test_processes_take_each_job_once(database_url: str, database: Database) -> None:
    ids = submit(database, 20)
    taken = in_processes(claim_all, 3, database_url)
    assert Counter(job_id for own in taken for job_id in own) == Counter(ids)
    assert all(job_of(database, job_id).attempt == 1 for job_id in ids)


def test_a_claim_that_is_not_committed_is_none(database: Database) -> None:
    (job_id,) = submit(database)
    with pytest.raises(RuntimeError), database.transaction() as session:
        assert jobs.claim(session, "w", 60)
        raise RuntimeError
    assert (job_of(database, job_id).state, states(database, job_id)) == ("queued", ["queued"])


def test_a_lost_lease_is_taken_by_another(database: Database) -> None:
    (job_id,) = submit(database)
    take(database)
    assert take(database) is None
    lose(database, job_id)
    claim = take(database, worker="other")
    assert claim is not None and (claim.id, claim.attempt) == (job_id, 2)
    assert states(database, job_id) == ["queued", "running", "running"]


def test_a_heartbeat_keeps_the_job(database: Database) -> None:
    (job_id,) = submit(database)
    take(database, lease_s=-1)
    with database.transaction() as session:
        assert jobs.heartbeat(session, job_id, 1, 60) == jobs.Beat(alive=True, cancel=False)
    assert take(database) is None


WRITES: list[Callable[[Session, str, int], bool]] = [
    lambda s, job_id, attempt: jobs.heartbeat(s, job_id, attempt, 60).alive,
    lambda s, job_id, attempt: jobs.progress(s, job_id, attempt, {"step": 1}),
    lambda s, job_id, attempt: jobs.checkpoint(s, job_id, attempt, 7, blob_of("zombie")),
    lambda s, job_id, attempt: jobs.finish(s, job_id, attempt, {"from": "zombie"}),
    lambda s, job_id, attempt: jobs.fail(s, job_id, attempt, "diverged", "zombie"),
    lambda s, job_id, attempt: jobs.cancelled(s, job_id, attempt),
    lambda s, job_id, attempt: jobs.requeue(s, job_id, attempt),
    lambda s, job_id, attempt: jobs.crashed(s, job_id, attempt, "zombie"),
]
NAMES = ["heartbeat", "progress", "checkpoint", "finish", "fail", "cancelled", "requeue", "crashed"]


def _columns(job: Job) -> dict[str, object]:
    return {column.key: getattr(job, column.key) for column in Job.__table__.columns}


@pytest.mark.parametrize("write", WRITES, ids=NAMES)
def test_a_zombie_writes_nothing(database: Database, write: Callable[[Session, str, int], bool]) -> None:
    """A worker that wakes after another has taken its job."""
    (job_id,) = submit(database)
    take(database, lease_s=-1)
    assert take(database, worker="other") is not None
    before, seen = _columns(job_of(database, job_id)), events(database, job_id)
    with database.transaction() as session:
        assert write(session, job_id, 1) is False
    assert _columns(job_of(database, job_id)) == before
    assert events(database, job_id) == seen
    with database.transaction() as session:
        assert write(session, job_id, 2) is True


@pytest.mark.parametrize("write", WRITES, ids=NAMES)
@pytest.mark.parametrize("end", ["finish", "requeue"])
def test_nothing_is_written_after_the_end(
    database: Database, write: Callable[[Session, str, int], bool], end: str
) -> None:
    (job_id,) = submit(database)
    take(database)
    with database.transaction() as session:
        assert WRITES[NAMES.index(end)](session, job_id, 1)
    before, seen = _columns(job_of(database, job_id)), events(database, job_id)
    with database.transaction() as session:
        assert write(session, job_id, 1) is False
    assert (_columns(job_of(database, job_id)), events(database, job_id)) == (before, seen)


def test_a_workers_publish_rolls_back_with_its_lost_job(database: Database) -> None:
    (job_id,) = submit(database)
    take(database, lease_s=-1)
    take(database, worker="other")
    with pytest.raises(RuntimeError), database.transaction() as session:
        put(session, "graft", kind="adapter")
        if not jobs.finish(session, job_id, 1, {}):
            raise RuntimeError
    with database.read() as session:
        assert catalogue.list_modules(session).items == []


def test_success(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin}
    (job_id,) = submit(database, pinned=pinned)
    take(database)
    with database.transaction() as session:
        jobs.checkpoint(session, job_id, 1, 5, blob_of("checkpoint"))
        assert jobs.finish(session, job_id, 1, {"network": "graft:1"})
    job = job_of(database, job_id)
    assert (job.state, job.result, job.checkpoint_digest, job.lease_until) == (
        "succeeded",
        {"network": "graft:1"},
        None,
        None,
    )
    assert job.finished_at is not None and job.checkpoint_step == 5
    assert [(event.type, event.data) for event in events(database, job_id)[2:]] == [
        ("checkpoint", {"step": 5}),
        ("result", {"network": "graft:1"}),
        ("state", {"state": "succeeded"}),
    ]
    with database.read() as session:
        assert session.scalars(select(JobPin)).all() == []


def test_failure(database: Database) -> None:
    (job_id,) = submit(database)
    take(database)
    with database.transaction() as session:
        assert jobs.fail(session, job_id, 1, "diverged", "loss 3.2 at step 40 was the last finite one")
    error = {"code": "diverged", "message": "loss 3.2 at step 40 was the last finite one"}
    out = jobs.job_out(job_of(database, job_id))
    assert out.error is not None and out.error.model_dump() == error
    assert events(database, job_id)[-1].data == {"state": "failed", "error": error}
    assert take(database) is None


def test_the_next_attempt_goes_on_from_the_checkpoint(database: Database) -> None:
    (job_id,) = submit(database)
    take(database)
    with database.transaction() as session:
        jobs.checkpoint(session, job_id, 1, 10, blob_of("ten"))
        jobs.checkpoint(session, job_id, 1, 20, blob_of("twenty"))
    lose(database, job_id)
    claim = take(database)
    assert claim is not None
    assert (claim.attempt, claim.checkpoint, claim.checkpoint_step) == (2, blob_of("twenty"), 20)


def test_deaths_without_progress_fail_the_job(database: Database) -> None:
    (job_id,) = submit(database)
    for attempt in (1, 2, 3):
        claim = take(database, max_crashes=3)
        assert claim is not None and claim.attempt == attempt
        lose(database, job_id)
    assert take(database, max_crashes=3) is None
    job = job_of(database, job_id)
    assert (job.state, job.error_code) == ("failed", "crashed")
    assert states(database, job_id) == ["queued", "running", "running", "running", "failed"]


def test_a_checkpoint_forgives_the_deaths_before(database: Database) -> None:
    (job_id,) = submit(database)
    for attempt in range(1, 8):
        claim = take(database, max_crashes=2)
        assert claim is not None and claim.attempt == attempt
        with database.transaction() as session:
            jobs.checkpoint(session, job_id, attempt, attempt, blob_of(str(attempt)))
        lose(database, job_id)


def test_a_requeue_costs_nothing(database: Database) -> None:
    (job_id,) = submit(database)
    for attempt in range(1, 8):
        claim = take(database, max_crashes=1)
        assert claim is not None and claim.attempt == attempt
        with database.transaction() as session:
            assert jobs.requeue(session, job_id, attempt)
    assert job_of(database, job_id).state == "queued"


def test_a_process_that_dies_under_its_worker(database: Database) -> None:
    (job_id,) = submit(database)
    for attempt in (1, 2):
        take(database)
        with database.transaction() as session:
            assert jobs.crashed(session, job_id, attempt, "signal 11", max_crashes=2)
    out = jobs.job_out(job_of(database, job_id))
    assert out.error is not None and (out.state, out.error.code, out.error.message) == (
        "failed",
        "crashed",
        "signal 11",
    )


def test_a_requeue_of_a_cancelled_job_ends_it(database: Database) -> None:
    (job_id,) = submit(database)
    take(database)
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
        assert jobs.requeue(session, job_id, 1)
    assert job_of(database, job_id).state == "cancelled"


def test_claim_ends_what_cannot_go_on_and_takes_the_next(database: Database) -> None:
    hopeless, good = submit(database, 2)
    take(database, lease_s=-1)
    claim = take(database, max_crashes=1)
    assert claim is not None and claim.id == good
    assert job_of(database, hopeless).state == "failed"


def test_event_numbers_have_no_holes(database: Database) -> None:
    """Workers write at once, some transactions fail, a zombie tries too: the numbers are 1 to n."""
    (job_id,) = submit(database)
    take(database, lease_s=-1)
    take(database)

    def work(index: int) -> None:
        for step in range(5):
            attempt = 2 if index else 1
            try:
                with database.transaction() as session:
                    jobs.progress(session, job_id, attempt, {"step": step})
                    if (index + step) % 3 == 0:
                        raise RuntimeError
            except RuntimeError:
                pass

    in_threads(work, 4)
    found = events(database, job_id)
    assert [event.seq for event in found] == list(range(1, len(found) + 1))
    assert len(found) == 3 + sum((index + step) % 3 != 0 for index in (1, 2, 3) for step in range(5))


def test_progress_with_nan(database: Database) -> None:
    (job_id,) = submit(database)
    take(database)
    with database.transaction() as session:
        jobs.progress(session, job_id, 1, {"phase": "train", "loss": float("nan")})
    assert job_of(database, job_id).progress == {"phase": "train", "loss": None}


def test_a_waiting_claim_does_not_block_others(database: Database) -> None:
    """On PostgreSQL a second worker passes over the row that a first one has locked."""
    if database.is_sqlite:
        return
    first, second = submit(database, 2)
    with database.transaction() as one:
        assert (claim := jobs.claim(one, "a", 60)) and claim.id == first
        with database.transaction() as other:
            assert (claim := jobs.claim(other, "b", 60)) and claim.id == second


def test_a_job_is_left_to_a_worker_that_has_the_memory(database: Database) -> None:
    (large,) = submit(database, memory_bytes=20)
    (small,) = submit(database, memory_bytes=8)
    (unknown,) = submit(database)
    taken = [take(database, device_bytes=8) for _ in range(3)]
    assert [claim and claim.id for claim in taken] == [small, unknown, None]
    with database.read() as session:
        assert not jobs.is_any_due(session, 19) and jobs.is_any_due(session, 20) and jobs.is_any_due(session)
        assert jobs.largest_queued(session) == 20
    claim = take(database, device_bytes=20)
    assert claim is not None and claim.id == large
    with database.read() as session:
        assert jobs.largest_queued(session) == 0


def test_a_lost_job_too_is_left_to_a_worker_that_has_the_memory(database: Database) -> None:
    (job_id,) = submit(database, memory_bytes=20)
    assert take(database, device_bytes=20)
    lose(database, job_id)
    assert take(database, device_bytes=19) is None
    claim = take(database)
    assert claim is not None and claim.attempt == 2


def test_a_retry_needs_the_same_memory(database: Database) -> None:
    (job_id,) = submit(database, memory_bytes=20)
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
        assert jobs.retry(session, job_id).memory_bytes == 20


def test_a_lost_job_whose_end_was_asked_for_can_be_ended_by_any(database: Database) -> None:
    (job_id,) = submit(database, memory_bytes=20)
    assert take(database)
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
    lose(database, job_id)
    assert take(database, device_bytes=1) is None
    assert job_of(database, job_id).state == "cancelled"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_claim_sorts_nothing(database: Database) -> None:
    """What it costs does not grow with the jobs that are queued."""
    submit(database, 3)
    found = plans(database, lambda: take(database))
    assert sum("SEARCH jobs" in plan for plan in found) >= 2
    assert [plan for plan in found if "SCAN jobs" in plan or "TEMP B-TREE" in plan] == []


def test_a_lost_job_waits_for_a_queued_one_that_goes_before_it(database: Database) -> None:
    (lost,) = submit(database, priority=1)
    assert take(database) is not None
    lose(database, lost)
    (queued,) = submit(database)
    (later,) = submit(database, priority=2)
    claims = [take(database) for _ in range(3)]
    assert [claim.id for claim in claims if claim is not None] == [queued, lost, later]
