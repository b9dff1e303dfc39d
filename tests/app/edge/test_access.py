"""The door in front of everything that HTTP reaches: registry, inference, metrics, event streams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from app.edge.access import needed
from app.main import create_app
from app.requests.prechecks import Prechecks
from graftery.spec.access import SCOPES
from registry import jobs
from registry.access import keys
from registry.settings import Settings
from tests.support import files
from tests.support.access import bearer, make_key
from tests.support.asgi import Caller
from tests.support.http import code_of, push, push_parts
from tests.support.uvicorn import serving
from tests.support.verifiers import SharedVerifier

OPEN = {"/health", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"}
OPEN |= {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}


@pytest.fixture
def app(app_settings: Settings, verifier: SharedVerifier) -> FastAPI:
    planes = frozenset({"registry", "inference"})
    made = create_app(app_settings.model_copy(update={"planes": planes, "access": "keys", "keys_s": 0.0}))
    made.state.service = replace(made.state.service, verifier=verifier, prechecks=Prechecks(made.state.store, None))
    return made


@pytest.fixture
def secrets(app: FastAPI) -> dict[str, str]:
    """A key for each scope, and one that pushes and transplants in a namespace only."""
    database = app.state.database
    found = {scope: make_key(database, scope, scope) for scope in SCOPES}
    return found | {"vision": make_key(database, "vision", "push", "transplant", namespaces=["vision"])}


def client_of(app: FastAPI, secret: str) -> TestClient:
    return TestClient(app, headers=bearer(secret))


def operations(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(app.routes):
        path = re.sub(r"\{[^}]+\}", "1", str(getattr(route, "path", "")))
        for method in sorted(getattr(route, "methods", None) or {"GET", "POST"}):
            yield method, path


def test_without_a_key_nothing_answers_but_what_is_open(client: TestClient, app: FastAPI) -> None:
    seen = set()
    for method, path in operations(app):
        response = client.request(method, path)
        seen.add(path)
        if path in OPEN:
            assert response.status_code != 401, path
            continue
        assert response.status_code == 401, (method, path)
        assert response.headers["www-authenticate"] == "Bearer"
        if path.startswith("/v2"):
            assert method == "HEAD" or set(response.json()) == {"error"}
        elif method != "HEAD":
            assert code_of(response) == "unauthenticated"
    assert {"/metrics", "/v1/keys", "/v1/jobs/1/events", "/v2/models/1/infer", *OPEN} <= seen


def test_what_there_is_is_not_told_without_a_key(client: TestClient) -> None:
    for path in ("/nothing", "/v1/nothing", "/v1", "//v1/keys", "/v1/keys/", "/v2/x", "/V1/keys", "/metrics/"):
        for method in ("GET", "POST", "PURGE", "OPTIONS"):
            assert client.request(method, path).status_code == 401, (method, path)


def test_every_operation_says_what_it_needs(app: FastAPI) -> None:
    """What the rules do not know needs admin: an operation that was forgotten is closed, not open."""
    lists = {(method, path): needed(method, path) for method, path in operations(app)}
    assert {path for (_, path), rights in lists.items() if rights is None} == OPEN
    only_admin = {(method, path) for (method, path), rights in lists.items() if rights == {"admin"}}
    ours = {(method, path) for method, path in only_admin if path.startswith("/v1") or "repository" in path}
    assert ours == {
        ("GET", "/v1/keys"),
        ("GET", "/v1/keys/1"),
        ("PUT", "/v1/keys/1"),
        ("DELETE", "/v1/keys/1"),
        ("PUT", "/v1/keys/1/secret"),
        ("GET", "/v1/audit"),
        ("POST", "/v1/collect"),
        ("POST", "/v2/repository/models/1/load"),
        ("POST", "/v2/repository/models/1/unload"),
    }


ALLOWED = {
    ("GET", "/v1/modules"): {"read", "push", "transplant", "admin"},
    ("GET", "/v1/jobs/1/events"): {"read", "push", "transplant", "admin"},
    ("GET", "/metrics"): {"read", "push", "transplant", "admin"},
    ("PUT", "/v1/modules/cat"): {"push", "admin"},
    ("POST", "/v1/networks"): {"push", "admin"},
    ("DELETE", "/v1/versions/cat:1"): {"push", "admin"},
    ("PUT", "/v1/modules/cat/aliases/stable"): {"push", "admin"},
    ("POST", "/v1/transplants"): {"transplant", "admin"},
    ("POST", "/v1/clones"): {"transplant", "admin"},
    ("POST", "/v1/networks/cat/attach"): {"push", "admin"},
    ("POST", "/v1/networks/cat/detach"): {"push", "admin"},
    ("POST", "/v1/jobs/1/cancel"): {"transplant", "admin"},
    ("POST", "/v2/models/cat/infer"): {"infer", "admin"},
    ("POST", "/v2/models/cat/versions/1/infer"): {"infer", "admin"},
    ("GET", "/v2/models/cat"): set(SCOPES),
    ("POST", "/v2/repository/index"): set(SCOPES),
    ("POST", "/v2/repository/models/cat/unload"): {"admin"},
    ("POST", "/v1/collect"): {"admin"},
    ("GET", "/v1/audit"): {"admin"},
    ("PUT", "/v1/keys/new"): {"admin"},
}


def test_a_scope_is_needed(client: TestClient, secrets: dict[str, str]) -> None:
    for (method, path), allowed in ALLOWED.items():
        statuses = {scope: client.request(method, path, headers=bearer(secrets[scope])).status_code for scope in SCOPES}
        assert 401 not in statuses.values()
        assert {scope for scope, status in statuses.items() if status != 403} == allowed, (method, path)


def test_what_is_no_key_is_refused(client: TestClient) -> None:
    unknown = f"gft_0123456789ab_{'a' * 43}"
    for header in ("", "Bearer", "Bearer x", "Basic Z2Z0Xzow", f"Bearer {unknown}", f"Bearer {'x' * 9000}"):
        response = client.get("/v1/modules", headers={"Authorization": header})
        assert code_of(response) == "unauthenticated", header
        assert unknown not in response.text


def test_a_key_anywhere_else_is_none(client: TestClient, secrets: dict[str, str]) -> None:
    secret = secrets["admin"]
    assert client.get("/v1/modules", params={"api_key": secret, "access_token": secret}).status_code == 401
    assert client.get("/v1/modules", headers={"X-Api-Key": secret, "Cookie": f"key={secret}"}).status_code == 401
    two = [("authorization", f"Bearer {secret}"), ("authorization", "Bearer other")]
    assert client.get("/v1/modules", headers=two).status_code == 401  # type: ignore[arg-type]


def test_a_key_of_a_namespace_changes_nothing_outside(
    app: FastAPI, client: TestClient, secrets: dict[str, str]
) -> None:
    push_parts(client_of(app, secrets["push"]), "cat", "is-it")
    admin, inside = client_of(app, secrets["admin"]), client_of(app, secrets["vision"])
    data = files.file_bytes(files.parts()[0])
    assert push(inside, "vision.cat", data)["created_by"] == "vision"
    compose = {"category": "cat", "task": "is-it"}
    refused: list[tuple[str, str, Any]] = [
        ("PUT", "/v1/modules/other.cat", data),
        ("PUT", "/v1/modules/vision", data),
        ("PUT", "/v1/samples/other.s", files.samples()),
        ("PUT", "/v1/teachers/other.t?cut=f", data),
        ("PUT", "/v1/modules/cat/aliases/stable", {"version": 1}),
        ("DELETE", "/v1/modules/cat/aliases/stable", None),
        ("POST", "/v1/modules/cat/aliases/stable/rollback", None),
        ("PATCH", "/v1/modules/cat", {"description": "mine"}),
        ("DELETE", "/v1/modules/cat", None),
        ("DELETE", "/v1/versions/cat:1", None),
        ("POST", "/v1/versions/cat:1/yank", {"reason": "x"}),
        ("POST", "/v1/versions/cat:1/unyank", None),
        ("POST", "/v1/networks", compose | {"name": "net"}),
        ("POST", "/v1/transplants", compose | {"name": "net"}),
    ]
    before = admin.get("/v1/audit").json()["items"][0]["id"]
    for method, path, body in refused:
        how = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        response = inside.request(method, path, **how)
        assert code_of(response) == "forbidden", (method, path, response.text)
    assert admin.get("/v1/audit").json()["items"][0]["id"] == before
    assert inside.get("/v1/versions/cat:1").status_code == 200, "it reads everywhere"
    assert inside.post("/v1/networks", json=compose | {"name": "vision.net", "force": True}).status_code in (201, 409)
    assert inside.delete("/v1/modules/vision.cat").status_code == 204


def test_a_refused_upload_is_not_read(app: FastAPI, secrets: dict[str, str]) -> None:
    with TestClient(app) as client:
        headers = {"Content-Length": str(10**9)}
        assert client.put("/v1/modules/cat", content=b"", headers=headers).headers["connection"] == "close"
        other = client.put("/v1/modules/other.cat", content=b"", headers=headers | bearer(secrets["vision"]))
        assert (other.status_code, other.headers["connection"]) == (403, "close")


def test_who_did_what_in_which_request_can_be_read(app: FastAPI, client: TestClient, secrets: dict[str, str]) -> None:
    pushing, admin = client_of(app, secrets["push"]), client_of(app, secrets["admin"])
    push_parts(pushing, "cat", "is-it")
    pushing.put("/v1/modules/cat/aliases/stable", json={"version": 1}, headers={"X-Request-Id": "mine-1"})
    pages = []
    cursor: str | None = None
    while len(pages) < 20:
        page = admin.get("/v1/audit", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        pages += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert [row["what"] for row in pages[:3]] == ["cat@stable", "is-it:1", "cat:1"]
    assert (pages[0]["by"], pages[0]["request_id"], pages[0]["details"]) == ("push", "mine-1", {"new": 1})
    assert {row["action"] for row in pages[3:]} == {"key.create"}
    assert [row["action"] for row in admin.get("/v1/audit", params={"name": "cat"}).json()["items"]] == [
        "alias",
        "publish",
    ]
    history = pushing.get("/v1/modules/cat/aliases/stable/history").json()
    assert history[0]["by"] == "push"


def test_an_idempotency_key_is_its_owner_s(app: FastAPI, client: TestClient, secrets: dict[str, str]) -> None:
    first, second = client_of(app, secrets["admin"]), client_of(app, make_key(app.state.database, "two", "admin"))
    headers = {"Idempotency-Key": "same"}
    one, again, other = (each.post("/v1/collect", headers=headers) for each in (first, first, second))
    assert again.json()["id"] == one.json()["id"]
    assert other.json()["id"] != one.json()["id"]


def test_too_many_requests_are_told_when_to_come_back(app_settings: Settings) -> None:
    rates = {"read": "2/minute", "infer": "1/minute"}
    app = create_app(app_settings.model_copy(update={"access": "keys", "rates": rates}))
    secret = make_key(app.state.database, "all", "admin")
    with client_of(app, secret) as client:
        answers = [client.get("/v1/modules") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert code_of(answers[2]) == "rate_limited"
        assert 1 <= int(answers[2].headers["retry-after"]) <= 60
        asked = [client.post("/v2/models/x/infer") for _ in range(2)]
        assert asked[1].status_code == 429
        assert set(asked[1].json()) == {"error"} and int(asked[1].headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200


def test_bytes_that_need_a_key_are_not_for_shared_caches(
    app: FastAPI, client: TestClient, secrets: dict[str, str]
) -> None:
    pushing = client_of(app, secrets["push"])
    version = push(pushing, "cat", files.file_bytes(files.parts()[0]))
    found = pushing.get(f"/v1/versions/cat@sha256:{version['digest']}/file")
    assert found.headers["cache-control"] == "private, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("server", "status"),
    [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.0.0.7", 401), ("2001:db8::1", 401)],
)
def test_by_default_a_request_to_an_address_that_others_reach_needs_a_key(
    app_settings: Settings, server: str, status: int
) -> None:
    """Whatever GRAFTERY_HOST says: uvicorn may have been told to listen elsewhere."""
    app = create_app(app_settings)
    caller = Caller(app)
    try:
        assert caller.ask("GET", "/v1/modules", server=server).status == status
    finally:
        caller.close()
        app.state.database.dispose()


def test_without_keys_all_is_as_it_was(app_settings: Settings) -> None:
    app = create_app(app_settings)
    with TestClient(app) as client:
        assert client.get("/v1/modules").status_code == 200
        assert client.get("/v1/modules", headers={"Authorization": "Basic x"}).status_code == 200
        job = client.post("/v1/collect").json()
        assert client.get("/v1/audit").json()["items"][0] | {"id": 1, "at": "", "request_id": ""} == {
            "id": 1, "at": "", "by": None, "action": "collect", "what": f"job {job['id']}", "request_id": "", "details": None
        }  # fmt: skip


def test_a_stream_of_events_ends_with_its_key(app: FastAPI, secrets: dict[str, str]) -> None:
    """Who watches a job is told nothing more of it once the key is taken back."""
    with app.state.database.transaction() as session:
        job = jobs.submit(session, kind="collect", request={}, pinned={}).id
    address = f"/v1/jobs/{job}/events"
    with serving(app) as server, httpx.Client(base_url=server.url, timeout=20) as real:
        with real.stream("GET", address, headers=bearer(secrets["read"])) as stream:
            lines = stream.iter_lines()
            assert "queued" in "".join(next(lines) for _ in range(3))
            with app.state.database.transaction() as session:
                keys.revoke(session, "read")
                jobs.request_cancel(session, job)
            assert "cancelled" not in "".join(lines)
        again = real.get(address, headers=bearer(secrets["transplant"])).text
        assert "cancelled" in again


def test_pieces_of_an_upload_are_taken_from_whom_its_name_is_open_to(app: FastAPI, secrets: dict[str, str]) -> None:
    everywhere, vision = client_of(app, secrets["push"]), client_of(app, secrets["vision"])
    request = {"size_bytes": 4, "digest": hashlib.sha256(b"abcd").hexdigest(), "target": "module"}
    assert code_of(vision.post("/v1/uploads", json={"name": "cat", **request})) == "forbidden"
    assert vision.post("/v1/uploads", json={"name": "vision.cat", **request}).status_code == 201
    path = everywhere.post("/v1/uploads", json={"name": "cat", **request}).headers["location"]
    append = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}
    assert code_of(vision.patch(path, content=b"abcd", headers=append)) == "forbidden"
    assert code_of(vision.put(f"{path}/parts/0", content=b"abcd")) == "forbidden"
    assert code_of(vision.delete(path)) == "forbidden"
    assert everywhere.put(f"{path}/parts/0", content=b"abcd").status_code == 204
    assert client_of(app, secrets["read"]).delete(path).status_code == 403
