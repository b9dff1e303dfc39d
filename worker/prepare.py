"""Before a job runs: its pinned versions and its last checkpoint as local files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from graftery.errors import GrafteryError, StoreError, Unavailable
from registry import catalogue, jobs
from registry.models import Version
from registry.settings import Settings
from worker.bench import Bench
from worker.certificates import sharing
from worker.lease import Lease
from worker.reports import KeptIn, Order

# Modules that a job leaves as they are: the networks that share one with them are certified.
_SHARED = ("category", "task", "target.category", "target.adapter", "target.task")
_RETRY_S = 0.5
PATIENCE_S = 60.0

_Result = TypeVar("_Result")

log = structlog.get_logger("graftery.worker")


def prepare(bench: Bench, claim: jobs.Claim, scratch: Path) -> Order:
    """Turn a claimed job into an order for the child.

    Raises:
        NotFound: a pinned version is gone.
        StoreError: its bytes are.
    """
    with bench.database.read() as session:
        digests = {role: version.digest for role, version in _needed(session, claim)}
    return Order(
        job=claim.id,
        kind=claim.kind,
        request=claim.request,
        recipe=claim.recipe or {},
        files={role: str(bench.store.local_path(digest)) for role, digest in digests.items()},
        resume=_last_checkpoint(bench, claim),
        scratch=str(scratch),
        device=bench.settings.device,
        threads=bench.settings.threads,
        checkpoint_s=bench.settings.checkpoint_s,
        limits=bench.settings.limits,
        inversions=_inversions(bench.settings),
        sharing=sharing(bench, {digests[role] for role in _SHARED if role in digests}, claim.request.get("generic")),
    )


def _inversions(settings: Settings) -> KeptIn | None:
    if not settings.inversions_bytes:
        return None
    folder = str(settings.home / "inversions")
    return KeptIn(folder=folder, most_bytes=settings.inversions_bytes, free_bytes=settings.free_bytes)


def _needed(session: Session, claim: jobs.Claim) -> Iterator[tuple[str, Version]]:
    """Role and version of each file; of a network its modules, as `target.category`, `target.task`, `target.clone.0`."""
    for role, ref in claim.pinned.items():
        version = catalogue.resolve(session, ref, for_pin=True)
        if version.parts is None:
            yield role, version
            continue
        for part, module in catalogue.network_parts(session, version).members.items():
            yield f"{role}.{part}", module


def patiently(part: Callable[[], _Result], lease: Lease, stopping: threading.Event) -> _Result:
    """Do `part`; where the database or the store does not answer, or has no room, try again for a while."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return part()
        except GrafteryError as error:
            # A job's outcome is worth waiting for: `collect`, or somebody who makes room, may be at work.
            if not passes(error) or lease.lost or time.monotonic() > until or stopping.wait(_RETRY_S):
                raise


def passes(error: GrafteryError) -> bool:
    """Whether this is about the database or the store as they are now, not about the job."""
    return isinstance(error, Unavailable) or (isinstance(error, StoreError) and error.code == "store_full")


def _last_checkpoint(bench: Bench, claim: jobs.Claim) -> str | None:
    """Where the last attempt stopped. A checkpoint whose bytes are lost costs time, not the job."""
    if claim.checkpoint is None:
        return None
    try:
        path = bench.store.local_path(claim.checkpoint.digest)
    except GrafteryError as error:
        if passes(error):
            raise
        log.warning("checkpoint_lost", step=claim.checkpoint_step, error=str(error))
        return None
    log.info("resumed", step=claim.checkpoint_step)
    return str(path)
