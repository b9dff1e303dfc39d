"""The one thread that runs nets. Requests wait for it in a queue that is bounded; more are refused, not kept waiting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from graftery.errors import Unavailable

T = TypeVar("T")
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


class Engine:
    """Runs one request after the other, in the order of their coming, without waiting to fill a batch.

    Args:
        capacity: requests that wait or run.
        prepare: called once in the engine's thread (torch's number of threads is a thread's own).
    """

    def __init__(self, capacity: int, prepare: Callable[[], None] = lambda: None) -> None:
        self.gate = Gate(capacity, "wait for the engine")
        self._prepare = prepare
        self._executor = self._new_executor()

    async def run(self, work: Callable[[], T]) -> T:
        """Call `work` in the engine's thread; dropped from the queue when the caller is cancelled.

        Raises:
            Unavailable: the queue is full.
        """
        with self.gate.entered():
            return await asyncio.wrap_future(self._executor.submit(work))

    def close(self) -> None:
        """End the thread. What is asked afterwards begins a new one."""
        executor, self._executor = self._executor, self._new_executor()
        executor.shutdown(wait=True, cancel_futures=True)

    def _new_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, thread_name_prefix="engine", initializer=self._prepare)
