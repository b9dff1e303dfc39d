from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from tests.support.http import code_of


def make(client: TestClient, name: str = "ci", **asked: object) -> dict[str, object]:
    response = client.put(f"/v1/keys/{name}", json={"scopes": ["push"], **asked})
    assert response.status_code == 201, response.text
    assert response.headers["cache-control"] == "no-store"
    found: dict[str, object] = response.json()
    return found


def test_a_secret_is_shown_once(client: TestClient, app: FastAPI) -> None:
    made = make(client, namespaces=["vision"], expires_in_s=3600)
    shown = client.get("/v1/keys/ci").json()
    assert shown == {key: value for key, value in made.items() if key != "secret"}
    assert (shown["state"], shown["scopes"], shown["namespaces"]) == ("active", ["push"], ["vision"])
    assert client.get("/v1/keys").json()["items"] == [shown]
    with app.state.database.read() as session:
        kept = [
            session.execute(text(f"SELECT * FROM {name}")).all() for name in ("idempotency_keys", "api_keys", "audit")
        ]
    assert str(made["secret"])[20:] not in str(kept)


def test_a_name_is_a_key_s_for_ever(client: TestClient) -> None:
    make(client)
    assert code_of(client.put("/v1/keys/ci", json={"scopes": ["push"]})) == "conflict"
    assert client.delete("/v1/keys/ci").status_code == 204
    assert client.delete("/v1/keys/ci").status_code == 204
    assert code_of(client.put("/v1/keys/ci", json={"scopes": ["push"]})) == "conflict"
    assert client.get("/v1/keys/ci").json()["state"] == "revoked"
    assert code_of(client.put("/v1/keys/ci/secret", json={})) == "conflict"


def test_a_rotation_gives_a_new_secret(client: TestClient) -> None:
    made = make(client)
    rotated = client.put("/v1/keys/ci/secret", json={"overlap_s": 60}).json()
    assert rotated["secret"] != made["secret"]
    assert rotated["id"] == made["id"]
    assert rotated["overlap_until"] > rotated["rotated_at"]
    assert code_of(client.put("/v1/keys/ci/secret", json={"overlap_s": False})) == "request_invalid"


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["admin"], "namespaces": ["vision"]},
        {"scopes": ["push"], "namespaces": []},
        {"scopes": ["push"], "namespaces": ["a b"]},
        {"scopes": ["push"], "expires_in_s": 0},
        {"scopes": ["push"], "expires_in_s": 1e12},
        {"scopes": ["push"], "expires_in_s": "NaN"},
        {"scopes": ["push"], "expires_in_s": True},
        {"scopes": ["push"], "secret": "mine"},
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, asked: dict[str, object]) -> None:
    assert code_of(client.put("/v1/keys/ci", json=asked)) == "request_invalid"
    assert code_of(client.get("/v1/keys/ci")) == "not_found"
