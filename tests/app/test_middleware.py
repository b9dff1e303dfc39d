from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from tests.support.http import code_of


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


def test_a_chunked_body_is_counted_too(client: TestClient) -> None:
    def chunks():  # type: ignore[no-untyped-def]
        for _ in range(40):
            yield b" " * 65_536

    response = client.post("/v1/collect", content=chunks(), headers={"content-type": "application/json"})
    assert response.status_code == 413
    assert code_of(response) == "request_too_large"
