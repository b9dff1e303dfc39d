"""Generic networks over HTTP: rows, columns and cells, and what makes them grow."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from graftery.spec.manifest import NetworkParts, Preprocessing
from registry import catalogue, generics, jobs
from registry.store import Blob
from tests.support import files
from tests.support.http import code_of, push, push_samples, push_teacher
from tests.support.registry import blob_of


@pytest.fixture(autouse=True)
def teachers(client: TestClient) -> None:
    """A generic net with two tasks, and a teacher that has both."""
    push_teacher(client, "all", outputs=("is", "size"), channels=6, seed=1)
    push_teacher(client, "dog", outputs=("is", "size"))


@pytest.fixture
def zoo(client: TestClient) -> dict[str, Any]:
    response = client.post("/v1/generic", json={"name": "zoo", "categories": ["all"], "tasks": ["all-is", "all-size"]})
    assert response.status_code == 201, response.text
    assert response.headers["location"] == "/v1/generic/zoo"
    found: dict[str, Any] = response.json()
    return found


def _matrix(client: TestClient, **params: Any) -> dict[tuple[str, str], dict[str, Any]]:
    response = client.get("/v1/generic/zoo", params=params)
    assert response.status_code == 200, response.text
    return {(cell["category"], cell["task"]): cell for cell in response.json()["cells"]}


def _states(client: TestClient) -> dict[str, str]:
    return {f"{category} {task}": cell["state"] for (category, task), cell in _matrix(client).items()}


def _grow(client: TestClient, category: str = "dog", status: int = 202, **more: Any) -> dict[str, Any]:
    response = client.post("/v1/generic/zoo/grow", json={"category": category, **more})
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    return found


def _refused(client: TestClient, path: str, body: dict[str, Any]) -> tuple[int, str, Any]:
    before = len(client.get("/v1/jobs").json()["items"])
    response = client.post(path, json=body)
    assert len(client.get("/v1/jobs").json()["items"]) == before
    return response.status_code, code_of(response), response.json()


def finish(service: Service, job_id: str, metrics: dict[str, Any] | None = None) -> dict[str, Any]:
    """End a job as its worker does, with a network of an adapter that nobody learned."""
    with service.database.transaction() as session:
        job = jobs.get(session, job_id)
        job.state, job.attempt = "running", 1
        parts = {role: catalogue.resolve(session, ref) for role, ref in job.pinned.items()}
        manifest = {"kind": "adapter", "input": {"dtype": "float32", "shape": ["N", 4]}, "outputs": {}}
        adapter, _ = catalogue.publish(
            session,
            name=f"{job.request['name']}-adapter",
            kind="adapter",
            blob=blob_of(job_id),
            manifest=manifest,
            facts={"parameters": 12},
        )
        digests = NetworkParts(category=parts["category"].digest, adapter=adapter.digest, task=parts["task"].digest)
        network, _ = catalogue.publish(
            session,
            name=job.request["name"],
            kind="network",
            blob=blob_of(catalogue.compose_document(digests).decode()),
            parts=digests,
            parents=[("category", parts["category"].id), ("adapter", adapter.id), ("task", parts["task"].id)],
            metrics=metrics or {},
            by=f"job {job_id}",
        )
        told = generics.settle(session, job_id, job.request["generic"], network)
        jobs.finish(session, job_id, 1, {"network": network.ref, "labels": 0, "seconds": 2.0, "generic": told})
        return told


def _measured(ours: float, theirs: float = 0.9) -> dict[str, Any]:
    return {
        "adapter": {"accuracy": ours},
        "adapter_interval": {"accuracy": [ours - 0.1, ours + 0.1]},
        "teacher": {"accuracy": theirs},
        "agreement": {"kappa": 0.8},
        "evaluated": {"samples": 40},
    }


def test_networks_that_are_there_become_cells(client: TestClient, zoo: dict[str, Any]) -> None:
    assert [member["ref"] for member in zoo["categories"]] == ["all:1"]
    assert [member["name"] for member in zoo["tasks"]] == ["all-is", "all-size"]
    assert {cell["network"] for cell in zoo["cells"]} == {"all-is-teacher:1", "all-size-teacher:1"}
    assert {cell["parameters"] for cell in zoo["cells"]} == {0}
    listed = client.get("/v1/generic").json()["items"]
    assert [(each["name"], each["categories"], each["tasks"], each["ready"]) for each in listed] == [("zoo", 1, 2, 2)]
    assert client.get("/v1/modules/zoo").json()["kind"] == "generic"


def test_making_it_again_changes_nothing_and_adds_what_is_missing(client: TestClient, zoo: dict[str, Any]) -> None:
    asked = {"name": "zoo", "categories": ["all", "dog"], "tasks": ["all-is"]}
    response = client.post("/v1/generic", json=asked)
    assert response.status_code == 200
    assert [cell["state"] for cell in response.json()["cells"]] == ["ready", "ready", "missing", "missing"]
    assert response.json()["cells"][:2] == zoo["cells"]


@pytest.mark.usefixtures("zoo")
def test_a_dry_run_says_what_would_be_done_and_does_nothing(client: TestClient) -> None:
    found = _grow(client, status=200, dry_run=True)
    assert found["dry_run"]
    assert {cell["action"] for cell in found["cells"]} == {"start"}
    assert sorted(cell["order"] for cell in found["cells"]) == [1, 2]
    for cell in found["cells"]:
        assert cell["network"] == f"zoo-dog-{cell['task']}"
        assert cell["job"] is None and cell["flops"] > 0 and cell["recipe"]["steps"] > 0
    assert list(_states(client)) == ["all all-is", "all all-size"]
    assert client.get("/v1/jobs").json()["items"] == []


@pytest.mark.usefixtures("zoo")
def test_growing_queues_a_job_for_each_missing_cell_once(client: TestClient, service: Service) -> None:
    found = _grow(client)
    ids = {cell["task"]: cell["job"] for cell in found["cells"]}
    assert _states(client) | {"dog all-is": "running", "dog all-size": "running"} == _states(client)
    again = _grow(client, status=200)
    assert {cell["action"] for cell in again["cells"]} == {"running"}
    assert {cell["task"]: cell["job"] for cell in again["cells"]} == ids
    told = finish(service, ids["all-is"], _measured(0.88))
    assert told["outcome"] == "kept"
    assert [cell["action"] for cell in _grow(client, status=200)["cells"]] == ["kept", "running"]
    cell = _matrix(client)["dog", "all-is"]
    assert (cell["state"], cell["network"], cell["parameters"]) == ("ready", "zoo-dog-all-is:1", 12)
    assert cell["figure"] == {"metric": "accuracy", "value": 0.88, "interval": [0.78, 0.98]}
    assert (cell["teacher"]["value"], cell["samples"], cell["agreement"], cell["labels"]) == (0.9, 40, 0.8, 0)
    assert cell["job"] == {"id": ids["all-is"], "state": "succeeded", "error": None}
    assert cell["recipe"]["steps"] > 0


def test_a_teacher_whose_only_task_has_no_name_grows_twice(client: TestClient, service: Service) -> None:
    push_teacher(client, "plain", outputs=("output",), channels=6, seed=1)
    client.post("/v1/generic", json={"name": "zoo", "categories": ["plain"], "tasks": ["plain-output"]})
    push_teacher(client, "single", outputs=("is",))
    finish(service, _grow(client, "single")["cells"][0]["job"])
    assert [cell["action"] for cell in _grow(client, "single", status=200)["cells"]] == ["kept"]


@pytest.mark.usefixtures("zoo")
def test_what_is_not_good_enough_is_not_kept_and_not_learned_again_the_same_way(
    client: TestClient, service: Service
) -> None:
    job = _grow(client, tasks=["all-is"])["cells"][0]["job"]
    assert finish(service, job, _measured(0.8))["outcome"] == "rejected"
    cell = _matrix(client)["dog", "all-is"]
    assert (cell["state"], cell["network"]) == ("rejected", None)
    assert "10.0 points below" in cell["reason"]
    again = _grow(client, status=200, tasks=["all-is"])["cells"][0]
    assert again["action"] == "rejected" and "change the recipe" in again["reason"]
    other = _grow(client, tasks=["all-is"], recipe={"steps": 7})["cells"][0]
    assert other["action"] == "start"
    assert finish(service, other["job"], _measured(0.87))["outcome"] == "kept"


@pytest.mark.usefixtures("zoo")
def test_where_nothing_was_measured_agreement_decides(client: TestClient, service: Service) -> None:
    job = _grow(client, tasks=["all-is"], accept={"agreement": 0.5})["cells"][0]["job"]
    told = finish(service, job, {"agreement": {"kappa": 0.4}})
    assert told["outcome"] == "rejected" and "agreement with the teacher is 0.40" in told["reason"]


@pytest.mark.usefixtures("zoo")
def test_a_failed_job_is_tried_again_and_a_retry_counts(client: TestClient, service: Service) -> None:
    job = _grow(client, tasks=["all-is"])["cells"][0]["job"]
    with service.database.transaction() as session:
        jobs.get(session, job).state = "running"
        jobs.fail(session, job, 0, "diverged", "the loss is NaN")
    cell = _matrix(client)["dog", "all-is"]
    assert (cell["state"], cell["reason"]) == ("failed", "diverged: the loss is NaN")
    retried = client.post(f"/v1/jobs/{job}/retry").json()["id"]
    assert _matrix(client)["dog", "all-is"]["job"]["id"] == retried
    assert _grow(client, status=200, tasks=["all-is"])["cells"][0]["action"] == "running"
    client.post(f"/v1/jobs/{retried}/cancel")
    assert _matrix(client)["dog", "all-is"]["state"] == "failed"
    assert _grow(client, tasks=["all-is"])["cells"][0]["action"] == "start"


@pytest.mark.usefixtures("zoo")
def test_a_baseline_stands_beside_the_cell(client: TestClient, service: Service) -> None:
    push_samples(client, "few", files.samples(12))
    cell = _grow(client, tasks=["all-is"], samples="few", baseline=True)["cells"][0]
    direct = client.get(f"/v1/jobs/{cell['baseline']}").json()
    assert direct["recipe"]["objectives"] == {"direct": 1.0}
    assert direct["request"]["name"] == "zoo-dog-all-is-direct"
    assert finish(service, cell["baseline"], _measured(0.6))["outcome"] == "direct"
    found = _matrix(client)["dog", "all-is"]
    assert (found["state"], found["direct"]["value"]) == ("running", 0.6)
    assert finish(service, cell["job"], _measured(0.9))["outcome"] == "kept"
    assert _matrix(client)["dog", "all-is"]["direct"]["value"] == 0.6


def _by_hand(client: TestClient, service: Service, name: str) -> str:
    """A network of dog and all-is that no generic network asked for."""
    job: str = client.post("/v1/transplants", json={"name": name, "category": "dog", "task": "all-is"}).json()["id"]
    with service.database.transaction() as session:
        row = jobs.get(session, job)
        row.request = {**row.request, "generic": {"name": "none", "category": "dog", "task": "all-is"}}
    finish(service, job)
    return f"{name}:1"


@pytest.mark.usefixtures("zoo")
def test_a_cell_that_was_filled_meanwhile_is_left_alone(client: TestClient, service: Service) -> None:
    job = _grow(client, tasks=["all-is"])["cells"][0]["job"]
    response = client.post("/v1/generic/zoo/cells", json={"network": _by_hand(client, service, "mine")})
    assert response.status_code == 200, response.text
    assert finish(service, job, _measured(0.9))["outcome"] == "overtaken"
    assert _matrix(client)["dog", "all-is"]["network"] == "mine:1"


@pytest.mark.usefixtures("zoo")
def test_a_result_for_a_network_that_is_gone_is_told_so(client: TestClient, service: Service) -> None:
    job = _grow(client, tasks=["all-is"])["cells"][0]["job"]
    assert client.delete("/v1/generic/zoo").status_code == 204
    assert client.get("/v1/generic/zoo").status_code == 404
    assert finish(service, job)["outcome"] == "gone"
    assert client.get("/v1/versions/zoo-dog-all-is:1").status_code == 200


@pytest.mark.usefixtures("zoo")
def test_cells_are_placed_replaced_and_rolled_back(client: TestClient, service: Service) -> None:
    finish(service, _grow(client, tasks=["all-is"])["cells"][0]["job"], _measured(0.9))
    _by_hand(client, service, "mine")
    body = {"network": "mine"}
    assert _refused(client, "/v1/generic/zoo/cells", body)[:2] == (409, "conflict")
    response = client.post("/v1/generic/zoo/cells", json={**body, "replace": True})
    assert response.status_code == 200, response.text
    assert _matrix(client)["dog", "all-is"]["network"] == "mine:1"
    change = client.post("/v1/generic/zoo/rollback").json()
    assert change["cells"] == [{"category": "dog", "task": "all-is", "old": "mine:1", "new": "zoo-dog-all-is:1"}]
    assert _matrix(client)["dog", "all-is"]["network"] == "zoo-dog-all-is:1"
    assert _refused(client, "/v1/generic/zoo/rollback", {})[:2] == (409, "conflict")
    assert _refused(client, "/v1/generic/zoo/rollback", {"change": 10**6})[:2] == (404, "not_found")
    actions = [each["action"] for each in client.get("/v1/generic/zoo/changes").json()["items"]]
    assert actions == ["rollback", "place", "cell", "add", "add", "create"]


@pytest.mark.usefixtures("zoo")
def test_filters_and_csv(client: TestClient, service: Service) -> None:
    job = _grow(client)["cells"][0]["job"]
    finish(service, job, _measured(0.88))
    assert list(_matrix(client, within=2.5)) == [("dog", "all-is")]
    assert list(_matrix(client, within=1)) == []
    assert list(_matrix(client, state=["running"])) == [("dog", "all-size")]
    assert list(_matrix(client, category="all", task="all-size")) == [("all", "all-size")]
    response = client.get("/v1/generic/zoo", params={"format": "csv"})
    assert response.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(response.text)))
    assert [line["state"] for line in lines] == ["ready", "ready", "ready", "running"]
    assert (lines[2]["value"], lines[2]["teacher"], lines[2]["parameters"]) == ("0.88", "0.9", "12")


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ({"category": "dgo"}, 404, "not_found", "dgo"),
        ({"category": "dog-is"}, 409, "kind_mismatch", "dog-is"),
        (
            {"category": "dog", "tasks": ["all-iss"]},
            409,
            "conflict",
            "zoo has no task all-iss: it has all-is, all-size",
        ),
        ({"category": "three"}, 409, "conflict", "zoo lacks the teacher's task 'name' (three-name:1)"),
        ({"category": "single", "tasks": ["all-size"]}, 409, "conflict", "has no task with the output 'size'"),
        ({"category": "dog", "samples": {"dog-is": "few"}}, 422, "request_invalid", "samples names dog-is"),
        ({"category": "dog", "evaluate_on": "none"}, 404, "not_found", "none"),
        ({"category": "dog", "baseline": True}, 422, "samples_missing", "there are none for all-is"),
        ({"category": "dog", "recipe": {"steps": -1}}, 422, "recipe_invalid", "steps"),
        ({"category": "dog", "steps": 3}, 422, "request_invalid", "steps"),
    ],
)
def test_growing_is_refused_whole(client: TestClient, body: dict[str, Any], status: int, code: str, said: str) -> None:
    if body["category"] == "three":
        push_teacher(client, "three", outputs=("is", "size", "name"))
    if body["category"] == "single":
        push_teacher(client, "single", outputs=("is",))
    found = _refused(client, "/v1/generic/zoo/grow", body)
    assert found[:2] == (status, code)
    assert said in found[2]["detail"]
    assert list(_states(client)) == ["all all-is", "all all-size"]


def test_cells_whose_preprocessing_or_meaning_disagree_are_refused(client: TestClient) -> None:
    shared = files.with_preprocessing(files.parts(channels=6)[1], Preprocessing(mean=(0.5,), std=(0.5,)))
    other = files.with_preprocessing(files.parts()[0], Preprocessing(mean=(0.1,), std=(0.5,)))
    push(client, "ours-is", files.file_bytes(shared))
    push(client, "grey", files.file_bytes(other))
    push_samples(client, "few", files.samples(12))
    client.post("/v1/generic", json={"name": "zoo", "tasks": ["ours-is"]})
    body = {"category": "grey", "teacher_task": "dog-is"}
    assert _refused(client, "/v1/generic/zoo/grow", body)[:2] == (409, "preprocessing_mismatch")
    assert (
        _refused(client, "/v1/generic/zoo/grow", {"category": "grey", "teacher_task": "classes-is"})[1] == "not_found"
    )
    assert _grow(client, force=True, **body)["cells"][0]["action"] == "start"


@pytest.mark.usefixtures("zoo")
def test_a_column_that_the_teacher_has_not_is_left_missing(client: TestClient) -> None:
    push_teacher(client, "single", outputs=("is",))
    found = {cell["task"]: cell for cell in _grow(client, "single")["cells"]}
    assert (found["all-is"]["action"], found["all-size"]["action"]) == ("start", "no_teacher")
    assert "has no task with the output 'size'" in found["all-size"]["reason"]


@pytest.mark.usefixtures("zoo")
def test_a_row_of_another_version_is_refused(client: TestClient) -> None:
    _grow(client)
    push_teacher(client, "dog", outputs=("is", "size"), seed=7)
    status, code, document = _refused(client, "/v1/generic/zoo/grow", {"category": "dog"})
    assert (status, code) == (409, "conflict") and "are of dog:1, not of dog:2" in document["detail"]
    status, code, _ = _refused(client, "/v1/generic/zoo/members", {"categories": ["dog:2"]})
    assert (status, code) == (409, "conflict")


@pytest.mark.usefixtures("zoo")
def test_members_with_running_cells_stay(client: TestClient) -> None:
    _grow(client)
    response = client.delete("/v1/generic/zoo/members/dog")
    assert (response.status_code, code_of(response)) == (409, "job_state")
    response = client.delete("/v1/generic/zoo/members/dgo")
    assert (response.status_code, code_of(response)) == (404, "not_found")
    assert client.delete("/v1/generic/zoo/members/all").status_code == 204
    assert list(_states(client)) == ["dog all-is", "dog all-size"]


@pytest.mark.usefixtures("zoo")
def test_what_is_in_a_generic_network_cannot_be_deleted(client: TestClient) -> None:
    for path in ("/v1/versions/all-is-teacher:1", "/v1/modules/all-is-teacher", "/v1/modules/all-is"):
        response = client.delete(path)
        assert (response.status_code, code_of(response)) == (409, "has_dependents")
        assert "generic network zoo" in response.json()["dependents"]


@pytest.mark.usefixtures("zoo")
def test_impact_names_the_cells(client: TestClient) -> None:
    both = [{"generic": "zoo", "category": "all", "task": task} for task in ("all-is", "all-size")]
    for ref, cells in (("all:1", both), ("all-is:1", both[:1]), ("all-size-teacher:1", both[1:]), ("dog:1", [])):
        found = client.get(f"/v1/versions/{ref}/impact").json()
        assert found["cells"] == cells, ref
    found = client.get("/v1/modules/all-is/impact").json()
    assert found["cells"] == both[:1]
    assert "generic network zoo" in found["delete"]["refused_by"]


def test_other_kinds_are_no_generic_networks(client: TestClient) -> None:
    response = client.get("/v1/generic/dog")
    assert (response.status_code, code_of(response)) == (409, "kind_mismatch")
    assert _refused(client, "/v1/generic", {"name": "dog"})[:2] == (409, "kind_conflict")
    assert _refused(client, "/v1/generic", {"name": "new", "tasks": ["dog"]})[:2] == (409, "kind_mismatch")
    assert client.get("/v1/generic/new").status_code == 404
    assert _refused(client, "/v1/generic/new/grow", {"category": "dog"})[:2] == (404, "not_found")


def test_the_certificate_is_over_all_cells(client: TestClient, zoo: dict[str, Any]) -> None:
    found = client.get("/v1/generic/zoo/certificate").json()
    assert found == {
        "name": "zoo",
        "cells": len(zoo["cells"]),
        "recorded": 0,
        "replays": 0,
        "identical": 0,
        "different": [],
    }


@pytest.mark.usefixtures("zoo")
def test_a_rejected_cell_is_learned_again_where_more_is_accepted(client: TestClient, service: Service) -> None:
    asked: dict[str, Any] = {"tasks": ["all-is"]}
    finish(service, _grow(client, **asked)["cells"][0]["job"], _measured(0.8))
    assert _grow(client, status=200, **asked)["cells"][0]["action"] == "rejected"
    assert _grow(client, **asked, accept={"within": 20})["cells"][0]["action"] == "start"


@pytest.mark.parametrize("other", ["all.is", "all-is-adapter"])
def test_cells_that_would_make_the_same_are_refused_before_a_job(
    client: TestClient, service: Service, other: str
) -> None:
    with service.database.transaction() as session:
        like = catalogue.resolve(session, "all-size")
        blob = Blob(like.digest, like.blob.size_bytes)
        catalogue.publish(session, name=other, kind="task", blob=blob, manifest=like.manifest, facts=like.facts)
    body = {"name": "zoo", "categories": [], "tasks": ["all-is", other]}
    assert client.post("/v1/generic", json=body).status_code == 201
    asked = {"category": "dog", "tasks": body["tasks"], "teacher_task": {"all-is": "dog-is", other: "dog-size"}}
    status, code, found = _refused(client, "/v1/generic/zoo/grow", asked)
    assert (status, code) == (409, "conflict")
    assert "would both make zoo-dog-all-is" in found["detail"]
