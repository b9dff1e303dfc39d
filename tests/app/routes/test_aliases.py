from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from tests.support.http import code_of
from tests.support.registry import put

PATH = "/v1/modules/cat/aliases/stable"


@pytest.fixture(autouse=True)
def _three_versions(client: TestClient, service: Service) -> None:
    with service.database.transaction() as session:
        for text in ("one", "two", "three"):
            put(session, "cat", text)


def test_an_alias_is_set_moved_listed_and_removed(client: TestClient) -> None:
    made = client.put(PATH, json={"version": 1})
    assert (made.status_code, made.json()["ref"]) == (200, "cat:1")
    assert client.put(PATH, json={"version": 2}).json()["version"] == 2
    assert [(each["alias"], each["version"]) for each in client.get("/v1/modules/cat/aliases").json()] == [
        ("stable", 2)
    ]
    assert client.get("/v1/modules/cat").json()["aliases"] == {"stable": 2}
    assert client.delete(PATH).status_code == 204
    assert client.get("/v1/modules/cat/aliases").json() == []


def test_the_history_and_a_rollback(client: TestClient) -> None:
    for version in (1, 3, 2):
        client.put(PATH, json={"version": version})
    history = client.get(f"{PATH}/history").json()
    assert [(each["old"], each["new"]) for each in history] == [(3, 2), (1, 3), (None, 1)]
    assert client.post(f"{PATH}/rollback").json()["version"] == 3
    assert client.post(f"{PATH}/rollback").json()["version"] == 1
    assert code_of(client.post(f"{PATH}/rollback")) == "conflict"


def test_default_is_what_the_bare_name_means(client: TestClient) -> None:
    assert client.get("/v1/versions/cat").json()["version"] == 3
    client.put("/v1/modules/cat/aliases/default", json={"version": 1})
    assert client.get("/v1/versions/cat").json()["version"] == 1
    assert client.get("/v1/versions/cat@latest").json()["version"] == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("PUT", PATH, {"version": 9}, 404, "not_found"),
        ("PUT", PATH, {"version": 0}, 422, "request_invalid"),
        ("PUT", PATH, {"version": True}, 422, "request_invalid"),
        ("PUT", PATH, {"version": 10**9}, 422, "request_invalid"),
        ("PUT", PATH, {"version": 10**12}, 422, "request_invalid"),
        ("PUT", "/v1/modules/cat/aliases/latest", {"version": 1}, 422, "name_invalid"),
        ("PUT", "/v1/modules/cat/aliases/1st", {"version": 1}, 422, "name_invalid"),
        ("PUT", "/v1/modules/dog/aliases/stable", {"version": 1}, 404, "not_found"),
        ("DELETE", PATH, None, 404, "not_found"),
        ("GET", f"{PATH}/history", None, 404, "not_found"),
        ("POST", f"{PATH}/rollback", None, 404, "not_found"),
    ],
)
def test_refusals(client: TestClient, method: str, path: str, body: object, status: int, code: str) -> None:
    response = client.request(method, path, json=body)
    assert (response.status_code, code_of(response)) == (status, code)


def test_a_rollback_sent_twice_with_one_key_is_one_rollback(client: TestClient) -> None:
    for version in (1, 2, 3):
        client.put(PATH, json={"version": version})
    answers = [client.post(f"{PATH}/rollback", headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert client.get("/v1/modules/cat").json()["aliases"] == {"stable": 2}
