"""One category under several tasks in one request: a job for each, all of them or none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.torch import save

from app.requests.prechecks import Prechecks
from tests.support import files
from tests.support.http import code_of, push, push_samples, push_teacher
from tests.support.verifiers import SharedPrecheckers

ASKED: dict[str, Any] = {"name": "dog-here", "category": "dog", "task": ["all-is", "all-size"]}


@pytest.fixture(autouse=True)
def shared(client: TestClient) -> None:
    """The task modules of a generic net, and a teacher of another category with both tasks."""
    push_teacher(client, "all", outputs=("is", "size"), channels=6, seed=1)
    push_teacher(client, "dog", outputs=("is", "size"))


def _jobs(client: TestClient) -> list[Any]:
    items: list[Any] = client.get("/v1/jobs").json()["items"]
    return items


def _names(client: TestClient, change: dict[str, Any]) -> list[str]:
    response = client.post("/v1/transplants", json={**ASKED, **change})
    assert response.status_code == 202, response.text
    return [job["request"]["name"] for job in response.json()["jobs"]]


def _refused(client: TestClient, change: dict[str, Any]) -> tuple[int, str, Any]:
    response = client.post("/v1/transplants", json={**ASKED, **change})
    assert _jobs(client) == []
    return response.status_code, code_of(response), response.json()


def test_each_task_has_a_job_as_if_it_was_asked_for_alone(client: TestClient) -> None:
    push_samples(client, "both", files.samples(12))
    push_samples(client, "sizes", files.samples(10))
    asked = {**ASKED, "evaluate_on": {"all-size": "sizes"}, "unlabelled": "both", "alias": "new", "recipe": {"seed": 4}}
    response = client.post("/v1/transplants", json=asked)
    assert response.status_code == 202, response.text
    listed = client.get(response.headers["location"]).json()["items"]
    jobs = response.json()["jobs"]
    assert [job.pop("precheck")["status"] for job in jobs] == ["unavailable"] * 2
    assert sorted(listed, key=str) == sorted(jobs, key=str)
    alone = client.post("/v1/transplants", json={**asked, "name": "x", "task": "all-size"}).json()
    assert len(client.get(response.headers["location"]).json()["items"]) == 2
    assert alone.pop("precheck")["status"] == "unavailable"
    assert jobs[1]["request"] == {**alone["request"], "name": "dog-here-size"}
    assert (jobs[1]["pinned"], jobs[1]["recipe"]) == (alone["pinned"], alone["recipe"])
    assert jobs[0]["request"]["name"] == "dog-here-is"
    assert [job["pinned"]["teacher_task"].split("@")[0] for job in jobs] == ["dog-is", "dog-size"]
    assert ["evaluate_on" in job["pinned"] for job in jobs] == [False, True]
    assert all(job["pinned"]["unlabelled"].startswith("both@") for job in jobs)


def test_the_order_is_that_of_the_tasks_and_a_list_of_one_is_a_list(client: TestClient) -> None:
    assert _names(client, {"task": ["all-size", "all-is"]}) == ["dog-here-size", "dog-here-is"]
    assert _names(client, {"task": ["all-size"]}) == ["dog-here-size"]


def test_what_is_said_by_task_may_be_said_for_one_task_too(client: TestClient) -> None:
    push_samples(client, "both", files.samples(12))
    job = client.post("/v1/transplants", json={**ASKED, "task": "all-is", "samples": {"all-is": "both"}}).json()
    assert (job["request"]["name"], job["request"]["samples"]) == ("dog-here", "both")


@pytest.mark.parametrize(
    ("change", "status", "code", "said"),
    [
        ({"task": ["all-is", "all-sise"]}, 404, "not_found", "all-sise"),
        ({"task": ["all-is", "dog"]}, 409, "kind_mismatch", "dog"),
        ({"task": ["all-is", "all-is:1"]}, 409, "conflict", "all-is and all-is:1 would both make dog-here-is"),
        ({"task": ["all-is", "dog-is"]}, 409, "conflict", "all-is and dog-is would both make dog-here-is"),
        ({"task": ["all-is", "masks"]}, 409, "conflict", "masks: the teacher of dog:1 has no task with the output"),
        ({"name": "taken"}, 409, "kind_conflict", "all-size: taken-size is of kind samples"),
        ({"teacher_task": "dog-is"}, 409, "conflict", "dog-is:1 would be the teacher's task for both all-is and all-size"),
        ({"samples": {"size": "sizes"}}, 422, "request_invalid", "samples names size"),
        ({"evaluate_on": {"all-is": "threes"}}, 422, "samples_invalid", "all-is: evaluate_on threes:1 have labels"),
        ({"evaluate_on": {"all-size": "none"}}, 404, "not_found", "none"),
        ({"recipe": {"objectives": {"direct": 1}}, "samples": {"all-is": "sizes"}}, 422, "samples_missing", "all-size: "),
        ({"task": ["all-is", "all-is"]}, 422, "request_invalid", "body.task: it has to be a reference, or a list"),
    ],
)  # fmt: skip
def test_one_that_cannot_work_refuses_all(
    client: TestClient, change: dict[str, Any], status: int, code: str, said: str
) -> None:
    push(client, "masks", files.file_bytes(files.parts(outputs=("mask",), channels=6)[1]))
    push_samples(client, "taken-size", files.samples(12))
    push_samples(client, "sizes", files.samples(12))
    push_samples(client, "threes", save({"x": torch.zeros(4, 1, 8, 8), "y": torch.tensor([0, 1, 2, 1])}))
    found = _refused(client, change)
    assert found[:2] == (status, code), found
    assert said in found[2]["detail"]


def test_a_teacher_without_one_of_the_tasks_says_what_it_has(client: TestClient) -> None:
    push_teacher(client, "cow", outputs=("is",), seed=3)
    status, code, document = _refused(client, {"category": "cow"})
    assert (status, code, document["choices"]) == (409, "conflict", ["cow-is:1"])
    assert "the teacher of cow:1 has no task with the output 'size': it has cow-is:1" in document["detail"]
    assert _names(client, {"category": "cow", "teacher_task": {"all-size": "cow-is"}}) == [
        "dog-here-is",
        "dog-here-size",
    ]


def test_a_task_whose_output_has_no_name_takes_no_teacher_that_another_has(client: TestClient) -> None:
    push_teacher(client, "cow", outputs=("is",), seed=3)
    push(client, "plain", files.file_bytes(files.parts(outputs=("output",), channels=6)[1]))
    asked = {"category": "cow", "task": ["all-is", "plain"]}
    status, code, document = _refused(client, asked)
    assert (status, code, document["choices"]) == (409, "conflict", ["cow-is:1"])
    said = {"teacher_task": {"plain": "cow-is"}}
    assert _names(client, asked | said) == ["dog-here-is", "dog-here-output"]


def test_the_same_request_again_is_the_same_jobs(client: TestClient) -> None:
    answers = [client.post("/v1/transplants", json=ASKED, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert answers[0].status_code == 202, answers[0].text
    assert answers[0].content == answers[1].content
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert answers[1].headers["idempotency-replayed"] == "true"
    assert len(_jobs(client)) == 2


def test_each_job_has_its_own_precheck(app: FastAPI, precheckers: SharedPrecheckers) -> None:
    service = app.state.service
    settings = service.settings.model_copy(update={"precheck_wait_s": 120.0})
    app.state.service = replace(service, settings=settings, prechecks=Prechecks(service.store, precheckers))
    with TestClient(app) as client:
        answer = client.post("/v1/transplants", json=ASKED).json()
    near = [job["precheck"]["neighbours"][0]["name"] for job in answer["jobs"]]
    assert near == ["all-is-teacher:1", "all-size-teacher:1"]
