"""Pre-checks over HTTP, made by the real child."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from torch import nn

from app.requests.prechecks import Prechecks
from graftery.module import trace
from graftery.spec.manifest import OutputMeaning, Preprocessing
from tests.support import files, transplants
from tests.support.http import code_of, push, push_teacher
from tests.support.verifiers import SharedPrecheckers

PAIR = {"category": "dog", "task": "animals-is"}


@pytest.fixture
def client(app: FastAPI, precheckers: SharedPrecheckers) -> Iterator[TestClient]:
    """Two teachers of one shape, and answers that wait for their pre-check as long as it takes."""
    service = app.state.service
    settings = service.settings.model_copy(update={"precheck_wait_s": 120.0})
    app.state.service = replace(service, settings=settings, prechecks=Prechecks(service.store, precheckers))
    with TestClient(app) as made:
        push_teacher(made, "dog")
        push_teacher(made, "animals", seed=1)
        yield made


def test_a_pair_beside_the_category_that_feeds_the_task(client: TestClient) -> None:
    response = client.get("/v1/prechecks", params=PAIR)
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["status"], found["reason"], found["identity"]) == ("ready", None, True)
    assert (found["features"], found["wanted"]) == ([4, 4, 4], [4, 4, 4])
    assert (found["layers"], found["parameters"]) == (["3x3 convolution 4 to 4"], 4 * 4 * 9 + 4)
    assert [each["name"] for each in found["neighbours"]] == ["animals-is-teacher:1"]
    assert 0 < found["residual"] < 1.5
    assert 0 < found["cka"] < 1
    assert client.get("/v1/prechecks", params=PAIR).json() == found
    other = client.get("/v1/prechecks", params={**PAIR, "seed": 1}).json()
    assert other["seed"] == 1
    assert other["residual"] != found["residual"]
    deep = client.get("/v1/prechecks", params={**PAIR, "layers": 3}).json()
    assert deep["parameters"] == 3 * found["parameters"]


def test_the_same_is_in_the_answer_to_a_transplant(client: TestClient) -> None:
    response = client.post("/v1/transplants", json={"name": "net", **PAIR})
    assert response.status_code == 202, response.text
    assert response.json()["precheck"] == client.get("/v1/prechecks", params=PAIR).json()
    assert "precheck" not in client.get(response.headers["location"]).json()


def test_a_transplant_does_not_wait_for_it_longer_than_is_set(app: FastAPI, client: TestClient) -> None:
    service = app.state.service
    app.state.service = replace(service, settings=service.settings.model_copy(update={"precheck_wait_s": 0.0}))
    asked = {"name": "net", **PAIR, "recipe": {"seed": 77}}
    response = client.post("/v1/transplants", json=asked)
    assert response.status_code == 202, response.text
    assert response.json()["precheck"]["status"] == "running"
    app.state.service = service
    assert client.get("/v1/prechecks", params={**PAIR, "seed": 77}).json()["status"] == "ready"


def test_a_task_that_nobody_feeds_yet_has_no_numbers(client: TestClient) -> None:
    push(client, "lonely", files.file_bytes(files.parts(channels=6, seed=3)[1]))
    found = client.get("/v1/prechecks", params={"category": "dog", "task": "lonely"}).json()
    assert found["status"] == "ready"
    assert (found["residual"], found["cka"], found["neighbours"]) == (None, None, [])
    assert "no other category" in found["reason"]
    assert found["layers"] == ["1x1 convolution 4 to 6", "3x3 convolution 6 to 6"]
    assert found["identity"] is False


def test_another_preprocessing_is_no_neighbour(client: TestClient) -> None:
    shaded = files.with_preprocessing(files.parts(seed=1)[0], Preprocessing(mean=(0.1,), std=(0.5,)))
    push(client, "shaded", files.file_bytes(shaded))
    assert client.post("/v1/networks", json={"name": "net", "category": "shaded", "task": "dog-is"}).status_code == 201
    found = client.get("/v1/prechecks", params={"category": "animals", "task": "dog-is"}).json()
    assert [each["name"] for each in found["neighbours"]] == ["dog-is-teacher:1"]


@pytest.fixture
def pixels(client: TestClient) -> dict[str, str]:
    """A teacher of masks, at stride 2, and shared task modules that were trained behind other strides; all for images of any size."""
    net = nn.Sequential(OrderedDict(features=transplants.image_category(), head=transplants.strided_task(2.0))).eval()
    teacher = trace(net, torch.randn(2, 1, 8, 8), outputs={"is": OutputMeaning(semantics="segmentation")})
    response = client.put("/v1/teachers/pixels", params={"cut": files.CUT}, content=files.file_bytes(teacher))
    assert response.status_code == 201, response.text
    for name, scale in (("masks", 4.0), ("thirds", 3.0)):
        push(client, name, files.file_bytes(transplants.strided_files(scale)[1]))
    return {"category": "pixels", "task": "masks"}


def test_of_free_sizes_the_teachers_task_tells_how_large_the_output_is_to_be(
    client: TestClient, pixels: dict[str, str]
) -> None:
    found = client.get("/v1/prechecks", params=pixels).json()
    assert found["layers"] == ["3x3 convolution 4 to 4"] * 3 + ["resize height by 1/2 and width by 1/2"]
    assert (found["wanted"], found["identity"]) == ([4, None, None], False)
    assert client.get("/v1/prechecks", params={**pixels, "teacher_task": "pixels-is"}).json() == found
    response = client.post("/v1/transplants", json={"name": "net", **pixels})
    assert (response.status_code, response.json()["precheck"]) == (202, found)
    assert client.post("/v1/generic", json={"name": "grid", "tasks": ["masks"]}).status_code == 201
    grown = client.post("/v1/generic/grid/grow", json={"category": "pixels", "dry_run": True}).json()
    assert [cell["precheck"] for cell in grown["cells"]] == [found]


def test_sizes_that_no_resize_makes_alike_are_told_before_the_job(client: TestClient, pixels: dict[str, str]) -> None:
    found = client.post("/v1/transplants", json={"name": "net", **pixels, "task": "thirds"}).json()["precheck"]
    assert found["status"] == "unavailable"
    assert "the task's output is [1, 12, 12], the teacher task's is [1, 8, 8]" in found["reason"]


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"category": "dgo"}, 404, "not_found"),
        ({"category": "animals-is"}, 409, "kind_mismatch"),
        ({"teacher_task": "animals-is"}, 409, "conflict"),
        ({"seed": -1}, 422, "request_invalid"),
        ({"layers": 9}, 422, "request_invalid"),
        ({"task": "not a reference"}, 422, "name_invalid"),
    ],
)
def test_what_cannot_be_joined_is_refused(client: TestClient, change: dict[str, str], status: int, code: str) -> None:
    response = client.get("/v1/prechecks", params={**PAIR, **change})
    assert (response.status_code, code_of(response)) == (status, code)


def test_a_kept_answer_outlives_its_modules(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/transplants", json={"name": "net", **PAIR}, headers=headers)
    assert first.status_code == 202
    client.post("/v1/versions/dog:1/yank", json={"reason": "bad"})
    again = client.post("/v1/transplants", json={"name": "net", **PAIR}, headers=headers)
    assert (again.status_code, again.json()) == (202, first.json())
