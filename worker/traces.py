"""What a running job leaves on its way: progress and checkpoints. To lose one must not cost the job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from graftery.errors import first_line
from registry import jobs
from registry.collect import discard
from worker.bench import Bench

log = structlog.get_logger("graftery.worker")


def tell_progress(bench: Bench, claim: jobs.Claim, data: Mapping[str, Any]) -> None:
    try:
        with bench.database.transaction() as session:
            jobs.progress(session, claim.id, claim.attempt, dict(data))
    except Exception as error:
        log.warning("progress_lost", error=first_line(error))


def last_checkpoint(bench: Bench, claim: jobs.Claim) -> str | None:
    """The digest of what the job would go on from; None also where the database does not say."""
    try:
        with bench.database.read() as session:
            return jobs.get(session, claim.id).checkpoint_digest
    except Exception as error:
        log.warning("checkpoint_not_known", error=first_line(error))
        return None


def free_checkpoint(bench: Bench, digest: str | None) -> None:
    """Free what an ended job went on from; a job that goes on holds it, and keeps it."""
    try:
        if digest is not None:
            discard(bench.database, bench.store, digest)
    except Exception as error:  # `collect` frees it later
        log.warning("checkpoint_not_freed", error=first_line(error))


def keep_checkpoint(bench: Bench, claim: jobs.Claim, step: int, path: Path) -> None:
    """Bytes first, then the row that names them, fenced by the attempt; the checkpoint before this one is freed."""
    try:
        blob = bench.store.put_file(path)
        with bench.database.transaction() as session:
            before = jobs.get(session, claim.id).checkpoint_digest
            kept = jobs.checkpoint(session, claim.id, claim.attempt, step, blob)
        if kept and before is not None:
            discard(bench.database, bench.store, before)
    except Exception as error:  # a disk that fails is not the job's fault
        log.warning("checkpoint_not_kept", step=step, error=first_line(error))
    finally:
        path.unlink(missing_ok=True)
