from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import update

from graftery.errors import AccessRefused, Conflict, GrafteryError, NotFound
from registry import catalogue, jobs
from registry.access.caller import Caller, acting
from registry.clock import now
from registry.db import Database
from registry.models import Job
from tests.support.registry import put

REQUEST = {"name": "graft", "recipe": {"steps": 3}}


def submit(database: Database, **more: object) -> str:
    with database.transaction() as session:
        return jobs.submit(session, **{"kind": "collect", "request": REQUEST, "pinned": {}, **more}).id


def test_a_job_shows_what_was_asked(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin}
    job_id = submit(database, kind="transplant", pinned=pinned, recipe={"steps": 3, "seed": 1})
    with database.read() as session:
        out = jobs.job_out(jobs.get(session, job_id))
        events = jobs.events_after(session, job_id)
    assert (out.id, out.kind, out.state, out.attempt) == (job_id, "transplant", "queued", 0)
    assert (out.request, out.pinned, out.recipe) == (REQUEST, pinned, {"steps": 3, "seed": 1})
    assert (out.started_at, out.finished_at, out.error, out.result, out.retry_of) == (None,) * 5
    assert out.created_at.utcoffset() == timedelta(0)
    assert [(event.seq, event.type, event.data) for event in events] == [(1, "state", {"state": "queued"})]


def test_a_pin_must_lead_somewhere(database: Database) -> None:
    with pytest.raises(NotFound):
        submit(database, kind="transplant", pinned={"category": f"cat@sha256:{'0' * 64}"})
    with database.read() as session:
        assert jobs.counts(session) == {}


def test_two_roles_may_pin_one_version(database: Database) -> None:
    with database.transaction() as session:
        pin = put(session, "digits", kind="samples").pin
    assert submit(database, pinned={"samples": pin, "evaluation_samples": pin})


@pytest.mark.parametrize("job_id", ["", "unknown", "a\x00", "\ud800", "a" * 1000])
def test_unknown_jobs(database: Database, job_id: str) -> None:
    for call in (jobs.get, jobs.request_cancel, jobs.retry):
        with pytest.raises(NotFound), database.transaction() as session:
            call(session, job_id)
    with database.read() as session:
        assert jobs.events_after(session, job_id) == []


def test_a_queued_job_is_cancelled_at_once(database: Database) -> None:
    job_id = submit(database)
    for _ in range(2):
        with database.transaction() as session:
            assert jobs.request_cancel(session, job_id).state == "cancelled"
    with database.transaction() as session:
        assert jobs.claim(session, "w", 60) is None
        events = jobs.events_after(session, job_id)
        assert jobs.get(session, job_id).finished_at is not None
    assert [event.data["state"] for event in events] == ["queued", "cancelled"]


def test_a_running_job_is_asked_to_stop(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        jobs.claim(session, "w", 60)
        assert not jobs.heartbeat(session, job_id, 1, 60).cancel
        job = jobs.request_cancel(session, job_id)
        assert (job.state, jobs.job_out(job).cancel_requested) == ("running", True)
        assert jobs.heartbeat(session, job_id, 1, 60) == jobs.Beat(alive=True, cancel=True)
        assert jobs.cancelled(session, job_id, 1)
        assert jobs.get(session, job_id).state == "cancelled"


def test_a_cancelled_job_of_a_dead_worker_ends(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        jobs.claim(session, "w", -1)
        jobs.request_cancel(session, job_id)
        assert jobs.claim(session, "w2", 60) is None
        assert jobs.get(session, job_id).state == "cancelled"


@pytest.mark.parametrize("end", ["succeeded", "failed"])
def test_an_ended_job_is_not_cancelled(database: Database, end: str) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        jobs.claim(session, "w", 60)
        jobs.finish(session, job_id, 1, {}) if end == "succeeded" else jobs.fail(session, job_id, 1, "diverged", "")
    with pytest.raises(Conflict, match=end) as error, database.transaction() as session:
        jobs.request_cancel(session, job_id)
    assert error.value.code == "job_state"


def test_retry_is_a_new_job(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin}
    job_id = submit(database, kind="transplant", pinned=pinned, recipe={"seed": 4}, priority=2)
    with database.transaction() as session:
        jobs.claim(session, "w", 60)
        jobs.fail(session, job_id, 1, "out_of_memory", "no memory")
        catalogue.yank(session, "cat:1", "old")
        again = jobs.retry(session, job_id)
        assert (again.state, again.attempt, again.priority, again.retry_of) == ("queued", 0, 2, job_id)
        assert (again.request, again.pinned, again.recipe) == (REQUEST, pinned, {"seed": 4})
        assert jobs.get(session, job_id).state == "failed"
        assert again.id != job_id
        with pytest.raises(Conflict):
            catalogue.delete_version(session, "cat:1")


def test_retry_of_what_is_gone(database: Database) -> None:
    with database.transaction() as session:
        pinned = {"category": put(session, "cat").pin}
    job_id = submit(database, kind="transplant", pinned=pinned)
    with database.transaction() as session:
        jobs.request_cancel(session, job_id)
        catalogue.delete_module(session, "cat")
    with pytest.raises(NotFound), database.transaction() as session:
        jobs.retry(session, job_id)


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_only_failed_and_cancelled_jobs_are_retried(database: Database, state: str) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        if state != "queued":
            jobs.claim(session, "w", 60)
        if state == "succeeded":
            jobs.finish(session, job_id, 1, {})
    with pytest.raises(Conflict) as error, database.transaction() as session:
        jobs.retry(session, job_id)
    assert error.value.code == "job_state"


def test_lists_and_counts(database: Database) -> None:
    ids = [submit(database, kind=kind) for kind in ("collect", "transplant", "collect")]
    with database.transaction() as session:
        jobs.claim(session, "w", 60)
        assert [job.id for job in jobs.list_jobs(session).items] == ids[::-1]
        assert [job.id for job in jobs.list_jobs(session, state="queued").items] == [ids[2], ids[1]]
        assert [job.id for job in jobs.list_jobs(session, kind="transplant").items] == [ids[1]]
        assert [job.id for job in jobs.list_jobs(session, kind="collect", state="running").items] == [ids[0]]
        assert jobs.counts(session) == {"queued": 2, "running": 1}


@pytest.mark.parametrize("same_time", [False, True])
def test_pages(database: Database, same_time: bool) -> None:
    ids = {submit(database) for _ in range(7)}
    with database.transaction() as session:
        if same_time:
            session.execute(update(Job).values(created_at=now()))
    seen: list[str] = []
    cursor = None
    while len(seen) < 20:
        with database.read() as session:
            page = jobs.list_jobs(session, cursor=cursor, limit=3)
        seen += [job.id for job in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == 7 and set(seen) == ids


def test_other_cursors_are_refused(database: Database) -> None:
    with database.read() as session, pytest.raises(GrafteryError):
        jobs.list_jobs(session, cursor="WyJhIiwiYiJd")


def test_events_after(database: Database) -> None:
    job_id = submit(database)
    with database.transaction() as session:
        jobs.claim(session, "w", 60)
        for step in range(5):
            jobs.progress(session, job_id, 1, {"step": step})
    with database.read() as session:
        assert [event.seq for event in jobs.events_after(session, job_id)] == [1, 2, 3, 4, 5, 6, 7]
        assert [event.seq for event in jobs.events_after(session, job_id, 4)] == [5, 6, 7]
        assert [event.seq for event in jobs.events_after(session, job_id, 1, limit=2)] == [2, 3]
        assert jobs.events_after(session, job_id, 7) == []


def test_who_may_not_change_a_cell_does_not_touch_its_consolidation(database: Database) -> None:
    """The module that learns on is the caller's own; the generic network and a cell are not."""
    asked = {"name": "a.is", "generic": {"name": "b.zoo"}, "cells": [{"before": "b.net:1"}]}
    with database.transaction() as session:
        task = put(session, "a.is", "t", "task")
        zoo, cell = (
            jobs.submit(session, kind="consolidate", request={**asked, **mine}, pinned={"task": task.pin}, recipe={}).id
            for mine in ({"cells": []}, {"generic": {"name": "a.zoo"}})
        )
    alice = Caller("alice", "key", frozenset({"transplant", "read"}), ("a",))
    for job in (zoo, cell):
        with acting(alice), database.transaction() as session, pytest.raises(AccessRefused):
            jobs.request_cancel(session, job)
        with database.transaction() as session:
            jobs.request_cancel(session, job)
        with acting(alice), database.transaction() as session, pytest.raises(AccessRefused):
            jobs.retry(session, job)
