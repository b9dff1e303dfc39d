"""How an attempt ended, and the one transaction that says so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from graftery.errors import Unavailable
from registry import jobs
from worker.bench import Bench
from worker.clones import publish_clone
from worker.consolidations import publish_consolidation
from worker.lease import Lease
from worker.prepare import patiently
from worker.publish import Overtaken, publish

log = structlog.get_logger("graftery.worker")


@dataclass(frozen=True)
class Ending:
    """How an attempt ended.

    `stopped`: the worker shuts down. `unavailable`: the database or the store is away. `lost`: the lease is gone.
    `crashed`: the child died.
    """

    way: Literal["done", "failed", "cancelled", "stopped", "unavailable", "lost", "crashed"]
    made: dict[str, Any] = field(default_factory=dict)
    code: str = "job_failed"
    message: str = ""


LOST = Ending("lost", message="another worker may have the job")


def deliver(bench: Bench, claim: jobs.Claim, lease: Lease, made: dict[str, Any], seconds: float) -> Ending:
    """Write a success: what was made and that the job is done, together or not at all."""
    if lease.lost:
        return LOST
    try:
        patiently(lambda: _deliver(bench, claim, made, seconds), lease, bench.stopping)
    except Overtaken:
        return LOST
    return Ending("done")


def _deliver(bench: Bench, claim: jobs.Claim, made: dict[str, Any], seconds: float) -> None:
    publishers = {"transplant": publish, "clone": publish_clone, "consolidate": publish_consolidation}
    if claim.kind in publishers:
        publishers[claim.kind](bench.database, bench.store, claim, made, seconds)
        return
    with bench.database.transaction() as session:
        jobs.finish(session, claim.id, claim.attempt, made)


def write_down(bench: Bench, claim: jobs.Claim, lease: Lease, ending: Ending) -> None:
    """Write any other end. Where that cannot be done, the lease runs out and another worker takes the job."""
    try:
        patiently(lambda: _write(bench, claim, ending), lease, bench.stopping)
    except Unavailable as error:
        log.warning("ending_not_written", way=ending.way, error=str(error))


def _write(bench: Bench, claim: jobs.Claim, ending: Ending) -> None:
    with bench.database.transaction() as session:
        match ending.way:
            case "failed":
                jobs.fail(session, claim.id, claim.attempt, ending.code, ending.message)
            case "cancelled":
                jobs.cancelled(session, claim.id, claim.attempt)
            case "stopped" | "unavailable":
                jobs.requeue(session, claim.id, claim.attempt)
            case "crashed":
                jobs.crashed(session, claim.id, claim.attempt, ending.message, bench.settings.max_crashes)
