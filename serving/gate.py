"""A door that lets so many in and refuses the others: nobody is kept waiting without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from graftery.errors import Unavailable

RETRY_AFTER_S = 1


class Gate:
    """Lets rows in, at most `capacity` at a time, and refuses the others. Whoever comes alone may have more."""

    def __init__(self, capacity: int, what: str) -> None:
        self.capacity = capacity
        self.inside = 0
        self._what = what
        self._lock = threading.Lock()

    @contextmanager
    def entered(self, rows: int = 1) -> Iterator[None]:
        """Be inside with so many rows.

        Raises:
            Unavailable: with `retry_after_s`.
        """
        with self._lock:
            if self.inside and self.inside + rows > self.capacity:
                raise Unavailable(
                    f"{self.inside} rows {self._what} already, the queue holds {self.capacity}",
                    hint="retry later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self.inside += rows
        try:
            yield
        finally:
            with self._lock:
                self.inside -= rows
