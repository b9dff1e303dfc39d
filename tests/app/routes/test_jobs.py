from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from registry import jobs, queue
from tests.support.http import code_of


def _collect(client: TestClient, **headers: str) -> dict[str, Any]:
    response = client.post("/v1/collect", headers=headers)
    assert response.status_code == 202
    found: dict[str, Any] = response.json()
    return found


def test_collect_is_a_job(client: TestClient) -> None:
    job = _collect(client)
    assert (job["kind"], job["state"], job["request"]) == ("collect", "queued", {"dry_run": False})
    dry = client.post("/v1/collect", json={"dry_run": True}).json()
    assert dry["request"] == {"dry_run": True}


def test_jobs_are_listed_by_state_and_kind(client: TestClient) -> None:
    ids = [_collect(client)["id"] for _ in range(3)]
    client.post(f"/v1/jobs/{ids[0]}/cancel")
    queued = client.get("/v1/jobs", params={"state": "queued", "limit": 1})
    assert [job["id"] for job in queued.json()["items"]] == [ids[2]]
    following = client.get(queued.headers["link"][1:].split(">")[0])
    assert [job["id"] for job in following.json()["items"]] == [ids[1]]
    assert client.get("/v1/jobs", params={"kind": "transplant"}).json()["items"] == []
    assert code_of(client.get("/v1/jobs", params={"state": "odd"})) == "request_invalid"


def test_jobs_can_be_listed_by_their_ids(client: TestClient) -> None:
    ids = [_collect(client)["id"] for _ in range(3)]
    first = client.get("/v1/jobs", params={"id": [ids[0], ids[2], "none"], "limit": 1})
    assert [job["id"] for job in first.json()["items"]] == [ids[2]]
    following = client.get(first.headers["link"][1:].split(">")[0]).json()
    assert ([job["id"] for job in following["items"]], following["next"]) == ([ids[0]], None)
    assert code_of(client.get("/v1/jobs", params={"id": "no id"})) == "request_invalid"


def test_a_queued_job_is_cancelled_at_once(client: TestClient) -> None:
    job = _collect(client)
    cancelled = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert client.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200


def test_a_running_job_is_asked_to_stop(client: TestClient, service: Service) -> None:
    job = _collect(client)
    with service.database.transaction() as session:
        jobs.claim(session, "worker", 60)
    asked = client.post(f"/v1/jobs/{job['id']}/cancel").json()
    assert (asked["state"], asked["cancel_requested"]) == ("running", True)


def test_a_finished_job_cannot_be_cancelled_and_a_queued_one_not_retried(client: TestClient, service: Service) -> None:
    job = _collect(client)
    early = client.post(f"/v1/jobs/{job['id']}/retry")
    assert (early.status_code, code_of(early)) == (409, "job_state")
    with service.database.transaction() as session:
        claim = jobs.claim(session, "worker", 60)
        assert claim is not None
        jobs.finish(session, claim.id, claim.attempt, {})
    late = client.post(f"/v1/jobs/{job['id']}/cancel")
    assert (late.status_code, code_of(late)) == (409, "job_state")


def test_a_retry_is_a_new_job(client: TestClient, service: Service) -> None:
    job = _collect(client)
    with service.database.transaction() as session:
        claim = jobs.claim(session, "worker", 60)
        assert claim is not None
        jobs.fail(session, claim.id, claim.attempt, "diverged", "the last finite loss was 0.3 at step 9")
    failed = client.get(f"/v1/jobs/{job['id']}").json()
    assert failed["error"] == {"code": "diverged", "message": "the last finite loss was 0.3 at step 9"}
    retried = client.post(f"/v1/jobs/{job['id']}/retry")
    assert retried.status_code == 202
    assert retried.json()["retry_of"] == job["id"]
    assert retried.headers["location"] == f"/v1/jobs/{retried.json()['id']}"


def test_workers_are_woken_after_the_commit(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def wake(_settings: object, job_id: str) -> None:
        with service.database.read() as session:
            seen.append(jobs.get(session, job_id).state)

    monkeypatch.setattr(queue, "wake", wake)
    _collect(client)
    assert seen == ["queued"]


def test_nobody_is_woken_for_what_was_not_committed(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[str] = []
    monkeypatch.setattr(queue, "wake", lambda _settings, job_id: woken.append(job_id))
    assert client.post("/v1/jobs/none/retry").status_code == 404
    key = {"Idempotency-Key": "k"}
    _collect(client, **key)
    _collect(client, **key)
    assert len(woken) == 1


@pytest.mark.parametrize("path", ["/v1/jobs/none", "/v1/jobs/none/events"])
def test_no_such_job(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, code_of(response)) == (404, "not_found")


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
def test_keys_that_are_not_allowed(client: TestClient, key: str) -> None:
    response = client.post("/v1/collect", headers={"Idempotency-Key": key})
    assert (response.status_code, code_of(response)) == (422, "request_invalid")
