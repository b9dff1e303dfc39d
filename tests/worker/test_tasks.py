"""Real workers as processes: by themselves, with Redis, killed, stopped, overtaken."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from registry import jobs, queue
from registry.db import upgrade
from registry.settings import Settings
from tests.support.processes import environment, eventually, family, gone, running
from tests.support.workplace import SQLITE, Workplace

pytestmark = SQLITE
LONG: dict[str, Any] = {"steps": 400, "step_s": 0.01, "checkpoint_every": 20}
SHORT_LEASE_S = 2.0


@contextmanager
def worker(place: Workplace, *arguments: str, **settings: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A worker whose children only count."""
    env = environment(place.settings.model_copy(update=settings))
    with running(["tests.support.busy_worker", *arguments], env) as process:
        yield process


def ends(process: subprocess.Popen[bytes], within_s: float = 10.0) -> int:
    return process.wait(timeout=within_s)


def child_of(process: subprocess.Popen[bytes]) -> psutil.Process:
    assert eventually(lambda: len(family(process.pid)) == 2)
    return family(process.pid)[1]


def crashes(place: Workplace, job_id: str) -> int:
    with place.database.read() as session:
        return jobs.get(session, job_id).crashes


def test_a_worker_finds_jobs_by_itself_and_ends_when_asked(place: Workplace) -> None:
    ids = [place.submit(f"net{i}") for i in range(3)]
    with worker(place) as process:
        assert all(place.comes_to(job_id, "succeeded") for job_id in ids)
        later = place.submit("later")
        assert place.comes_to(later, "succeeded", within_s=3)
        everyone = family(process.pid)
        process.terminate()
        assert ends(process) == 0
        assert gone(everyone)


@pytest.mark.slow
def test_what_a_host_has_left_is_swept_as_a_worker_starts(place: Workplace) -> None:
    left = place.store.staging / "left"
    left.touch()
    os.utime(left, (0, 0))
    with worker(place):
        assert eventually(lambda: not left.exists(), within_s=20)


def test_kill_9_of_the_worker_leaves_no_orphan_and_loses_no_job(place: Workplace) -> None:
    job_id = place.submit(**LONG)
    with worker(place, lease_s=SHORT_LEASE_S) as first:
        assert place.reaches_step(job_id, 40)
        everyone = family(first.pid)
        assert len(everyone) == 2
        first.kill()
        assert gone(everyone, within_s=3)
    with worker(place):
        assert place.comes_to(job_id, "succeeded")
    job = place.job(job_id)
    assert job.attempt == 2 and job.result is not None
    assert job.result["metrics"]["started_at"] >= 40
    assert place.versions_of("net") == ["net:1"] and place.versions_of("net-adapter") == ["net-adapter:1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_kill_of_the_child_leaves_the_worker_alive(place: Workplace, number: signal.Signals) -> None:
    job_id = place.submit(**LONG)
    with worker(place) as process:
        assert place.reaches_step(job_id, 20)
        child_of(process).send_signal(number)
        assert place.comes_to(job_id, "succeeded")
        assert process.poll() is None
    job = place.job(job_id)
    assert job.attempt == 2 and job.result is not None and job.result["metrics"]["started_at"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_asked_to_end_gives_its_job_back(place: Workplace, number: signal.Signals) -> None:
    job_id = place.submit(**LONG)
    with worker(place) as process:
        assert place.reaches_step(job_id, 20)
        everyone = family(process.pid)
        process.send_signal(number)
        assert place.comes_to(job_id, "queued", within_s=2), "the job need not wait for the process to end"
        ends(process)
        assert gone(everyone)
    assert crashes(place, job_id) == 0
    assert place.job(job_id).attempt == 1


@pytest.mark.slow
def test_a_tied_worker_ends_with_its_stdin(place: Workplace) -> None:
    job_id = place.submit(**LONG)
    with worker(place, "--tied") as process:
        assert place.reaches_step(job_id, 20)
        everyone = family(process.pid)
        assert process.stdin is not None
        process.stdin.close()
        assert gone(everyone)
    assert place.job(job_id).state == "queued"


@pytest.mark.slow
def test_a_worker_that_slept_through_its_lease_writes_nothing(place: Workplace) -> None:
    job_id = place.submit(**LONG)
    with worker(place, lease_s=SHORT_LEASE_S) as sleeper:
        assert place.reaches_step(job_id, 20)
        os.kill(sleeper.pid, signal.SIGSTOP)
        with worker(place) as other:
            assert eventually(lambda: place.job(job_id).attempt == 2)
            os.kill(sleeper.pid, signal.SIGCONT)
            assert place.comes_to(job_id, "succeeded")
            assert str(place.job(job_id).worker).endswith(f":{other.pid}")
        assert sleeper.poll() is None
        assert place.comes_to(place.submit("next"), "succeeded"), "it goes on with other jobs"
    assert place.versions_of("net") == ["net:1"]


@pytest.mark.slow
def test_the_celery_command_line_runs_jobs(place: Workplace) -> None:
    with place.database.transaction() as session:
        job_id = jobs.submit(session, kind="collect", request={}, pinned={}).id
    command = ["celery", "-A", "worker.tasks", "worker", "-P", "threads", "-c", "1"]
    with running(command, environment(place.settings), stdout=subprocess.DEVNULL) as process:
        assert place.comes_to(job_id, "succeeded")
        process.terminate()
        assert ends(process) == 0


def test_a_worker_that_would_do_two_jobs_at_once_does_not_start(place: Workplace) -> None:
    command = ["celery", "-A", "worker.tasks", "worker", "-P", "threads", "-c", "2"]
    with running(command, environment(place.settings), stdout=subprocess.DEVNULL) as process:
        assert ends(process, within_s=20) != 0


def test_a_message_wakes_a_worker_at_once(place: Workplace, redis_url: str) -> None:
    settings = place.settings.model_copy(update={"broker_url": redis_url})
    with worker(place, broker_url=redis_url, poll_s=600.0):
        first = place.submit("first")
        queue.wake(settings, first)
        assert place.comes_to(first, "succeeded")
        second = place.submit("second")
        queue.wake(settings, second)
        assert place.comes_to(second, "succeeded", within_s=3)


@pytest.mark.slow
def test_a_worker_that_celery_ends_gives_its_job_back(place: Workplace, redis_url: str) -> None:
    """By remote control: no signal says beforehand that the end comes."""
    settings = place.settings.model_copy(update={"broker_url": redis_url})
    job_id = place.submit(**LONG)
    with worker(place, broker_url=redis_url) as process:
        assert place.reaches_step(job_id, 20)
        everyone = family(process.pid)
        queue.celery_app(settings).control.shutdown()
        ends(process)
        assert gone(everyone)
    assert (place.job(job_id).state, crashes(place, job_id)) == ("queued", 0)


@pytest.mark.slow
def test_a_worker_that_comes_before_its_tables_waits_for_them(place: Workplace, tmp_path: Path) -> None:
    late = tmp_path / "late.db"
    with worker(place, database_url=f"sqlite:///{late}") as process:
        assert eventually(lambda: late.exists())
        time.sleep(0.5)  # some polls without tables
        assert process.poll() is None
        settings = Settings(home=place.settings.home, database_url=f"sqlite:///{late}", free_bytes=0)
        upgrade(settings)
        there = Workplace.of(settings)
        assert there.comes_to(there.submit(), "succeeded")
        there.database.dispose()


def test_a_worker_refuses_a_schema_that_it_does_not_know(place: Workplace) -> None:
    job_id = place.submit()
    with place.database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    env = environment(place.settings)
    with running(["tests.support.busy_worker"], env, stderr=subprocess.PIPE) as process:
        assert ends(process, 20) == 1
        assert process.stderr is not None
        said = process.stderr.read().decode()
    assert "schema 9999, which this version does not know" in said and "Traceback" not in said
    assert place.job(job_id).state == "queued"


def test_a_lost_message_costs_a_poll(place: Workplace, redis_url: str) -> None:
    with worker(place, broker_url=redis_url, poll_s=0.5):
        assert place.comes_to(place.submit(), "succeeded")


def test_a_broker_that_is_down_costs_a_poll(place: Workplace) -> None:
    nowhere = {"broker_url": "redis://127.0.0.1:1/0"}
    job_id = place.submit()
    queue.wake(place.settings.model_copy(update=nowhere), job_id)
    with worker(place, **nowhere) as process:
        assert place.comes_to(job_id, "succeeded")
        process.terminate()
        ends(process)
