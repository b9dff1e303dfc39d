"""The Celery app as its worker loads it: `celery -A worker.tasks worker`, or `python -m worker`.

One task, `run_job`: look at the table and do what is there. It is set off by a message (the id of a job, not read: the
table is the truth) or by this worker's own poll, and always runs in Celery's pool, which has one thread.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import structlog
from celery import Celery, bootsteps, signals
from celery.exceptions import ImproperlyConfigured, WorkerShutdown

from graftery.errors import Unavailable, first_line
from registry import jobs
from registry.db import check_head
from registry.logs import configure
from registry.queue import RUN_JOB, celery_app
from registry.settings import Settings
from registry.sweeping import sweep_hourly
from worker.bench import Bench
from worker.parent import run_next
from worker.process import CHILD_COMMAND

settings = Settings()
app: Celery = celery_app(settings)
# Set by whoever starts a worker with other children than ours, before it starts.
child_command = CHILD_COMMAND
_AFTER_FAILURE_S = 2.0

log = structlog.get_logger("graftery.worker")


class _Here:
    """This process's bench, made when its worker starts."""

    bench: Bench | None = None


@app.task(name=RUN_JOB, ignore_result=True)  # type: ignore[untyped-decorator]
def run_job(_job_id: str | None = None) -> None:
    """Do jobs until there are none."""
    bench = _Here.bench
    if bench is None:
        return
    try:
        with bench.busy:
            while not bench.stopping.is_set() and run_next(bench):
                pass
    except Unavailable as error:
        log.warning("claim_failed", error=str(error))


class Poller(bootsteps.StartStopStep):  # type: ignore[misc]
    """Looks at the jobs table and hands what it finds to the worker's own pool, broker or not."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._thread: threading.Thread | None = None

    def start(self, worker: Any) -> None:
        if worker.concurrency != 1 or "thread" not in worker.pool_cls.__module__:
            raise ImproperlyConfigured("A Graftery worker does one job at a time: start it with -P threads -c 1")
        bench = _Here.bench = Bench.of(settings, child_command)
        sweep_hourly(bench.store, settings.collect_grace_s, bench.stopping)
        _await_schema(bench)
        self._thread = threading.Thread(target=_poll, args=(bench, worker.pool), name="poller", daemon=True)
        self._thread.start()

    def stop(self, worker: Any) -> None:
        bench, _Here.bench = _Here.bench, None
        if bench is None or self._thread is None:
            return
        bench.stopping.set()
        self._thread.join()
        bench.close()

    terminate = stop


def _await_schema(bench: Bench) -> None:
    """Wait for the tables. No job is claimed from tables that this version was not written for."""
    while not bench.stopping.is_set():
        try:
            return check_head(bench.database)
        except Exception as error:  # a database that does not answer now may do so later
            if getattr(error, "code", None) == "schema_unknown":
                log.critical("worker_refused", error=str(error))
                raise WorkerShutdown(1) from None
            log.warning("tables_awaited", error=first_line(error))
        bench.stopping.wait(_AFTER_FAILURE_S)


def _poll(bench: Bench, pool: Any) -> None:
    running: Future[Any] | None = None
    wait_s = settings.poll_s
    while not bench.stopping.wait(wait_s):
        wait_s = settings.poll_s
        if running is not None and not running.done():
            continue
        try:
            is_due = _is_any_due(bench)
        except Exception as error:  # whatever it is, a later poll may be better
            log.warning("poll_failed", error=str(error).splitlines()[0])
            wait_s = max(settings.poll_s, _AFTER_FAILURE_S)
            continue
        if is_due:
            running = pool.apply_async(run_job.apply, callback=_ignore).f
        else:
            bench.rest()


def _is_any_due(bench: Bench) -> bool:
    with bench.database.read() as session:
        return jobs.is_any_due(session, bench.device_bytes)


def _ignore(_result: object) -> None:
    """Celery's pool wants a callback."""


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _drain(**_: Any) -> None:
    """At the first SIGTERM or Ctrl-C: let the running job go, so that Celery's shutdown has nothing to wait for."""
    if _Here.bench is not None:
        _Here.bench.stopping.set()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _log(**_: Any) -> None:
    configure(settings)


app.steps["worker"].add(Poller)
