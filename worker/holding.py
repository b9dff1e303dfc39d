"""The files of a running job: of a bucket they are copies, which `collect` removes when nobody has asked for them in a while."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from graftery.errors import first_line
from registry.store import Store
from worker.reports import Order

_LEAST_S = 1.0

log = structlog.get_logger("graftery.worker")


class Held:
    """Asks for an order's files again, four times in the grace of `collect`: the child reads some of them at its end.

    Args:
        grace_s: for how long `collect` leaves what nobody asked for.
    """

    def __init__(self, store: Store, order: Order, grace_s: float) -> None:
        self._store = store
        self._digests = _digests(order)
        self._every_s = max(grace_s / 4, _LEAST_S)
        self._next = time.monotonic() + self._every_s

    def keep(self) -> None:
        """Do it if it is time; a copy that is gone is made again."""
        if time.monotonic() < self._next:
            return
        for digest in self._digests:
            try:
                self._store.local_path(digest)
            except Exception as error:  # it may be there still, and is asked for again
                log.warning("file_not_held", digest=digest, error=first_line(error))
        self._next = time.monotonic() + self._every_s


def _digests(order: Order) -> frozenset[str]:
    """The store calls a file by its digest."""
    found = {Path(path).name for path in order.files.values()}
    if order.resume is not None:
        found.add(Path(order.resume).name)
    shared = (file for network in order.sharing.networks for file in network.files.values())
    return frozenset(found | {Path(file.path).name for file in shared if file.path is not None})
