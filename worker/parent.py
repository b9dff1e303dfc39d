"""The life of a job at its worker: claim it, hold its lease, run it in the child, write down how it ended.

This process never imports torch. An attempt ends in one of the ways of `Ending`; until then nothing is written for it
but checkpoints and events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import structlog

from graftery.errors import GrafteryError, Unavailable
from registry import jobs
from registry.collect import collect
from worker.bench import Bench, scratch
from worker.holding import Held
from worker.lease import Lease
from worker.outcome import LOST, Ending, deliver, write_down
from worker.prepare import passes, patiently, prepare
from worker.process import Child, ChildDied
from worker.reports import Advanced, Done, Failed, Saved
from worker.traces import free_checkpoint, keep_checkpoint, last_checkpoint, tell_progress

# How soon a job notices that its worker shuts down, or that its end was asked for.
_TICK_S = 0.05
# How long a worker leaves the queue alone after the store was away, or where its disk is full: it would claim the same job again.
REST_S = 5.0

log = structlog.get_logger("graftery.worker")


def run_next(bench: Bench) -> bool:
    """Claim one job and bring the attempt to its end; False where there is none, or no room for it on this machine.

    Raises:
        Unavailable: the database did not answer when a job was to be claimed.
    """
    # Before the claim: a job must not pay for a disk that is full here.
    with scratch(bench) as folder:
        claim = _claim(bench, makes_room=folder is None)
        way = None if claim is None else _hold(bench, claim, folder)
    if way == "unavailable" or (way is None and folder is None):
        bench.stopping.wait(REST_S)
    return way is not None


def _claim(bench: Bench, *, makes_room: bool) -> jobs.Claim | None:
    settings = bench.settings
    terms = settings.lease_s, settings.max_crashes, bench.device_bytes
    with bench.database.transaction() as session:
        return jobs.claim(session, bench.worker, *terms, makes_room=makes_room)


def _hold(bench: Bench, claim: jobs.Claim, folder: Path | None) -> str:
    settings = bench.settings
    with (
        structlog.contextvars.bound_contextvars(job=claim.id, attempt=claim.attempt),
        Lease(bench.database, claim, lease_s=settings.lease_s, heartbeat_s=settings.heartbeat_s) as lease,
    ):
        return _run(bench, claim, lease, folder)


def _run(bench: Bench, claim: jobs.Claim, lease: Lease, folder: Path | None) -> str:
    log.info("job_started", kind=claim.kind)
    started = time.monotonic()
    ending = _guarded(bench, lease, lambda: _attempt(bench, claim, lease, folder))
    checkpoint = last_checkpoint(bench, claim)  # its end lets go of it
    if ending.way == "done":
        made, seconds = ending.made, time.monotonic() - started
        ending = _guarded(bench, lease, lambda: deliver(bench, claim, lease, made, seconds))
    if ending.way not in ("done", "lost"):
        write_down(bench, claim, lease, ending)
    if ending.way != "lost":
        free_checkpoint(bench, checkpoint)
    log.info("job_ended", way=ending.way, message=ending.message or None, seconds=round(time.monotonic() - started, 2))
    return ending.way


def _guarded(bench: Bench, lease: Lease, part: Callable[[], Ending]) -> Ending:
    """Any error becomes an ending: the worker goes on."""
    try:
        return part()
    except GrafteryError as error:
        # Who had to give up waiting is not told what became of the job: that is for the next attempt to find out.
        if passes(error) and lease.lost:
            return LOST
        if passes(error) and bench.stopping.is_set():
            return Ending("stopped")
        if isinstance(error, Unavailable):
            # No fault of the job's, so it is not counted against it: it comes round until the store is back.
            return Ending("unavailable", message=str(error))
        return Ending("failed", code=error.code, message=str(error))
    except Exception as error:
        log.exception("attempt_failed")
        return Ending("failed", message=f"{type(error).__name__}: {error}")


def _attempt(bench: Bench, claim: jobs.Claim, lease: Lease, folder: Path | None) -> Ending:
    if claim.kind == "collect":
        grace_s, dry_run = bench.settings.collect_grace_s, bool(claim.request.get("dry_run"))
        # Begun again from the start: what was freed stays freed.
        freed = patiently(lambda: collect(bench.database, bench.store, grace_s, dry_run), lease, bench.stopping)
        return Ending("done", made=freed)
    assert folder is not None  # noqa: S101  without one only a collect is claimed
    order = patiently(lambda: prepare(bench, claim, folder), lease, bench.stopping)
    ending = None
    try:
        child = bench.warm_child()
        child.send(order)
        ending = _follow(bench, claim, lease, child, Held(bench.store, order, bench.settings.collect_grace_s))
    except ChildDied as death:
        ending = Ending("crashed", message=f"The job's process died: {death}")
    finally:
        if ending is None or ending.way != "done":
            # A child that was interrupted, that met an error, or that nobody listens to is not trusted with the next job.
            bench.dismiss()
    return ending


def _follow(bench: Bench, claim: jobs.Claim, lease: Lease, child: Child, held: Held) -> Ending:
    while True:
        held.keep()
        if lease.lost:
            return LOST
        if lease.cancel:
            return Ending("cancelled")
        if bench.stopping.is_set():
            return Ending("stopped")
        match child.report(_TICK_S):
            case Advanced(data=data):
                tell_progress(bench, claim, data)
            case Saved(step=step, path=path):
                keep_checkpoint(bench, claim, step, Path(path))
            case Done(result=made):
                return Ending("done", made=made)
            case Failed(code=code, message=message):
                return Ending("failed", code=code, message=message)
