"""Work that takes long, in a few threads of its own: who waits for one of them holds none that others need."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio

from serving.gate import Gate

T = TypeVar("T")
PARSERS = 2
"""Large or packed bodies that are read at once in a process: each may take much memory while it is (`serving.bounds`)."""


class Desk:
    """Does one kind of work, a few at a time; the line before it is bounded, and whoever comes to a full one is refused.

    Args:
        at_once: threads that work.
        queue_rows: rows that may be worked on or wait; a request that is alone is always taken.
        what: the rows do, in words.
    """

    def __init__(self, at_once: int, queue_rows: int, what: str) -> None:
        self._limiter = anyio.CapacityLimiter(at_once)
        self._gate = Gate(queue_rows, what)

    @property
    def rows(self) -> int:
        """Rows that wait or are worked on."""
        return self._gate.inside

    async def do(self, work: Callable[[], T], rows: int = 1) -> T:
        """Do it in a thread, once one is free.

        Args:
            rows: that wait for it meanwhile.

        Raises:
            Unavailable: too many wait already.
        """
        with self._gate.entered(rows):
            return await anyio.to_thread.run_sync(work, limiter=self._limiter)
