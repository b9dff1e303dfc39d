"""The queue in front of the nets, and the one thread that runs them.

Without a delay: whenever the thread is free it takes what is queued, in the order of its coming, with all that shares a
part with the first one, up to a limit of rows. Nothing waits to fill a batch, unless its model's delay says so.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import ClientDisconnect

from graftery.errors import Unavailable
from serving.gate import RETRY_AFTER_S
from serving.joint import Job, Took
from serving.tensors import Array
from serving.timely import lateness

WATCH_AFTER_S = 0.05
"""Who waits for longer than this is watched: a request whose client has gone is dropped."""
Runner = Callable[[Sequence[Job]], tuple[list[dict[str, Array]], Took]]
Gone = Callable[[], Awaitable[None]]
"""Returns when the client of a request has gone."""


@dataclass(frozen=True)
class Done:
    """A job's outputs, how long it waited, and what the run took that it was in."""

    outputs: dict[str, Array]
    queue_s: float
    took: Took


@dataclass(eq=False)
class _Waiting:
    job: Job
    rows: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Done]
    queued_at: float
    due_at: float
    late_at: float
    gone: Gone | None
    shares: frozenset[str] = frozenset()
    dropped: bool = False
    watcher: asyncio.Task[None] | None = None

    def joins(self, first: _Waiting) -> bool:
        """Whether it gains from running together with the first one."""
        return bool(self.shares & first.shares)


@dataclass
class Seen:
    """What the batcher did so far: for metrics."""

    runs: int = 0
    rows: int = 0
    by_rows: dict[int, int] = field(default_factory=dict)
    """Runs by the least power of two that holds their rows."""

    def add(self, rows: int) -> None:
        self.runs += 1
        self.rows += rows
        bucket = 1 << (rows - 1).bit_length()
        self.by_rows[bucket] = self.by_rows.get(bucket, 0) + 1


class Batcher:
    """Runs jobs together, in a thread of its own.

    Args:
        run: called in the thread, with jobs that share parts.
        queue_rows: rows that may wait or run; a job that is alone is always taken.
        merge_rows: rows of several jobs that are run together at most; a larger job runs by itself.
        prepare: called once in the thread (torch's number of threads is a thread's own).
        delay_s: how long a job of this model may wait for others.
    """

    def __init__(
        self,
        run: Runner,
        queue_rows: int,
        merge_rows: int,
        prepare: Callable[[], None] = lambda: None,
        delay_s: Callable[[str], float] = lambda _name: 0.0,
    ) -> None:
        self.queue_rows, self.merge_rows = queue_rows, merge_rows
        self.seen = Seen()
        self._run, self._prepare, self._delay_s = run, prepare, delay_s
        self._lock = threading.Lock()
        self._rows = self._requests = 0
        self._inbox: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def rows(self) -> int:
        """Rows that wait or run."""
        return self._rows

    @property
    def requests(self) -> int:
        """Jobs that wait or run."""
        return self._requests

    async def ask(self, job: Job, gone: Gone | None = None, came: float | None = None) -> Done:
        """Have a job run; it is dropped from the queue when the caller is cancelled or its client has gone.

        Args:
            came: when the request did, by `perf_counter`: its time began then; None: now.

        Raises:
            Unavailable: the queue is full; `deadline_exceeded`: it was not run within its time.
            ClientDisconnect: nobody waits for the answer.
        """
        loop, now = asyncio.get_running_loop(), time.perf_counter()
        timeout_s, delay_s = job.question.timeout_s, self._delay_s(job.model.name)
        late_at = (now if came is None else came) + timeout_s if timeout_s is not None else float("inf")
        waiting = _Waiting(
            job, len(job.question.x), loop, loop.create_future(), now, now + delay_s, late_at, gone, job.shares
        )
        self._enter(waiting)
        watch = loop.call_later(WATCH_AFTER_S, _watch, waiting) if gone is not None else None
        try:
            return await waiting.future
        finally:
            waiting.dropped = True
            if watch is not None:
                watch.cancel()
            if waiting.watcher is not None:
                waiting.watcher.cancel()

    def close(self) -> None:
        """End the thread; who waits is refused. What is asked afterwards begins a new one."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._inbox.put(None)
            thread.join()

    def _enter(self, waiting: _Waiting) -> None:
        with self._lock:
            if self._rows and self._rows + waiting.rows > self.queue_rows:
                raise Unavailable(
                    f"{self._rows} rows wait already, the queue holds {self.queue_rows}",
                    hint="retry later",
                    retry_after_s=RETRY_AFTER_S,
                )
            self._rows += waiting.rows
            self._requests += 1
            if self._thread is None:
                self._inbox = queue.SimpleQueue()
                self._thread = threading.Thread(target=self._work, args=(self._inbox,), name="engine", daemon=True)
                self._thread.start()
            self._inbox.put(waiting)

    def _leave(self, each: Sequence[_Waiting]) -> None:
        with self._lock:
            self._rows -= sum(waiting.rows for waiting in each)
            self._requests -= len(each)

    def _work(self, inbox: queue.SimpleQueue[_Waiting | None]) -> None:
        self._prepare()
        line: deque[_Waiting] = deque()
        wait_s = 0.0
        while _received(inbox, line, wait_s):
            batch, wait_s = self._take(line)
            if batch:
                self._answer(batch)
        self._end(line, [(waiting, Unavailable("the service is shutting down")) for waiting in line])

    def _take(self, line: deque[_Waiting]) -> tuple[list[_Waiting], float]:
        """The jobs to run now, taken from the line; or none, and the seconds until the first one is due."""
        self._end(line, [(waiting, _lateness(waiting)) for waiting in line if _is_over(waiting)])
        now = time.perf_counter()
        wait_s = 0.0
        for first in line:
            most = self.merge_rows if len(line) == 1 else first.job.rows_together(self.merge_rows)
            batch = self._batch(line, first, most)
            if first.due_at <= now or sum(waiting.rows for waiting in batch) >= most:
                for waiting in batch:
                    line.remove(waiting)
                return batch, 0.0
            left_s = first.due_at - now
            wait_s = min(wait_s, left_s) if wait_s else left_s
        return [], wait_s

    def _batch(self, line: deque[_Waiting], first: _Waiting, most: int) -> list[_Waiting]:
        batch, rows = [first], first.rows
        for waiting in line:
            if rows >= most:
                break
            if waiting is not first and rows + waiting.rows <= most and waiting.joins(first):
                batch.append(waiting)
                rows += waiting.rows
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        started = time.perf_counter()
        try:
            outputs, took = self._run([waiting.job for waiting in batch])
        except BaseException as error:
            if len(batch) > 1:  # one bad job fails alone: each by itself now
                for waiting in batch:
                    self._answer([waiting])
                return
            self._leave(batch)
            _settle([(batch[0], error)])
            return
        self.seen.add(sum(waiting.rows for waiting in batch))
        self._leave(batch)
        _settle(
            [
                (waiting, Done(found, started - waiting.queued_at, took))
                for waiting, found in zip(batch, outputs, strict=True)
            ]
        )

    def _end(self, line: deque[_Waiting], ended: list[tuple[_Waiting, Exception]]) -> None:
        """Take jobs out of the line that will not run."""
        for waiting, _ in ended:
            line.remove(waiting)
        self._leave([waiting for waiting, _ in ended])
        _settle(ended)


def _received(inbox: queue.SimpleQueue[_Waiting | None], line: deque[_Waiting], wait_s: float) -> bool:
    """Move what has come into the line; waits for something only where the line is empty, or for `wait_s`. False: the end."""
    try:
        while True:
            if not line:
                waiting = inbox.get()
            elif wait_s > 0:
                waiting, wait_s = inbox.get(timeout=wait_s), 0.0
            else:
                waiting = inbox.get_nowait()
            if waiting is None:
                return False
            line.append(waiting)
    except queue.Empty:
        return True


def _is_over(waiting: _Waiting) -> bool:
    return waiting.dropped or time.perf_counter() > waiting.late_at


def _lateness(waiting: _Waiting) -> Exception:
    if waiting.dropped:
        return Unavailable("nobody waits for this any more")
    return lateness(waiting.job.question.timeout_s)


def _settle(outcomes: Sequence[tuple[_Waiting, Any]]) -> None:
    """Wake those who wait, each in its own event loop; one call a loop."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Any]]] = {}
    for waiting, outcome in outcomes:
        by_loop.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, settled in by_loop.items():
        try:
            loop.call_soon_threadsafe(_set, settled)
        except RuntimeError:
            continue  # the loop has ended, and with it all that waited there


def _set(settled: Sequence[tuple[_Waiting, Any]]) -> None:
    for waiting, outcome in settled:
        if waiting.future.done():
            continue
        if isinstance(outcome, BaseException):
            waiting.future.set_exception(outcome)
        else:
            waiting.future.set_result(outcome)


def _watch(waiting: _Waiting) -> None:
    waiting.watcher = waiting.loop.create_task(_cancelled_when_gone(waiting))


async def _cancelled_when_gone(waiting: _Waiting) -> None:
    if waiting.gone is not None:
        await waiting.gone()
        waiting.dropped = True
        _set([(waiting, ClientDisconnect())])
