"""Networks composed by hand, and requests for transplants: what can be refused is refused before a job exists."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save
from torch import nn

from app.deps import Service
from graftery.data import SampleSet
from graftery.spec.manifest import Preprocessing
from graftery.spec.memory import FIXED_BYTES
from graftery.spec.recipes import TransplantRecipe
from graftery.transplant import transplant
from registry import catalogue
from tests.support import files, transplants
from tests.support.http import code_of, push, push_parts, push_samples, push_teacher

BAD_LABELS: dict[str, Any] = {"third-class": [0, 1, 2, 1], "one-class": [1] * 4, "masks": [[[0, 1]]] * 4}
ASKED = {"name": "dog-here", "category": "dog", "task": "is-it"}


@pytest.fixture
def shared(client: TestClient) -> None:
    """A shared task module (another width), and a teacher of another category."""
    push(client, "is-it", files.file_bytes(files.parts(channels=6)[1]))
    push_teacher(client, "dog")


def _jobs(client: TestClient) -> list[Any]:
    items: list[Any] = client.get("/v1/jobs").json()["items"]
    return items


def test_a_transplant_is_pinned_completed_and_queued(client: TestClient, shared: None) -> None:
    push_samples(client, "labelled", files.samples(12))
    push_samples(client, "noise", files.samples(10, False))
    asked = {**ASKED, "samples": "labelled", "unlabelled": "noise", "evaluate_on": "labelled", "recipe": {"labels": 8}}
    response = client.post("/v1/transplants", json=asked)
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert job.pop("precheck")["status"] == "unavailable"
    assert client.get(response.headers["location"]).json() == job
    assert (job["state"], job["kind"]) == ("queued", "transplant")
    digests = {
        ref: client.get(f"/v1/versions/{ref}").json()["digest"] for ref in ("dog", "is-it", "dog-is", "labelled")
    }
    assert job["pinned"] == {
        "category": f"dog@sha256:{digests['dog']}",
        "task": f"is-it@sha256:{digests['is-it']}",
        "teacher_task": f"dog-is@sha256:{digests['dog-is']}",
        "samples": f"labelled@sha256:{digests['labelled']}",
        "unlabelled": f"noise@sha256:{client.get('/v1/versions/noise').json()['digest']}",
        "evaluate_on": f"labelled@sha256:{digests['labelled']}",
    }
    recipe = TransplantRecipe.model_validate(job["recipe"])
    assert recipe.objectives and recipe.sources
    assert recipe.labels == 8
    assert "inversion" in recipe.sources  # the category has batch norm
    assert job["memory_bytes"] > FIXED_BYTES
    told = re.search(r"^graftery_queued_job_bytes (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert told is not None and float(told[1]) == job["memory_bytes"]


def test_a_pinned_version_cannot_be_deleted_while_the_job_waits(client: TestClient, shared: None) -> None:
    job = client.post("/v1/transplants", json=ASKED).json()
    response = client.delete("/v1/modules/is-it")
    assert (response.status_code, code_of(response)) == (409, "has_dependents")
    assert job["id"] in response.json()["detail"]
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert client.delete("/v1/modules/is-it").status_code == 204


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"category": "dgo"}, 404, "not_found"),
        ({"task": "is-it:9"}, 404, "not_found"),
        ({"samples": "none"}, 404, "not_found"),
        ({"category": "is-it"}, 409, "kind_mismatch"),
        ({"task": "dog"}, 409, "kind_mismatch"),
        ({"samples": "dog"}, 409, "kind_mismatch"),
        ({"name": "dog"}, 409, "kind_conflict"),
        ({"name": "a" * 125}, 422, "name_invalid"),
        ({"alias": "latest"}, 422, "name_invalid"),
        ({"samples": "plain"}, 422, "samples_invalid"),
        ({"evaluate_on": "plain"}, 422, "samples_invalid"),
        ({"unlabelled": "large"}, 409, "shape_mismatch"),
        ({"samples": "third-class"}, 422, "samples_invalid"),
        ({"evaluate_on": "third-class"}, 422, "samples_invalid"),
        ({"samples": "one-class"}, 422, "samples_invalid"),
        ({"evaluate_on": "one-class"}, 422, "samples_invalid"),
        ({"evaluate_on": "masks"}, 422, "samples_invalid"),
        ({"samples": "double"}, 422, "samples_invalid"),
        ({"recipe": {"labels": 3}}, 422, "samples_missing"),
        ({"recipe": {"objectives": {"direct": 1}}}, 422, "samples_missing"),
        ({"recipe": {"sources": ["moments"]}}, 422, "recipe_invalid"),
        ({"category": "not a reference"}, 422, "name_invalid"),
    ],
)
def test_what_cannot_work_is_refused_before_a_job_exists(
    client: TestClient, shared: None, change: dict[str, Any], status: int, code: str
) -> None:
    push_samples(client, "plain", files.samples(12, False))
    push_samples(client, "large", files.samples(12, False, 9))
    for name, y in BAD_LABELS.items():
        push_samples(client, name, save({"x": torch.zeros(4, 1, files.SIDE, files.SIDE), "y": torch.tensor(y)}))
    push_samples(client, "double", save({"x": torch.zeros(4, 1, 8, 8).double(), "y": torch.arange(4) % 2}))
    response = client.post("/v1/transplants", json={**ASKED, **change})
    assert (response.status_code, code_of(response)) == (status, code), response.text
    assert _jobs(client) == []


def test_an_adapters_name_of_another_kind(client: TestClient, shared: None) -> None:
    push_samples(client, "dog-here-adapter", files.samples())
    response = client.post("/v1/transplants", json=ASKED)
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")


def test_meanings_that_disagree_can_be_forced(client: TestClient, shared: None) -> None:
    other = files.with_preprocessing(files.parts(channels=6)[1], Preprocessing(mean=(0.5,), std=(0.5,)))
    ours = files.with_preprocessing(files.parts()[0], Preprocessing(mean=(0.1,), std=(0.5,)))
    push(client, "grey", files.file_bytes(other))
    push(client, "shade", files.file_bytes(ours))
    asked = {**ASKED, "category": "shade", "task": "grey", "teacher_task": "dog-is"}
    response = client.post("/v1/transplants", json=asked)
    assert (response.status_code, code_of(response)) == (409, "preprocessing_mismatch")
    assert client.post("/v1/transplants", json={**asked, "force": True}).status_code == 202


def test_the_teachers_task_of_the_same_output_is_taken(client: TestClient) -> None:
    push(client, "is-it", files.file_bytes(files.parts(channels=6)[1]))
    push_teacher(client, "dog", outputs=("is", "size"))
    job = client.post("/v1/transplants", json=ASKED).json()
    assert job["pinned"]["teacher_task"].startswith("dog-is@")


def test_several_tasks_that_could_be_meant_are_named(client: TestClient) -> None:
    push(client, "is-it", files.file_bytes(files.parts(outputs=("other",), channels=6)[1]))
    push_teacher(client, "dog", outputs=("is", "size"))
    response = client.post("/v1/transplants", json=ASKED)
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert response.json()["choices"] == ["dog-is:1", "dog-size:1"]
    assert client.post("/v1/transplants", json={**ASKED, "teacher_task": "dog-size"}).status_code == 202


def test_labels_outside_the_tasks_classes_are_told_the_classes(client: TestClient, shared: None) -> None:
    y = torch.tensor(BAD_LABELS["third-class"])
    push_samples(client, "third-class", save({"x": torch.zeros(4, 1, files.SIDE, files.SIDE), "y": y}))
    document = client.post("/v1/transplants", json={**ASKED, "evaluate_on": "third-class"}).json()
    assert document["detail"] == "evaluate_on third-class:1 have labels from 0 to 2, the task's classes are 0 to 1"
    assert "number the classes from 0" in document["hint"]


def test_one_class_teaches_where_its_label_is_not_used(client: TestClient, shared: None) -> None:
    y = torch.tensor(BAD_LABELS["one-class"])
    push_samples(client, "one-class", save({"x": torch.zeros(4, 1, files.SIDE, files.SIDE), "y": y}))
    recipe = {"objectives": {"distillation": 1.0}}
    response = client.post("/v1/transplants", json={**ASKED, "samples": "one-class", "recipe": recipe})
    assert response.status_code == 202, response.text


def test_a_set_that_was_published_before_labels_were_looked_at_is_the_jobs_to_refuse(
    client: TestClient, shared: None, service: Service
) -> None:
    y = torch.tensor(BAD_LABELS["third-class"])
    push_samples(client, "old", save({"x": torch.zeros(4, 1, files.SIDE, files.SIDE), "y": y}))
    with service.database.transaction() as session:
        row = catalogue.resolve(session, "old")
        row.facts = {key: value for key, value in (row.facts or {}).items() if key != "labels"}
    assert client.post("/v1/transplants", json={**ASKED, "evaluate_on": "old"}).status_code == 202


def test_sets_of_several_sizes(client: TestClient) -> None:
    free = files.free_size_parts()
    push(client, "cat", files.file_bytes(free[0]))
    push(client, "is-it", files.file_bytes(free[1]))
    push_samples(client, "small", files.samples(12, True, 8))
    push_samples(client, "large", files.samples(12, True, 9))
    asked = {"name": "n", "category": "cat", "task": "is-it", "samples": "small"}
    assert client.post("/v1/transplants", json=asked).status_code == 202
    response = client.post("/v1/transplants", json={**asked, "evaluate_on": "large"})
    assert (response.status_code, code_of(response)) == (422, "samples_invalid")
    assert "samples [1, 8, 8], evaluate_on [1, 9, 9]" in response.json()["detail"]


@pytest.mark.parametrize("side", [8, 6])
def test_a_sketch_of_free_sizes_is_the_workers_to_take_or_leave_unless_it_is_named(
    client: TestClient, side: int
) -> None:
    """The file tells the size of the sketch's features, not of the images that they are of: the job asks f."""
    f, gs, gt = transplants.sketched_files()
    for name, file in (("dog", f), ("is-it", gs), ("own", gt)):
        push(client, name, files.file_bytes(file))
    push_samples(client, "images", files.samples(8, False, side))
    asked = {**ASKED, "teacher_task": "own", "unlabelled": "images"}
    named = client.post("/v1/transplants", json={**asked, "recipe": {"sources": ["unlabelled", "moments"]}}).json()
    assert named["recipe"]["sources"] == ["unlabelled", "moments"]
    response = client.post("/v1/transplants", json={**asked, "name": "open", "recipe": {"steps": 2, "batch": 8}})
    assert response.status_code == 202, response.text
    recipe = TransplantRecipe.model_validate(response.json()["recipe"])
    assert recipe.sources == () and recipe.objectives
    recipe = recipe.model_copy(update={"inversion": recipe.inversion.model_copy(update={"steps": 2, "images": 8})})
    images = SampleSet(torch.randn(8, 1, side, side))
    done = transplant(f, gs, teacher_task=gt, recipe=recipe, unlabelled=images)
    assert done.recipe.sources == ("unlabelled", "inversion", *(("moments",) if side == 8 else ()))


@pytest.mark.parametrize("role", ["samples", "evaluate_on"])
def test_masks_of_another_size_than_the_teachers_are_refused_where_that_is_stated(
    client: TestClient, role: str
) -> None:
    """gS makes masks of any size; gT, which f's features of one size go into, of one."""
    f, shared, _ = transplants.strided_files()
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Unflatten(1, (1, 8, 8))).eval()
    own = transplants.task_file(fixed, torch.rand(2, 4, 4, 4), "segmentation")
    for name, file in (("dog", f), ("is-it", shared), ("own", own)):
        push(client, name, files.file_bytes(file))
    for name, side in (("fitting", 8), ("small", 4)):
        y = torch.arange(4 * side**2).view(4, side, side) % 2
        push_samples(client, name, save({"x": torch.zeros(4, 1, files.SIDE, files.SIDE), "y": y}))
    asked = {**ASKED, "teacher_task": "own"}
    assert client.post("/v1/transplants", json={**asked, role: "fitting"}).status_code == 202
    response = client.post("/v1/transplants", json={**asked, "name": "other", role: "small"})
    assert (response.status_code, code_of(response)) == (422, "samples_invalid")
    assert f"{role} small:1 are [N, 4, 4]; those of a segmentation are [n, 8, 8]" in response.json()["detail"]
    direct = {**asked, "name": "other", role: "small", "recipe": {"objectives": {"direct": 1}}}
    if role == "samples":  # Labels alone teach: gS may make masks of their size by itself, which only the job sees.
        assert client.post("/v1/transplants", json=direct).status_code == 202


def test_a_teacher_without_the_task_that_is_asked_for(client: TestClient) -> None:
    push(client, "is-it", files.file_bytes(files.parts(channels=6)[1]))
    push_teacher(client, "dog", outputs=("size",))
    response = client.post("/v1/transplants", json=ASKED)
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert "has no task with the output 'is': it has dog-size:1" in response.json()["detail"]
    assert response.json()["choices"] == ["dog-size:1"]
    assert _jobs(client) == []
    job = client.post("/v1/transplants", json={**ASKED, "teacher_task": "dog-size"}).json()
    assert job["pinned"]["teacher_task"].startswith("dog-size@")


def test_an_output_that_nobody_named_is_the_one_that_is_meant(client: TestClient) -> None:
    push(client, "is-it", files.file_bytes(files.parts(channels=6)[1]))
    push_teacher(client, "dog", outputs=("output",))
    job = client.post("/v1/transplants", json=ASKED).json()
    assert job["pinned"]["teacher_task"].startswith("dog-output@")


def test_a_task_of_another_teacher_has_to_be_forced(client: TestClient, shared: None) -> None:
    push_teacher(client, "cat", seed=1)
    response = client.post("/v1/transplants", json={**ASKED, "teacher_task": "cat-is"})
    assert (response.status_code, code_of(response)) == (409, "conflict")
    assert response.json()["choices"] == ["dog-is:1"]
    assert client.post("/v1/transplants", json={**ASKED, "teacher_task": "cat-is", "force": True}).status_code == 202
    push(client, "later", files.file_bytes(files.parts(seed=2)[1]))  # cut from no teacher: trained later, perhaps
    assert client.post("/v1/transplants", json={**ASKED, "teacher_task": "later"}).status_code == 202


def test_labels_alone_need_no_teacher(client: TestClient) -> None:
    push_parts(client, "cat", "is-it")
    push_samples(client, "labelled", files.samples())
    response = client.post("/v1/transplants", json={"name": "n", "category": "cat", "task": "is-it"})
    assert (response.status_code, code_of(response)) == (422, "samples_missing")
    asked = {"name": "n", "category": "cat", "task": "is-it", "samples": "labelled"}
    job = client.post("/v1/transplants", json=asked).json()
    assert list(job["recipe"]["objectives"]) == ["direct"]


def test_a_transplant_sent_twice_with_one_key_is_one_job(client: TestClient, shared: None) -> None:
    answers = [client.post("/v1/transplants", json=ASKED, headers={"Idempotency-Key": "k1"}) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    assert answers[1].headers["location"] == answers[0].headers["location"]
    assert len(_jobs(client)) == 1
    other = client.post("/v1/transplants", json={**ASKED, "name": "b"}, headers={"Idempotency-Key": "k1"})
    assert (other.status_code, code_of(other)) == (409, "idempotency_conflict")


def test_a_refusal_does_not_use_up_the_key(client: TestClient, shared: None) -> None:
    headers = {"Idempotency-Key": "k2"}
    asked = {**ASKED, "samples": "later"}
    assert client.post("/v1/transplants", json=asked, headers=headers).status_code == 404
    push_samples(client, "later", files.samples())
    assert client.post("/v1/transplants", json=asked, headers=headers).status_code == 202


def test_a_network_of_parts_that_fit(client: TestClient) -> None:
    push_parts(client)
    asked = {"name": "net", "category": "cat", "task": "is-it", "alias": "stable"}
    response = client.post("/v1/networks", json=asked)
    assert response.status_code == 201, response.text
    version = response.json()
    assert (version["ref"], version["kind"], version["aliases"]) == ("net:1", "network", ["default", "stable"])
    assert response.headers["location"] == "/v1/versions/net:1"
    assert version["parts"]["category"] == client.get("/v1/versions/cat").json()["digest"]
    assert client.post("/v1/networks", json=asked).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"task": "wide"}, 409, "shape_mismatch"),
        ({"task": "cat"}, 409, "kind_mismatch"),
        ({"adapter": "is-it"}, 409, "kind_mismatch"),
        ({"adapter": "none"}, 404, "not_found"),
        ({"name": "cat"}, 409, "kind_conflict"),
        ({"alias": "latest"}, 422, "name_invalid"),
    ],
)
def test_networks_that_cannot_be(client: TestClient, change: dict[str, Any], status: int, code: str) -> None:
    push_parts(client)
    push(client, "wide", files.file_bytes(files.parts(channels=6)[1]))
    asked = {"name": "net", "category": "cat", "task": "is-it", **change}
    response = client.post("/v1/networks", json=asked)
    assert (response.status_code, code_of(response)) == (status, code), response.text
    assert client.get("/v1/modules", params={"kind": "network"}).json()["items"] == []


def test_a_yanked_part_must_be_pinned_by_its_digest(client: TestClient) -> None:
    push_parts(client)
    client.post("/v1/versions/cat:1/yank", json={"reason": "bad"})
    digest = client.get("/v1/versions/cat:1").json()["digest"]
    for ref in ("cat", "cat:1"):
        response = client.post("/v1/networks", json={"name": "net", "category": ref, "task": "is-it"})
        assert (response.status_code, code_of(response)) == (404, "yanked")
    pinned = {"name": "net", "category": f"cat@sha256:{digest}", "task": "is-it"}
    assert client.post("/v1/networks", json=pinned).status_code == 201
