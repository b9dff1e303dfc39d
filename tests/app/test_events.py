"""Live events over a real server: as they happen, resumed, shared, ended."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import event

from app.deps import Service
from app.events import TAIL, EventHub
from app.routes import jobs as routes
from registry import jobs
from tests.support.http import code_of
from tests.support.uvicorn import Server, serving

LEASE_S = 60.0


class Running:
    """A job that a worker has taken: what it says becomes events."""

    def __init__(self, service: Service) -> None:
        self._database = service.database
        with self._database.transaction() as session:
            self.id = jobs.submit(session, kind="collect", request={}, pinned={}).id
            claim = jobs.claim(session, "worker", LEASE_S)
        assert claim is not None
        self.attempt = claim.attempt

    def progress(self, step: int) -> None:
        with self._database.transaction() as session:
            assert jobs.progress(session, self.id, self.attempt, {"step": step})

    def finish(self) -> None:
        with self._database.transaction() as session:
            assert jobs.finish(session, self.id, self.attempt, {"freed_bytes": 0})


class Listener:
    """One open stream of events."""

    def __init__(self, server: Server, job_id: str, after: int | None = None) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=20)
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        self._connection.request("GET", f"/v1/jobs/{job_id}/events", headers=headers)
        self.response = self._connection.getresponse()

    def lines(self) -> Iterator[str]:
        while line := self.response.readline():
            yield line.decode().rstrip("\r\n")

    def events(self) -> Iterator[dict[str, Any]]:
        for line in self.lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@pytest.fixture
def server(app: FastAPI) -> Iterator[Server]:
    with serving(app) as made:
        yield made


@pytest.fixture
def running(service: Service) -> Running:
    return Running(service)


@contextmanager
def listening(server: Server, job_id: str, after: int | None = None) -> Iterator[Listener]:
    listener = Listener(server, job_id, after)
    try:
        yield listener
    finally:
        listener.close()


def test_events_come_as_they_happen_and_the_stream_ends_with_the_job(server: Server, running: Running) -> None:
    with listening(server, running.id) as listener:
        assert listener.response.headers["content-type"].startswith("text/event-stream")
        events = listener.events()
        assert [next(events)["data"]["state"] for _ in range(2)] == ["queued", "running"]
        for step in range(3):
            running.progress(step)
            assert next(events)["data"] == {"step": step}
        running.finish()
        rest = list(events)
    assert [event["type"] for event in rest] == ["result", "state"]
    assert rest[-1]["data"]["state"] == "succeeded"


def test_every_event_has_its_number_as_id_and_its_type(server: Server, running: Running) -> None:
    running.finish()
    with listening(server, running.id) as listener:
        lines = [line for line in listener.lines() if line]
    assert [line for line in lines if line.startswith("id:")] == ["id: 1", "id: 2", "id: 3", "id: 4"]
    assert "event: result" in lines


def test_a_listener_resumes_without_a_gap_or_a_repeat(server: Server, running: Running) -> None:
    running.progress(1)
    with listening(server, running.id) as listener:
        events = listener.events()
        seen = [next(events)["seq"] for _ in range(3)]
    running.progress(2)
    with listening(server, running.id, after=seen[-1]) as listener:
        events = listener.events()
        seen.append(next(events)["seq"])
        running.finish()
        seen += [event["seq"] for event in events]
    assert seen == [1, 2, 3, 4, 5, 6]


def test_a_listener_that_has_seen_the_end_is_told_not_to_come_back(client: TestClient, running: Running) -> None:
    running.finish()
    assert client.get(f"/v1/jobs/{running.id}/events", headers={"Last-Event-ID": "4"}).status_code == 204
    again = client.get(f"/v1/jobs/{running.id}/events", headers={"Last-Event-ID": "3"})
    assert again.text.count("data:") == 1


def test_many_listeners_share_one_poller(server: Server, service: Service, running: Running) -> None:
    listeners = [Listener(server, running.id) for _ in range(20)]
    found: list[list[int]] = [[] for _ in listeners]

    def listen(number: int) -> None:
        found[number] = [event["seq"] for event in listeners[number].events()]

    threads = [threading.Thread(target=listen, args=(number,)) for number in range(len(listeners))]
    for thread in threads:
        thread.start()
    began, before = time.monotonic(), service.hub.polls
    for step in range(5):
        running.progress(step)
        time.sleep(0.1)
    running.finish()
    for thread in threads:
        thread.join(20)
    polls = service.hub.polls - before
    assert found == [list(range(1, 10))] * len(listeners)
    assert polls <= (time.monotonic() - began) / 0.25 + 2
    for listener in listeners:
        listener.close()


def test_nobody_is_polled_for_once_all_have_gone(server: Server, service: Service, running: Running) -> None:
    with listening(server, running.id) as listener:
        next(listener.events())
        _until(lambda: service.hub.watched == 1)
    running.progress(1)  # the server notices a closed connection when it writes, or at its next read
    _until(lambda: service.hub.watched == 0)
    time.sleep(0.6)
    polls = service.hub.polls
    time.sleep(0.6)
    assert service.hub.polls == polls


def test_a_quiet_stream_has_heartbeats(server: Server, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "HEARTBEAT_S", 0.1)
    with listening(server, running.id) as listener:
        comments = (line for line in listener.lines() if line.startswith(":"))
        assert next(comments) and next(comments)


def test_a_long_history_comes_whole(client: TestClient, service: Service, running: Running) -> None:
    with service.database.transaction() as session:
        for step in range(TAIL + 700):
            jobs.progress(session, running.id, running.attempt, {"step": step})
    running.finish()
    response = client.get(f"/v1/jobs/{running.id}/events")
    assert response.text.count("data:") == TAIL + 700 + 4


def test_a_poll_that_fails_is_made_again(server: Server, service: Service, running: Running) -> None:
    read, failed = EventHub._read_all, []

    def fail_once(self: EventHub, watched: Any) -> Any:
        if not failed:
            failed.append(1)
            raise OSError("the database went away")
        return read(self, watched)

    service.hub._read_all = fail_once.__get__(service.hub)  # type: ignore[method-assign]
    with listening(server, running.id) as listener:
        events = listener.events()
        next(events), next(events)
        running.progress(1)
        assert next(events)["data"] == {"step": 1}
    assert failed


@pytest.mark.parametrize("after", ["-1", "abc", "99999999999"])
def test_odd_resume_points(client: TestClient, running: Running, after: str) -> None:
    response = client.get(f"/v1/jobs/{running.id}/events", headers={"Last-Event-ID": after})
    assert (response.status_code, code_of(response)) == (422, "request_invalid")


def test_events_of_no_job(client: TestClient) -> None:
    assert code_of(client.get("/v1/jobs/none/events")) == "not_found"


def _until(true: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_poll_asks_once_however_many_jobs_are_watched(service: Service) -> None:
    running = [Running(service) for _ in range(20)]
    hub, asked = EventHub(service.database), list[str]()
    watched = [(each.id, 2) for each in running]
    running[3].progress(1)

    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement.split(maxsplit=1)[0])

    event.listen(service.database.engine, "before_cursor_execute", listen)
    found = hub._read_all(watched)
    event.remove(service.database.engine, "before_cursor_execute", listen)
    assert {job: [each.data for each in events] for job, events in found.items()} == {running[3].id: [{"step": 1}]}
    assert asked.count("SELECT") == 2


def test_who_resumes_after_what_never_was_goes_on_with_what_comes(
    server: Server, service: Service, running: Running
) -> None:
    """And another listener of the job does not read the table without a pause for it."""
    reads: list[int] = []
    read = service.hub._read
    service.hub._read = lambda job, seq: (reads.append(seq), read(job, seq))[1]  # type: ignore[method-assign]
    with listening(server, running.id, after=10_000) as ahead, listening(server, running.id) as listener:
        events = listener.events()
        next(events), next(events)
        time.sleep(0.5)
        running.finish()
        assert [event["seq"] for event in ahead.events()] == [event["seq"] for event in events] == [3, 4]
    assert len(reads) < 20
