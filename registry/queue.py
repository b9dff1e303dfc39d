"""The Celery app and the wake-up. The jobs table is the truth; a message only says "look at the table".

A message is the id of a job. It is acknowledged before the work starts and leaves no result: what is lost with it is a
few seconds, because every worker also looks at the table by itself. Without a broker there are no messages at all
(docs/decisions/embedded-queue.md).
"""

from __future__ import annotations

import time
from functools import lru_cache

import structlog
from celery import Celery

from registry.settings import Settings

RUN_JOB = "graftery.run_job"
QUEUE = "graftery.jobs"
# What Celery's worker listens to when there is no broker: nothing is ever sent there.
_NO_BROKER = "memory://localhost/"
# A request waits for its wake-up no longer than about this when the broker does not answer; the next ones do not wait.
_BROKER_TIMEOUT_S = 1.0
_SILENCE_S = 5.0
_EXPIRES_S = 3600
# kombu tries again and again, unless it is told not to; with 0 it would try for ever.
_SENDER_OPTIONS = {"max_retries": 1, "interval_start": 0, "interval_step": 0}
_REDIS_SENDER_OPTIONS = {"socket_connect_timeout": _BROKER_TIMEOUT_S, "socket_timeout": _BROKER_TIMEOUT_S}

log = structlog.get_logger("graftery.queue")


def celery_app(settings: Settings) -> Celery:
    """The Celery app for these settings, used by the API to wake and by the workers to be woken."""
    app = Celery("graftery", broker=settings.broker_url or _NO_BROKER, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # How often a worker without a broker looks whether it should end.
        broker_transport_options={"polling_interval": 0.5} if settings.embedded else {},
        worker_pool="threads",
        worker_concurrency=1,
        worker_prefetch_multiplier=1,
        # A worker that is busy takes no message, so that an idle one does (Redis; others are caught by the poll).
        worker_disable_prefetch=_is_redis(settings.broker_url),
        worker_enable_remote_control=not settings.embedded,
        worker_hijack_root_logger=False,
    )
    return app


class _Waker:
    """Sends wake-ups to one broker. While the broker does not answer, only one request in a while finds that out."""

    def __init__(self, broker_url: str) -> None:
        self._app = celery_app(Settings(broker_url=broker_url))
        self._app.conf.update(
            broker_connection_timeout=_BROKER_TIMEOUT_S,
            broker_transport_options={**_SENDER_OPTIONS, **(_REDIS_SENDER_OPTIONS if _is_redis(broker_url) else {})},
        )
        self._silent_until = 0.0

    def send(self, job_id: str) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            self._app.send_task(RUN_JOB, args=[job_id], retry=False, ignore_result=True, expires=_EXPIRES_S)
        except Exception as error:
            self._silent_until = time.monotonic() + _SILENCE_S
            log.warning("wake_up_lost", job=job_id, error=str(error), hint="a worker finds the job by its next poll")


_waker = lru_cache(maxsize=8)(_Waker)


def wake(settings: Settings, job_id: str) -> None:
    """Tell a worker that there is something to do; to be called after the commit. Never raises."""
    if settings.broker_url is not None:
        _waker(settings.broker_url).send(job_id)


def _is_redis(broker_url: str | None) -> bool:
    return (broker_url or "").startswith(("redis://", "rediss://"))
