"""What a host keeps of the store for itself, staged files and copies from a bucket, is swept there: `collect` runs on one host only."""

from __future__ import annotations

import threading

import structlog

from graftery.errors import first_line
from registry.store import Store

EVERY_S = 3600.0
# A copy that was asked for is opened within this, whatever the grace of `collect`.
_LEAST_S = 60.0

log = structlog.get_logger("graftery.store")


def sweep_hourly(store: Store, grace_s: float, stopping: threading.Event) -> None:
    """Sweep now and every hour, in a thread of its own, until `stopping` is set.

    Args:
        grace_s: what was used or asked for more recently stays.
    """
    arguments = store, max(grace_s, _LEAST_S), stopping
    threading.Thread(target=_sweep, args=arguments, name="sweeper", daemon=True).start()


def _sweep(store: Store, older_than_s: float, stopping: threading.Event) -> None:
    while not stopping.is_set():
        try:
            swept = store.sweep(older_than_s)
            if swept:
                log.info("swept", files=swept)
        except Exception as error:  # the next hour may be better
            log.warning("not_swept", error=first_line(error))
        stopping.wait(EVERY_S)
