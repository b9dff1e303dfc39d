"""Live events of jobs: one database poller for all listeners of this process.

The poller reads each watched job's new events once and keeps the last ones. A listener takes them from there, or reads
the table itself where it resumes further back. It ends after the event that says the job has ended.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager

import structlog
from fastapi.concurrency import run_in_threadpool
from sse_starlette import ServerSentEvent

from graftery.spec.wire import FINAL_STATES, JobEvent
from registry import jobs
from registry.db import Database

log = structlog.get_logger("graftery.events")

POLL_S = 0.25
TAIL = 512
PAGE = 500


class Feed:
    """The newest events of one watched job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.listeners = 0
        self.start = 0  # where the first one that waited had got to: the poller need not read what was before
        self.tail: deque[JobEvent] = deque(maxlen=TAIL)
        self.changed = asyncio.Condition()

    @property
    def last_seq(self) -> int:
        return self.tail[-1].seq if self.tail else self.start

    def since(self, seq: int) -> list[JobEvent] | None:
        """The events after `seq`; None where the tail does not reach back that far."""
        if not self.tail or self.tail[0].seq > seq + 1:
            return None
        return [event for event in self.tail if event.seq > seq]


class EventHub:
    """Hands out feeds, and polls the table while somebody listens."""

    def __init__(self, database: Database, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._feeds: dict[str, Feed] = {}
        self._poller: asyncio.Task[None] | None = None
        self.polls = 0

    @property
    def watched(self) -> int:
        """How many jobs somebody listens to."""
        return len(self._feeds)

    async def follow(self, job_id: str, seq: int) -> AsyncGenerator[JobEvent]:
        """The job's events after `seq`, which it has had, as they happen; ends after the one that says the job has ended."""
        with self._watched(job_id) as feed:
            while True:
                events = feed.since(seq)
                if events is None:
                    events = await run_in_threadpool(self._read, job_id, seq)
                for event in events:
                    yield event
                    seq = event.seq
                    if is_final(event):
                        return
                if not events:
                    await self._wait(feed, seq)

    async def close(self) -> None:
        if self._poller is not None and self._is_polling():
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    @staticmethod
    async def _wait(feed: Feed, seq: int) -> None:
        async with feed.changed:
            if not feed.tail:
                feed.start = max(feed.start, seq)
            await feed.changed.wait_for(lambda: feed.last_seq > seq)

    @contextmanager
    def _watched(self, job_id: str) -> Iterator[Feed]:
        feed = self._feeds.setdefault(job_id, Feed(job_id))
        feed.listeners += 1
        if not self._is_polling():
            self._poller = asyncio.create_task(self._poll())
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                self._feeds.pop(job_id, None)

    def _is_polling(self) -> bool:
        """Whether the poller runs, in this event loop: one that was left behind in another polls for nobody here."""
        poller = self._poller
        return poller is not None and not poller.done() and poller.get_loop() is asyncio.get_running_loop()

    async def _poll(self) -> None:
        while self._feeds:
            self.polls += 1
            try:
                found = await run_in_threadpool(self._read_all, [(f.job_id, f.last_seq) for f in self._feeds.values()])
            except Exception as error:  # the listeners go on with the next poll
                log.warning("events cannot be read", error=repr(error))
                found = {}
            for job_id, events in found.items():
                await self._announce(job_id, events)
            await asyncio.sleep(self._poll_s)

    async def _announce(self, job_id: str, events: list[JobEvent]) -> None:
        feed = self._feeds.get(job_id)
        if feed is None or not events:
            return
        async with feed.changed:
            feed.tail.extend(event for event in events if event.seq > feed.last_seq)
            feed.changed.notify_all()

    def _read(self, job_id: str, seq: int) -> list[JobEvent]:
        with self._database.read() as session:
            return jobs.events_after(session, job_id, seq, PAGE)

    def _read_all(self, watched: list[tuple[str, int]]) -> dict[str, list[JobEvent]]:
        """The new events of all watched jobs: one look at which have some, as most have none."""
        with self._database.read() as session:
            there = jobs.numbers_of(session, [job_id for job_id, _ in watched])
            return {
                job_id: jobs.events_after(session, job_id, seq, PAGE)
                for job_id, seq in watched
                if there.get(job_id, 0) > seq
            }


def is_final(event: JobEvent) -> bool:
    """The job's last event: it has ended."""
    return event.type == "state" and event.data.get("state") in FINAL_STATES


def as_sse(event: JobEvent) -> ServerSentEvent:
    """The event as it crosses HTTP: `id` is what Last-Event-ID resumes after, `data` is the whole JobEvent."""
    return ServerSentEvent(data=event.model_dump_json(), event=event.type, id=str(event.seq))
