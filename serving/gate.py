"""A door that lets so many in and refuses the others: nobody is kept waiting without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from graftery.errors import Unavailable

RETRY_AFTER_S = 1


class Gate:
    """Lets at most `capacity` in at a time and refuses the others."""

    def __init__(self, capacity: int, what: str) -> None:
        self.capacity = capacity
        self.inside = 0
        self._what = what
        self._lock = threading.Lock()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be one of those inside.

        Raises:
            Unavailable: with `retry_after_s`.
        """
        with self._lock:
            if self.inside >= self.capacity:
                raise Unavailable(
                    f"{self.capacity} requests {self._what} already", hint="retry later", retry_after_s=RETRY_AFTER_S
                )
            self.inside += 1
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1
