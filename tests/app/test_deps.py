"""One request is one transaction; many at once wait for each other and none is lost."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Annotated, Any, get_origin

import pytest
from fastapi import FastAPI, params
from fastapi.testclient import TestClient

from app import deps
from app.deps import Posting, Service, Writing
from app.files import downloads, uploads
from graftery.errors import Conflict
from registry import jobs
from tests.support.http import code_of
from tests.support.registry import put


def test_more_writers_than_threads_do_not_wait_for_ever(client: TestClient) -> None:
    """SQLite has one write lock, the server 40 threads: who holds the lock must not need another thread to go on."""
    count = 120
    began = time.monotonic()
    with ThreadPoolExecutor(count) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/collect"), range(count)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == count
    assert time.monotonic() - began < 25


def test_one_key_at_once_is_one_deed(client: TestClient) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/collect", headers={"Idempotency-Key": "k"}), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(client.get("/v1/jobs").json()["items"]) == 1


@pytest.fixture
def failing(app: FastAPI) -> TestClient:
    @app.put("/v1/failing/{how}")
    def failing(work: Writing, how: str) -> None:
        put(work.session, "kept")
        work.after_commit.append(lambda: woken.append(how))
        if how == "refused":
            raise Conflict("no")
        if how == "broken":
            raise RuntimeError("no")

    @app.post("/v1/failing/answer")
    def answer_twice(work: Posting) -> Any:
        return work.answer(jobs.job_out(jobs.submit(work.session, kind="collect", request={}, pinned={})))

    woken: list[str] = []
    app.state.woken = woken
    return TestClient(app)


@pytest.mark.parametrize(("how", "status"), [("refused", 409), ("broken", 500)])
def test_an_error_takes_back_everything(failing: TestClient, service: Service, how: str, status: int) -> None:
    assert failing.put(f"/v1/failing/{how}").status_code == status
    assert failing.get("/v1/modules").json()["items"] == []
    assert failing.app.state.woken == []  # type: ignore[attr-defined]


def test_what_is_to_follow_follows_the_commit(failing: TestClient) -> None:
    assert failing.put("/v1/failing/not").status_code == 200
    assert failing.app.state.woken == ["not"]  # type: ignore[attr-defined]
    assert [each["name"] for each in failing.get("/v1/modules").json()["items"]] == ["kept"]


def test_a_commit_that_fails_is_answered_as_an_error(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy import event

    @event.listens_for(service.database.engine, "commit")
    def fail(_connection: object) -> None:
        raise Conflict("another was faster")

    response = client.post("/v1/collect")
    assert (response.status_code, code_of(response)) == (409, "conflict")
    event.remove(service.database.engine, "commit", fail)
    assert client.get("/v1/jobs").json()["items"] == []


def test_the_key_belongs_to_method_path_query_and_body(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k"}
    job = client.post("/v1/collect", headers=headers).json()["id"]
    for path, body in ((f"/v1/jobs/{job}/cancel", None), ("/v1/collect?x=1", None), ("/v1/collect", {"dry_run": True})):
        response = client.post(path, headers=headers, json=body)
        assert (response.status_code, code_of(response)) == (409, "idempotency_conflict")
    assert client.get(f"/v1/jobs/{job}").json()["state"] == "queued"


def test_no_dependency_takes_a_thread_of_its_own(app: FastAPI) -> None:
    """A plain function as a dependency is run in a thread: a hop there and back, for each of them in each request."""
    found = {
        value for room in (deps, downloads, uploads) for value in vars(room).values() if get_origin(value) is Annotated
    }
    calls = {each.dependency for value in found for each in value.__metadata__ if isinstance(each, params.Depends)}
    assert len(calls) > 8
    plain = [call for call in calls if not (iscoroutinefunction(call) or isasyncgenfunction(call))]
    assert plain == []
