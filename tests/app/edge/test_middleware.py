from __future__ import annotations

import socket
import time

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, in_store, push
from tests.support.uvicorn import serving


def test_a_request_id_is_made_or_taken_over(client: TestClient) -> None:
    made = client.get("/health/live").headers["x-request-id"]
    assert len(made) == 32
    assert client.get("/health/live").headers["x-request-id"] != made
    assert client.get("/health/live", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"


@pytest.mark.parametrize("given", ["a b", "x" * 65, "<script>", ""])
def test_an_odd_request_id_is_replaced(client: TestClient, given: str) -> None:
    found = client.get("/health/live", headers={"X-Request-Id": given}).headers["x-request-id"]
    assert found != given
    assert len(found) == 32


def test_a_refusal_carries_the_request_id(client: TestClient) -> None:
    response = client.get("/v1/modules/none", headers={"X-Request-Id": "mine-2"})
    assert code_of(response) == "not_found"
    assert response.json()["request_id"] == "mine-2"


@pytest.mark.parametrize("path", ["/v1/modules", "/v1/nothing", "/metrics", "/openapi.json"])
def test_security_headers_are_on_every_answer(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_requests_are_logged_with_their_id(capsys: pytest.CaptureFixture[str], client: TestClient) -> None:
    client.get("/v1/modules", headers={"X-Request-Id": "mine-3"})
    lines = [line for line in _stderr(capsys).splitlines() if "mine-3" in line]
    assert any("/v1/modules" in line and "200" in line for line in lines)


def _stderr(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize("path", ["/v1/modules", "/v1/jobs", "/health/ready"])
def test_head_has_the_headers_of_get_and_no_body(client: TestClient, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code
    assert head.content == b""
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("name", ["events", "file"])
def test_head_of_a_module_that_is_called_as_what_answers_it_itself(client: TestClient, name: str) -> None:
    push(client, name, files.file_bytes(files.parts()[0]))
    assert client.head(f"/v1/modules/{name}").status_code == client.get(f"/v1/modules/{name}").status_code == 200


def test_a_chunked_body_is_counted_too(client: TestClient) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        for _ in range(40):
            yield b" " * 65_536

    response = client.post("/v1/collect", content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert code_of(response) == "request_too_large"


@pytest.mark.parametrize("path", ["/v1/modules/cat/aliases/stable", "/v1/keys/ci", "/v1/keys/ci/secret"])
def test_a_put_that_is_held_in_memory_is_capped(client: TestClient, path: str) -> None:
    body = b'{"version": ' + b" " * (1024**2 + 1) + b"1}"
    response = client.put(path, content=body, headers={"content-type": "application/json"})
    assert code_of(response) == "request_too_large"


def test_a_put_of_a_file_is_not(client: TestClient) -> None:
    assert code_of(client.put("/v1/modules/cat", content=b"x" * (1024**2 + 1))) != "request_too_large"


@pytest.fixture
def impatient(app_settings: Settings) -> FastAPI:
    planes = frozenset({"registry", "inference"})
    return create_app(app_settings.model_copy(update={"body_idle_s": 0.3, "planes": planes}))


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("POST /v1/collect", b'{"dry_'),
        ("POST /v1/collect", b""),
        ("PUT /v1/modules/cat", b"x" * 1000),
        ("POST /v2/models/cat/infer", b'{"in'),
    ],
)
def test_a_body_that_does_not_go_on_ends_the_request(impatient: FastAPI, line: str, sent: bytes) -> None:
    with serving(impatient) as server, socket.create_connection(server.address, timeout=10) as connection:
        head = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"
        connection.sendall(head.encode() + sent)
        answer = b""
        while piece := connection.recv(65536):  # to the end of the connection, which the service closes
            answer += piece
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"nothing of the body came for 0.3 s" in answer
    assert in_store(impatient.state.settings.home) == []


def test_a_body_that_comes_slowly_but_comes_is_waited_for(impatient: FastAPI) -> None:
    body = b'{"dry_run": true}'
    with serving(impatient) as server, socket.create_connection(server.address, timeout=10) as connection:
        head = f"POST /v1/collect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode())
        for byte in body[:6]:
            time.sleep(0.1)
            connection.sendall(bytes([byte]))
        connection.sendall(body[6:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")
