"""What is written when an attempt has ended: all of it or nothing, on both databases."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from graftery.errors import StoreError, Unavailable
from registry import catalogue, jobs
from registry.store import Blob
from tests.support.processes import meanwhile
from tests.support.workplace import SQLITE, Workplace
from worker import outcome, parent, prepare
from worker.bench import Bench
from worker.lease import Lease
from worker.parent import run_next


def test_a_job_that_succeeds(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(steps=4, checkpoint_every=2, alias="stable", noise="not a report")
    assert run_next(bench) is True
    job = place.job(job_id)
    assert (job.state, job.attempt, job.worker) == ("succeeded", 1, "tester"), job.error
    assert job.result is not None
    assert {k: job.result[k] for k in ("network", "adapter", "labels")} == {
        "network": "net:1",
        "adapter": "net-adapter:1",
        "labels": 0,
    }
    assert job.result["metrics"]["adapter"] == {"accuracy": 0.5} and job.result["seconds"] >= 0
    types = [event.type for event in place.events(job_id)]
    assert types[:2] == ["state", "state"] and types[-2:] == ["result", "state"]
    assert types.count("checkpoint") == 2 and types.count("progress") >= 2


def test_the_network_names_its_parts_and_its_making(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(alias="stable")
    run_next(bench)
    with place.database.read() as session:
        network = catalogue.version_out(session, catalogue.resolve(session, "net@stable"))
        adapter = catalogue.version_out(session, catalogue.resolve(session, "net-adapter"))
        cat = catalogue.resolve(session, "cat")
        above = catalogue.lineage(session, "net", "up")
    assert network.parts is not None
    assert (network.parts.category, network.parts.adapter) == (cat.digest, adapter.digest)
    assert network.created_by == adapter.created_by == f"job {job_id}"
    assert network.metrics == adapter.metrics and adapter.facts is not None
    assert {(edge.child, edge.parent, edge.role) for edge in above.edges} >= {
        ("net:1", "cat:1", "category"),
        ("net:1", "net-adapter:1", "adapter"),
        ("net:1", "is:1", "task"),
        ("net-adapter:1", "cat:1", "category"),
    }
    assert b"".join(place.store.read(network.digest)), "the network has bytes of its own"


def test_a_worker_that_was_overtaken_writes_nothing(bench: Bench, place: Workplace) -> None:
    """The zombie: while it worked on, its lease ran out and another worker took the job."""
    job_id = place.submit(steps=10_000, step_s=0.02, checkpoint_every=5)
    worker = meanwhile(lambda: run_next(bench))
    assert place.reaches_step(job_id, 5)
    with place.database.transaction() as session:
        jobs.requeue(session, job_id, attempt=1)
        other = jobs.claim(session, "other", lease_s=60)
    assert other is not None and other.attempt == 2
    worker.join(timeout=5)
    assert not worker.is_alive() and bench.child is None, "it does not work on for nobody"
    job = place.job(job_id)
    assert (job.state, job.attempt, job.worker) == ("running", 2, "other")
    assert place.versions_of("net") == [] == place.versions_of("net-adapter")


def test_an_outcome_that_comes_too_late_is_rolled_back(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lease was lost between the child's last report and the transaction."""
    job_id = place.submit()
    publish = outcome.publish

    def late(*arguments: object) -> None:
        with place.database.transaction() as session:
            jobs.requeue(session, job_id, attempt=1)
        publish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(outcome, "publish", late)
    run_next(bench)
    assert place.job(job_id).state == "queued"
    assert place.versions_of("net") == [] == place.versions_of("net-adapter")


def test_the_database_may_blink_when_the_outcome_is_written(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit()
    answers = [Unavailable("no answer"), None]
    finish = jobs.finish

    def blink(*arguments: object) -> bool:
        if (error := answers.pop(0)) is not None:
            raise error
        return finish(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(jobs, "finish", blink)
    run_next(bench)
    assert place.job(job_id).state == "succeeded" and place.versions_of("net") == ["net:1"]


@SQLITE
@pytest.mark.parametrize(("ends", "state"), [("lease", "running"), ("worker", "queued")])
def test_a_database_that_is_away_until_the_end_fails_no_job(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch, ends: str, state: str
) -> None:
    """The lease or the worker ends before the database is back: the job is another attempt's to go on with."""
    job_id = place.submit()

    def away(*_: object) -> None:
        if ends == "lease":
            monkeypatch.setattr(Lease, "lost", True)
        else:
            bench.stopping.set()
        raise Unavailable("no answer")

    monkeypatch.setattr(outcome, "publish", away)
    run_next(bench)
    job = place.job(job_id)
    assert (job.state, job.error) == (state, None)


def _away(*_: object) -> None:
    raise Unavailable("no answer")


@SQLITE
def test_a_store_that_is_away_for_long_costs_time_not_the_job(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit(steps=4, checkpoint_every=2)

    monkeypatch.setattr(prepare, "PATIENCE_S", 0.2)
    monkeypatch.setattr(parent, "REST_S", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(outcome, "publish", _away)
        for _ in range(bench.settings.max_crashes + 1):
            assert run_next(bench)
    with place.database.read() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.crashes, job.error_code) == ("queued", 0, None)
    assert job.checkpoint_step == 4 and job.checkpoint_digest is not None
    run_next(bench)
    result = place.job(job_id).result
    assert result is not None and result["metrics"]["started_at"] == 4, "what it had learned is kept"


@SQLITE
def test_a_worker_rests_where_its_modules_cannot_be_read(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit()

    monkeypatch.setattr(prepare, "PATIENCE_S", 0.0)
    monkeypatch.setattr(parent, "REST_S", 0.5)
    monkeypatch.setattr(parent, "prepare", _away)
    began = time.monotonic()
    run_next(bench)
    assert place.job(job_id).state == "queued"
    assert time.monotonic() - began > 0.5


@SQLITE
def test_a_worker_that_stops_while_it_waits_for_room_gives_the_job_back(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit(steps=2, checkpoint_every=1)

    def full(*_: object) -> None:
        bench.stopping.set()
        raise StoreError("The disk is full", code="store_full")

    monkeypatch.setattr(outcome, "publish", full)
    run_next(bench)
    job = place.job(job_id)
    assert (job.state, job.error, job.checkpoint_step) == ("queued", None, 2)


def test_a_disk_that_is_full_for_a_moment_costs_no_outcome(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit()
    full = [StoreError("The disk is full", code="store_full")]
    put_file = place.store.put_file

    def crowded(path: Path) -> Blob:
        if full:
            raise full.pop()
        return put_file(path)

    monkeypatch.setattr(place.store, "put_file", crowded)
    run_next(bench)
    assert not full and place.job(job_id).state == "succeeded"


def test_bytes_that_do_not_verify_are_not_waited_for(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit()
    asked: list[Path] = []

    def broken(path: Path) -> Blob:
        asked.append(path)
        raise StoreError("they have another digest")

    monkeypatch.setattr(place.store, "put_file", broken)
    run_next(bench)
    error = place.job(job_id).error
    assert error is not None and error.code == "store_corrupt" and len(asked) == 1


def test_a_name_that_was_taken_meanwhile_fails_the_job(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(name="cat")
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "failed" and job.error is not None and job.error.code == "kind_conflict"
    assert place.versions_of("cat-adapter") == [], "the adapter goes with the network"


def test_the_same_job_twice_makes_one_version(bench: Bench, place: Workplace) -> None:
    ids = [place.submit(), place.submit()]
    assert run_next(bench) and run_next(bench)
    assert [(place.job(job_id).result or {})["network"] for job_id in ids] == ["net:1", "net:1"]
