"""The same requests on SQLite and on PostgreSQL, with what only one of them minds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, push, push_samples, push_teacher
from tests.support.verifiers import SharedVerifier


@pytest.fixture
def client(settings: Settings, verifier: SharedVerifier) -> Iterator[TestClient]:
    app = create_app(settings.model_copy(update={"planes": frozenset({"registry"})}))
    app.state.service = replace(app.state.service, verifier=verifier)
    with TestClient(app) as made:
        yield made


def _queued(client: TestClient) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = client.get("/v1/jobs", params={"state": "queued"}).json()["items"]
    return items


def test_the_whole_path(client: TestClient) -> None:
    push(client, "is-it", files.file_bytes(files.parts(channels=6)[1]))
    push_teacher(client, "dog")
    push_samples(client, "digits", files.samples())
    asked = {"name": "dog-here", "category": "dog", "task": "is-it", "samples": "digits"}
    job = client.post("/v1/transplants", json=asked)
    assert job.status_code == 202, job.text
    queued = {**job.json(), "precheck": None}  # it is told once, with the 202
    assert [{**each, "precheck": None} for each in _queued(client)] == [queued]
    assert code_of(client.delete("/v1/versions/dog:1")) == "has_dependents"
    assert client.post(f"/v1/jobs/{job.json()['id']}/cancel").json()["state"] == "cancelled"
    assert client.get(f"/v1/jobs/{job.json()['id']}/events").text.count("data:") == 2
    assert client.get("/health/ready").status_code == 200
    assert 'graftery_jobs{state="cancelled"} 1.0' in client.get("/metrics").text


def test_two_uploads_of_one_name_at_once(client: TestClient) -> None:
    bodies = [files.samples(count) for count in (4, 6, 8, 10)]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda body: client.put("/v1/samples/digits", content=body), bodies))
    assert [answer.status_code for answer in answers] == [201] * 4
    assert {answer.json()["version"] for answer in answers} == {1, 2, 3, 4}


def test_one_key_at_once(client: TestClient) -> None:
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: client.post("/v1/collect", headers={"Idempotency-Key": "k"}), range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "\U0001f431", "'; DROP TABLE modules; --", "%", "_", "\\", "\u202e"]
)
def test_any_text(client: TestClient, text: str) -> None:
    push_samples(client, "digits", files.samples())
    for params in ({"q": text}, {"tag": text}, {"cursor": text}):
        assert client.get("/v1/modules", params=params).status_code in (200, 422)
    changed = client.patch("/v1/modules/digits", json={"description": text, "tags": [text]})
    assert changed.status_code == 200
    upload = client.put("/v1/samples/other", content=files.samples(), params={"description": text, "tag": text})
    assert upload.status_code == 201
    yanked = client.post("/v1/versions/other:1/yank", json={"reason": text}, headers={"Idempotency-Key": "key"})
    assert yanked.status_code == 200
    asked = {"name": "n", "category": text, "task": "t"}
    assert client.post("/v1/networks", json=asked).status_code == 422


def test_large_numbers(client: TestClient) -> None:
    push_samples(client, "digits", files.samples())
    assert client.get("/v1/versions/digits:999999999").status_code == 404
    assert client.get("/v1/versions/digits:9999999999").status_code == 422
    assert client.put("/v1/modules/digits/aliases/a", json={"version": 2**40}).status_code == 422
    assert client.get("/v1/jobs/x/events", headers={"Last-Event-ID": str(2**31)}).status_code == 422


@pytest.mark.slow
def test_teachers_come_at_once_from_several_clients(client: TestClient) -> None:
    push_teacher(client, "all", outputs=("is", "size"), channels=6, seed=1)
    for seed, name in enumerate(("dog", "owl"), 2):
        push_teacher(client, name, outputs=("is", "size"), seed=seed)
    client.post("/v1/generic", json={"name": "zoo", "categories": ["all"], "tasks": ["all-is", "all-size"]})
    asked = [{"category": name} for name in ("dog", "owl") * 4]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: client.post("/v1/generic/zoo/grow", json=body), asked))
    assert sorted(answer.status_code for answer in answers) == [200] * 6 + [202] * 2
    jobs = {(job["request"]["generic"]["category"], job["request"]["generic"]["task"]) for job in _queued(client)}
    assert len(_queued(client)) == len(jobs) == 4
    found = client.get("/v1/generic/zoo").json()
    assert {row["name"] for row in found["categories"]} == {"all", "dog", "owl"}
    assert [cell["state"] for cell in found["cells"]] == ["ready"] * 2 + ["running"] * 4
    impact = client.get("/v1/versions/all-is:1/impact").json()
    assert impact["cells"] == [{"generic": "zoo", "category": "all", "task": "all-is"}]
    assert client.get("/v1/generic/zoo/certificate").json()["cells"] == 2
    assert client.get("/v1/generic").json()["items"][0]["ready"] == 2
    answers = [client.post(f"/v1/jobs/{job['id']}/cancel") for job in _queued(client)]
    assert {answer.status_code for answer in answers} == {200}
    assert client.delete("/v1/generic/zoo/members/dog").status_code == 204
    assert client.delete("/v1/generic/zoo").status_code == 204
