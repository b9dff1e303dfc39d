"""The life of a job at its worker: every way in which an attempt ends, with real children."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from graftery.errors import StoreError, Unavailable
from registry import jobs
from registry.store import Blob, Store
from tests.support.processes import eventually, meanwhile
from tests.support.workplace import SQLITE, Workplace
from worker import parent, prepare
from worker.bench import Bench
from worker.parent import run_next

pytestmark = SQLITE


def test_nothing_to_do(bench: Bench) -> None:
    assert run_next(bench) is False
    assert bench.child is None, "a child is only started for a job"


def test_the_child_is_kept_warm(bench: Bench, place: Workplace) -> None:
    ids = [place.submit(name) for name in ("one", "two")]
    assert run_next(bench) and run_next(bench)
    results = [place.job(job_id).result for job_id in ids]
    assert results[0] and results[1] and results[0]["metrics"]["pid"] == results[1]["metrics"]["pid"]


def test_an_idle_child_is_let_go(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    child = bench.warm_child()
    bench.rest()
    assert child.alive
    monkeypatch.setattr("worker.bench._IDLE_S", 0.0)
    bench.rest()
    assert not child.alive and bench.child is None


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ("diverged", "diverged", "the last finite loss was 0.5"),
        ("memory", "out_of_memory", "MemoryError: no more"),
        ("allocator", "out_of_memory", "can't allocate memory"),
        ("bug", "job_failed", "ValueError: this is a bug"),
    ],
)
def test_a_job_that_ends_with_an_error(bench: Bench, place: Workplace, script: str, code: str, words: str) -> None:
    job_id = place.submit(**{"raise": script})
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "failed" and job.error is not None
    assert job.error.code == code and words in job.error.message
    assert job.attempt == 1, "an error is not tried again"
    assert bench.child is None, "a child that met an error does not get the next job"


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"die_at": 1, "signal": "SIGSEGV"}, "SIGSEGV"),
        ({"die_at": 1, "signal": "SIGKILL"}, "out of memory"),
        ({"raise": "exit"}, "status 3"),
    ],
)
def test_a_child_that_dies_again_and_again_fails_the_job(
    bench: Bench, place: Workplace, how: dict[str, object], words: str
) -> None:
    job_id = place.submit(**how)
    for _ in range(bench.settings.max_crashes):
        assert run_next(bench)
    job = place.job(job_id)
    assert job.state == "failed" and job.error is not None and job.attempt == 3
    assert job.error.code == "crashed" and words in job.error.message
    good = place.submit("good")
    assert run_next(bench) and place.job(good).state == "succeeded", "the worker lives"


def test_a_crash_goes_on_from_the_last_checkpoint(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(steps=6, checkpoint_every=2, step_s=0.05, die_at=5, die_once=True)
    assert run_next(bench)
    assert place.job(job_id).state == "queued" and place.job(job_id).checkpoint_step == 4
    assert run_next(bench)
    job = place.job(job_id)
    assert job.state == "succeeded" and job.result is not None and job.result["metrics"]["started_at"] == 4


def test_a_checkpoint_whose_bytes_are_gone_costs_time_only(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(steps=6, checkpoint_every=2, step_s=0.05, die_at=5, die_once=False)
    run_next(bench)
    with place.database.read() as session:
        digest = jobs.get(session, job_id).checkpoint_digest
    assert digest is not None
    place.store.delete(digest)
    run_next(bench)
    assert place.job(job_id).checkpoint_step == 4, "it started from nothing and got there again"


def test_cancel(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(steps=10_000, step_s=0.01, checkpoint_every=10)
    worker = meanwhile(lambda: run_next(bench))
    assert place.reaches_step(job_id, 10)
    with place.database.transaction() as session:
        jobs.request_cancel(session, job_id)
    asked = time.monotonic()
    worker.join(timeout=10)
    assert place.job(job_id).state == "cancelled"
    assert time.monotonic() - asked < 3
    assert place.versions_of("net") == [] and bench.child is None


def test_a_worker_that_stops_gives_the_job_back(bench: Bench, place: Workplace) -> None:
    job_id = place.submit(steps=10_000, step_s=0.01, checkpoint_every=10)
    worker = meanwhile(lambda: run_next(bench))
    assert place.reaches_step(job_id, 10)
    bench.stopping.set()
    worker.join(timeout=10)
    with place.database.read() as session:
        job = jobs.get(session, job_id)
    assert (job.state, job.crashes) == ("queued", 0)
    assert (job.checkpoint_step or 0) >= 10


def test_a_silent_database_costs_the_lease_not_the_worker(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.settings = bench.settings.model_copy(update={"lease_s": 2.0})
    job_id = place.submit(steps=10_000, step_s=0.01)
    worker = meanwhile(lambda: run_next(bench))
    assert place.comes_to(job_id, "running") and eventually(lambda: bench.child is not None)

    def silent(*_: object) -> None:
        raise Unavailable("no answer")

    for verb in ("heartbeat", "progress", "checkpoint"):
        monkeypatch.setattr(jobs, verb, silent)
    worker.join(timeout=10)
    assert not worker.is_alive() and bench.child is None
    assert place.job(job_id).state == "running", "another worker takes it when the lease is over"


def test_a_full_disk_costs_checkpoints_then_fails_the_job(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("The disk is full", code="store_full")

    monkeypatch.setattr(Store, "put_file", full)
    monkeypatch.setattr(prepare, "PATIENCE_S", 2.0)
    job_id = place.submit(steps=3, checkpoint_every=1)
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "failed" and job.error is not None and job.error.code == "store_full"
    assert job.checkpoint_step is None and place.versions_of("net") == []


def _no_folder(*_: object, **_kw: object) -> str:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_worker_without_room_for_a_job_claims_none(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit()
    monkeypatch.setattr(parent, "REST_S", 0.3)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "mkdtemp", _no_folder)
        began = time.monotonic()
        assert run_next(bench) is False
        assert time.monotonic() - began > 0.3, "it rests"
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _folder: SimpleNamespace(free=-1))
        assert run_next(bench) is False
    with place.database.read() as session:
        job = jobs.get(session, job_id)
        assert (job.state, job.attempt, job.crashes) == ("queued", 0, 0)
    assert run_next(bench) and place.job(job_id).state == "succeeded"


def test_what_makes_room_runs_without_any(bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = place.submit()
    with place.database.transaction() as session:
        job_id = jobs.submit(session, kind="collect", request={}, pinned={}).id
    monkeypatch.setattr(tempfile, "mkdtemp", _no_folder)
    assert run_next(bench) is True
    assert (place.job(job_id).state, place.job(waits).state) == ("succeeded", "queued")


def test_a_checkpoint_that_finds_no_room_for_a_moment_is_not_lost(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = place.submit(steps=6, checkpoint_every=2, step_s=0.05, die_at=5, die_once=True)
    run_next(bench)
    with place.database.read() as session:
        wanted = jobs.get(session, job_id).checkpoint_digest
    full, local_path = [StoreError("The disk is full", code="store_full")], Store.local_path

    def crowded(store: Store, digest: str) -> Path:
        if digest == wanted and full:
            raise full.pop()
        return local_path(store, digest)

    monkeypatch.setattr(Store, "local_path", crowded)
    run_next(bench)
    result = place.job(job_id).result
    assert not full and result is not None and result["metrics"]["started_at"] == 4


def test_collect_runs_without_a_child(bench: Bench, place: Workplace) -> None:
    with place.database.transaction() as session:
        job_id = jobs.submit(session, kind="collect", request={"dry_run": True}, pinned={}).id
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "succeeded" and job.result is not None and job.result["dry_run"] is True
    assert bench.child is None


def test_the_database_may_blink_while_bytes_are_collected(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    blinks = [Unavailable("no answer")]
    collect = parent.collect

    def blink(*arguments: object) -> dict[str, int | bool]:
        if blinks:
            raise blinks.pop()
        return collect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(parent, "collect", blink)
    with place.database.transaction() as session:
        job_id = jobs.submit(session, kind="collect", request={}, pinned={}).id
    run_next(bench)
    assert not blinks and place.job(job_id).state == "succeeded"


def test_an_error_of_our_own_fails_the_job(bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("our own")

    monkeypatch.setattr(parent, "prepare", broken)
    job_id = place.submit()
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "failed" and job.error is not None
    assert (job.error.code, job.error.message) == ("job_failed", "RuntimeError: our own")


def test_a_disk_that_fails_once_costs_a_checkpoint_alone(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures, put = [OSError(errno.EIO, "Input/output error")], Store.put_file

    def failing(store: Store, path: Path) -> Blob:
        if failures:
            raise failures.pop()
        return put(store, path)

    monkeypatch.setattr(Store, "put_file", failing)
    job_id = place.submit(steps=6, checkpoint_every=2, step_s=0.02)
    run_next(bench)
    job = place.job(job_id)
    assert job.state == "succeeded" and job.checkpoint_step is not None and not failures


def test_a_child_that_nobody_listens_to_gets_no_other_job(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed, other = place.submit(steps=50, step_s=0.05), place.submit("other", steps=3)
    with monkeypatch.context() as patch:
        patch.setattr(parent, "tell_progress", lambda *_: 1 / 0)
        run_next(bench)
    assert bench.child is None
    run_next(bench)
    assert (place.job(failed).state, place.job(other).state) == ("failed", "succeeded")


def test_the_files_of_a_job_are_asked_for_while_it_runs(
    bench: Bench, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a bucket's cache what nobody asked for goes; the child reads some of its files at its end."""
    asked: Counter[str] = Counter()
    local_path = Store.local_path

    def noted(store: Store, digest: str) -> Path:
        asked[digest] += 1
        if asked[digest] > 2:
            raise Unavailable("no answer")  # it costs a line in the log
        return local_path(store, digest)

    monkeypatch.setattr(Store, "local_path", noted)
    monkeypatch.setattr("worker.holding._LEAST_S", 0.05)
    bench.settings = bench.settings.model_copy(update={"collect_grace_s": 0.2})
    job_id = place.submit(steps=20, step_s=0.05)
    run_next(bench)
    assert place.job(job_id).state == "succeeded"
    assert asked and min(asked.values()) > 2
