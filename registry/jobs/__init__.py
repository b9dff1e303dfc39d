"""The life of a job: all SQL about jobs. The table is the truth; messages only wake workers.

queued -> running -> succeeded | failed | cancelled, and back to queued by a requeue or a lost lease. A worker writes
under its attempt: after another one has taken the job, what it writes reaches nothing.
"""

from registry.jobs.asking import (
    counts,
    events_after,
    job_out,
    largest_queued,
    list_jobs,
    numbers_of,
    request_cancel,
    retry,
    submit,
    usual_seconds,
)
from registry.jobs.rows import get
from registry.jobs.working import (
    MAX_CRASHES,
    Beat,
    Claim,
    cancelled,
    checkpoint,
    claim,
    crashed,
    fail,
    finish,
    forget_progress,
    heartbeat,
    held_bytes,
    is_any_due,
    progress,
    requeue,
)

__all__ = [
    "MAX_CRASHES",
    "Beat",
    "Claim",
    "cancelled",
    "checkpoint",
    "claim",
    "counts",
    "crashed",
    "events_after",
    "fail",
    "finish",
    "forget_progress",
    "get",
    "heartbeat",
    "held_bytes",
    "is_any_due",
    "job_out",
    "largest_queued",
    "list_jobs",
    "numbers_of",
    "progress",
    "request_cancel",
    "requeue",
    "retry",
    "submit",
    "usual_seconds",
]
