"""A job's events as they come: server-sent events, read across broken connections without a gap or a repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import httpx
from pydantic import ValidationError

from graftery.client.transport import Transport, broke
from graftery.errors import ServiceError, Unavailable
from graftery.spec.wire import FINAL_STATES, JobEvent, JobOut

PATIENCE_S = 60.0
"""How long a service may be away (a restart, an upgrade) before a watcher gives up."""
PAUSE_S = 0.5
# The service sends a comment every 15 s on a quiet stream: twice that without a byte is a dead connection.
_TIMEOUT = httpx.Timeout(connect=10.0, read=35.0, write=30.0, pool=30.0)


@dataclass(frozen=True)
class Message:
    """One server-sent event."""

    id: str | None
    event: str
    data: str


def read_messages(lines: Iterable[str]) -> Iterator[Message]:
    """Server-sent events from lines, by the rules of the HTML standard (comments and unknown fields are skipped)."""
    fields: dict[str, list[str]] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield Message(
                id=fields.get("id", [None])[-1],
                event=fields.get("event", ["message"])[-1],
                data="\n".join(fields["data"]),
            )
        fields = {}


def follow(
    transport: Transport, path: str, is_over: Callable[[], bool], *, after: int = 0, patience_s: float = PATIENCE_S
) -> Iterator[JobEvent]:
    """The events of a stream from `after` on, until it is over.

    It is over after the state that no other follows. A stream that closes without one (its events were all known) is
    over where `is_over` was true before it was opened.

    Raises:
        ServiceError: the service was away for longer than `patience_s`.
    """
    seen, away_since = after, None
    while True:
        before = seen
        try:
            if not (over := is_over()):
                away_since = None
            for event in _connection(transport, path, seen):
                away_since = None
                if event.seq > seen:
                    seen = event.seq
                    yield event
                if _is_final(event):
                    return
            if over:
                return
        except (ServiceError, Unavailable) as error:
            away_since = away_since or time.monotonic()
            if not _may_pass(error) or time.monotonic() - away_since >= patience_s:
                raise
        if seen == before:
            time.sleep(PAUSE_S)


def looking(look: Callable[[], list[JobOut]], *, patience_s: float = PATIENCE_S) -> Iterator[list[JobOut]]:
    """Where jobs stand, looked up again and again until all of them are over; at least once.

    Raises:
        ServiceError, Unavailable: the service was away for longer than `patience_s`.
    """
    away_since = None
    while True:
        try:
            found = look()
        except (ServiceError, Unavailable) as error:
            away_since = away_since or time.monotonic()
            if not _may_pass(error) or time.monotonic() - away_since >= patience_s:
                raise
        else:
            away_since = None
            yield found
            if all(job.state in FINAL_STATES for job in found):
                return
        time.sleep(PAUSE_S)


def _is_final(event: JobEvent) -> bool:
    return event.type == "state" and event.data.get("state") in FINAL_STATES


def _may_pass(error: ServiceError | Unavailable) -> bool:
    return isinstance(error, Unavailable) or broke(error)


def _connection(transport: Transport, path: str, seen: int) -> Iterator[JobEvent]:
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
    if seen:
        headers["Last-Event-ID"] = str(seen)
    with transport.stream(path, headers, timeout=_TIMEOUT) as response:
        for message in read_messages(response.iter_lines()):
            yield _event(message)


def _event(message: Message) -> JobEvent:
    try:
        return JobEvent.model_validate_json(message.data)
    except ValidationError:
        raise ServiceError(f"an event cannot be read: {message.data[:120]}") from None
