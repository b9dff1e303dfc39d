from __future__ import annotations

import socket
import time

import pytest

from graftery.client.transport import DEFAULT_URL, Transport, broke
from graftery.errors import AccessRefused, GrafteryError, NotFound, ServiceError, Unavailable
from tests.support.scripted import Answer, Asked, Script, as_json, problem, scripted


def test_nothing_answers() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with Transport(url) as transport, pytest.raises(ServiceError) as caught:
        transport.get("/health")
    assert url in caught.value.message
    assert caught.value.hint == "is it running? start it with `graftery serve`, or give --url / GRAFTERY_URL"
    assert broke(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://here", "http://", "http://[::1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ServiceError, match="is not an address"):
        Transport(url)


def test_where_the_address_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFTERY_URL", raising=False)
    assert Transport().url == DEFAULT_URL
    monkeypatch.setenv("GRAFTERY_URL", "http://there:1/")
    assert Transport().url == "http://there:1"
    assert Transport("http://here:2").url == "http://here:2"


def test_the_key_is_sent_as_a_bearer_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFTERY_API_KEY", "k1")
    with scripted({"GET /health": lambda _: as_json({})}) as server, Transport(server.url) as transport:
        transport.get("/health")
    assert server.asked[0].headers["Authorization"] == "Bearer k1"


def test_a_proxy_of_the_environment_does_not_see_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with scripted({"GET /health": lambda _: as_json({})}) as server, Transport(server.url) as transport:
        assert transport.get("/health").status_code == 200


def test_parameters_that_are_none_are_not_sent() -> None:
    with scripted({"GET /v1/modules": lambda _: as_json([])}) as server, Transport(server.url) as transport:
        transport.get("/v1/modules", kind="task", q=None)
    assert server.asked[0].query == {"kind": ["task"]}


def test_a_broken_get_is_sent_again() -> None:
    script = {"GET /health": lambda asked: None if asked.nth == 1 else as_json({})}
    with scripted(script) as server, Transport(server.url) as transport:
        assert transport.get("/health").status_code == 200


def test_a_broken_post_is_sent_again_with_the_same_key() -> None:
    script = {"POST /v1/networks": lambda asked: None if asked.nth < 3 else as_json({}, 201)}
    with scripted(script) as server, Transport(server.url) as transport:
        transport.post("/v1/networks", {"name": "n"})
        transport.post("/v1/networks", {"name": "n"})
    keys = [asked.headers["Idempotency-Key"] for asked in server.asked]
    assert len(keys) == 4
    assert len(set(keys[:3])) == 1
    assert keys[3] != keys[0]


def test_what_changes_something_without_a_key_is_sent_once() -> None:
    with scripted({"DELETE /v1/modules/cat": lambda _: None}) as server, Transport(server.url) as transport:
        with pytest.raises(ServiceError, match="broke") as caught:
            transport.request("DELETE", "/v1/modules/cat")
        assert len(server.asked) == 1
    assert broke(caught.value)


def test_full_is_waited_for_as_long_as_the_service_says() -> None:
    def full(asked: Asked) -> Answer:
        return as_json({"error": "full"}, 503, **{"Retry-After": "0"}) if asked.nth == 1 else as_json({})

    began = time.monotonic()
    with scripted({"GET /v2": full}) as server, Transport(server.url) as transport:
        assert transport.get("/v2").status_code == 200
    assert time.monotonic() - began < 5


def test_full_for_ever_is_an_error() -> None:
    script = {"GET /v2": lambda _: as_json({"error": "full"}, 503, **{"Retry-After": "0"})}
    with scripted(script) as server, Transport(server.url) as transport:
        with pytest.raises(Unavailable, match="full"):
            transport.get("/v2")
        assert len(server.asked) == 3


def test_unready_without_a_time_is_an_error_at_once() -> None:
    script = {"GET /v2": lambda _: as_json({"error": "no weights"}, 503)}
    with scripted(script) as server, Transport(server.url) as transport:
        with pytest.raises(Unavailable):
            transport.get("/v2")
        assert len(server.asked) == 1


def test_a_refusal_of_a_stream_is_read() -> None:
    script = {"GET /file": lambda _: problem("not_found", 404, "no file")}
    with (
        scripted(script) as server,
        Transport(server.url) as transport,
        pytest.raises(NotFound, match="no file"),
        transport.stream("/file", {}),
    ):
        pass


@pytest.mark.parametrize(("status", "code"), [(401, "unauthenticated"), (403, "forbidden")])
def test_a_refused_key_is_an_error_of_its_own_under_both_planes(status: int, code: str) -> None:
    script: Script = {
        "GET /v1/x": lambda _: problem(code, status),
        "GET /v2/x": lambda _: as_json({"error": "no"}, status),
    }
    with scripted(script) as server, Transport(server.url) as transport:
        for path in ("/v1/x", "/v2/x"):
            with pytest.raises(AccessRefused) as caught:
                transport.get(path)
            assert caught.value.code == code


def test_too_many_requests_are_sent_again_when_the_service_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)

    def answer(asked: Asked) -> Answer:
        return problem("rate_limited", 429) if asked.nth == 1 else as_json({})

    def told(asked: Asked) -> Answer:
        found = answer(asked)
        found.headers["Retry-After"] = "7"
        return found

    with scripted({"GET /v1/x": told}) as server, Transport(server.url) as transport:
        assert transport.get("/v1/x").status_code == 200
    assert waited[0] == 7.0


def test_a_key_from_a_file_has_a_lines_end() -> None:
    with (
        scripted({"GET /health": lambda _: as_json({})}) as server,
        Transport(server.url, api_key="k1\n") as transport,
    ):
        transport.get("/health")
    assert server.asked[0].headers["Authorization"] == "Bearer k1"


@pytest.mark.parametrize("key", ["se cret", "secr\u00e9t", "sec\nret"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(GrafteryError) as caught:
        Transport("http://127.0.0.1:1", api_key=key)
    assert caught.value.code == "request_invalid"
    assert key not in str(caught.value) and "GRAFTERY_API_KEY" in str(caught.value)
