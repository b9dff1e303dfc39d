from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graftery.client import events
from graftery.client.events import Message, follow, read_messages
from graftery.client.transport import Transport
from graftery.errors import NotFound, ServiceError
from graftery.spec.wire import JobEvent
from tests.support.scripted import Answer, Asked, Script, problem, scripted

STREAM = {"Content-Type": "text/event-stream"}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAUSE_S", 0.01)


def event(seq: int) -> bytes:
    document = {"seq": seq, "type": "progress", "at": "2026-01-01T00:00:00Z", "data": {"step": seq}}
    return f"id: {seq}\nevent: progress\ndata: {json.dumps(document)}\n\n".encode()


def from_id(asked: Asked, last: int) -> bytes:
    return b"".join(event(seq) for seq in range(int(asked.headers.get("Last-Event-ID", 0)) + 1, last + 1))


class Endings:
    """Says for each connection in turn whether the job was over before it."""

    def __init__(self, *over: bool) -> None:
        self._over = iter(over)

    def __call__(self) -> bool:
        return next(self._over, True)


def followed(script: Script, *over: bool, after: int = 0, patience_s: float = 60) -> tuple[list[int], list[Asked]]:
    with scripted(script) as server, Transport(server.url) as transport:
        stream = follow(transport, "/events", Endings(*over), after=after, patience_s=patience_s)
        return [event.seq for event in stream], server.asked


def test_one_stream_to_the_end() -> None:
    seen, asked = followed({"GET /events": lambda asked: Answer(200, from_id(asked, 3), STREAM)}, True)
    assert seen == [1, 2, 3]
    assert "Last-Event-ID" not in asked[0].headers
    assert asked[0].headers["Accept"] == "text/event-stream"


def test_it_goes_on_from_the_last_event_after_a_break() -> None:
    def serve(asked: Asked) -> Answer:
        body = from_id(asked, 2 * asked.nth)
        return Answer(200, body, STREAM, declared=len(body) + 100 if asked.nth < 3 else None)

    seen, asked = followed({"GET /events": serve}, False, False, True)
    assert seen == [1, 2, 3, 4, 5, 6]
    assert [request.headers.get("Last-Event-ID") for request in asked] == [None, "2", "4"]


def test_nothing_is_asked_after_the_final_state() -> None:
    final = {"seq": 2, "type": "state", "at": "2026-01-01T00:00:00Z", "data": {"state": "cancelled"}}
    body = event(1) + f"data: {json.dumps(final)}\n\n".encode()
    seen, asked = followed({"GET /events": lambda _: Answer(200, body, STREAM, declared=10**6)}, False)
    assert seen == [1, 2]
    assert len(asked) == 1


def test_a_stream_that_closes_before_the_end_is_opened_again() -> None:
    seen, _ = followed({"GET /events": lambda asked: Answer(200, from_id(asked, asked.nth), STREAM)}, False, False)
    assert seen == [1, 2, 3]


def test_events_that_come_twice_are_given_once() -> None:
    seen, _ = followed({"GET /events": lambda asked: Answer(200, event(1) + event(2), STREAM)}, False, True)
    assert seen == [1, 2]


def test_from_a_known_event_on() -> None:
    seen, asked = followed({"GET /events": lambda asked: Answer(200, from_id(asked, 5), STREAM)}, True, after=3)
    assert seen == [4, 5]
    assert asked[0].headers["Last-Event-ID"] == "3"


def test_half_an_event_is_no_event() -> None:
    def serve(asked: Asked) -> Answer:
        if asked.nth == 1:
            return Answer(200, event(1) + event(2)[:20], STREAM, declared=1000)
        return Answer(200, from_id(asked, 2), STREAM)

    assert followed({"GET /events": serve}, False, True)[0] == [1, 2]


def test_a_service_that_stays_away_is_an_error() -> None:
    with pytest.raises(ServiceError, match="broke"):
        followed({"GET /events": lambda _: None}, *[False] * 3, patience_s=0.05)


def test_a_refusal_is_not_waited_for() -> None:
    with pytest.raises(NotFound):
        followed({"GET /events": lambda _: problem("not_found", 404)}, False)


def test_a_stranger_s_event_is_named() -> None:
    with pytest.raises(ServiceError, match="cannot be read: hello"):
        followed({"GET /events": lambda _: Answer(200, b"data: hello\n\n", STREAM)}, False)


def test_messages_by_the_standard() -> None:
    lines = [": ping", "", "id: 1", "event:a", "data: x", "data:y", "ignored: 1", "", "event: no data", "", "data", ""]
    assert list(read_messages(lines)) == [Message("1", "a", "x\ny"), Message(None, "message", "")]


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\n\r"), min_size=1), min_size=1))
def test_any_data_comes_back(texts: list[str]) -> None:
    def lines() -> Iterator[str]:
        for text in texts:
            yield from (f"data: {text}", "")

    assert [message.data for message in read_messages(lines())] == texts


def test_an_event_is_of_the_vocabulary() -> None:
    assert JobEvent.model_validate_json(event(7).decode().split("data: ")[1]).data == {"step": 7}
