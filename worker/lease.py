"""Holding a job: a heartbeat in a thread of its own, so that nothing a job waits for costs it its lease."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import structlog

from graftery.errors import Unavailable
from registry import jobs
from registry.db import Database

log = structlog.get_logger("graftery.worker")


class Lease:
    """The lease on one attempt of a job, renewed from entry to exit.

    `cancel`: somebody asked for the job's end. `lost`: another worker may have the job, nothing may be written for it.
    """

    def __init__(self, database: Database, claim: jobs.Claim, *, lease_s: float, heartbeat_s: float) -> None:
        self._database = database
        self._claim = claim
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._over = threading.Event()
        self._renewed_at = time.monotonic()
        self._gone = False
        self.cancel = False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    @property
    def lost(self) -> bool:
        """Also true when the database has been silent for the whole lease: by its clock the lease is over."""
        return self._gone or time.monotonic() - self._renewed_at > self._lease_s

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._over.wait(self._heartbeat_s) and not self._gone:
            try:
                self._beat()
            except Unavailable as error:
                log.warning("heartbeat_missed", job=self._claim.id, error=str(error))
            except Exception:
                log.exception("heartbeat_failed", job=self._claim.id)

    def _beat(self) -> None:
        asked_at = time.monotonic()
        with self._database.transaction() as session:
            beat = jobs.heartbeat(session, self._claim.id, self._claim.attempt, self._lease_s)
        if not beat.alive:
            self._gone = True
            return
        self._renewed_at = asked_at
        self.cancel = self.cancel or beat.cancel
