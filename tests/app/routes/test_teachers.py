from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, in_store, push, push_samples, push_teacher


def test_a_teacher_becomes_its_parts(client: TestClient) -> None:
    out = push_teacher(client, "dog", outputs=("is", "size"))
    assert out["teacher"]["ref"] == "dog-teacher:1"
    assert out["category"]["ref"] == "dog:1"
    assert {name: task["ref"] for name, task in out["tasks"].items()} == {"is": "dog-is:1", "size": "dog-size:1"}
    assert {name: each["ref"] for name, each in out["networks"].items()} == {
        "is": "dog-is-teacher:1",
        "size": "dog-size-teacher:1",
    }
    assert out["category"]["facts"]["outputs"]["features"] == out["tasks"]["is"]["facts"]["input"]
    assert out["networks"]["is"]["parts"] == {
        "category": out["category"]["digest"],
        "adapter": None,
        "clones": None,
        "task": out["tasks"]["is"]["digest"],
    }
    kinds = {each["name"]: each["kind"] for each in client.get("/v1/modules").json()["items"]}
    assert kinds["dog-is-teacher"] == "network"
    assert client.get("/v1/versions/dog-is-teacher/file").json()["parts"]["category"] == out["category"]["digest"]


def test_the_stored_parts_are_the_cut(client: TestClient) -> None:
    out = push_teacher(client, "dog")
    category, task = files.parts()
    assert client.get("/v1/versions/dog/file").content == files.file_bytes(category)
    assert client.get("/v1/versions/dog-is/file").content == files.file_bytes(task)
    assert client.get("/v1/versions/dog-teacher/file").content == files.file_bytes(files.teacher())
    assert out["category"]["manifest"]["cut"] == "features"


def test_the_same_teacher_again_makes_nothing_new(client: TestClient) -> None:
    first = push_teacher(client, "dog")
    again = client.put("/v1/teachers/dog?cut=features", content=files.file_bytes(files.teacher()))
    assert again.status_code == 200
    assert again.json() == first


def test_another_teacher_is_the_next_version_of_every_part(client: TestClient) -> None:
    push_teacher(client, "dog")
    out = push_teacher(client, "dog", seed=1)
    assert out["category"]["ref"] == "dog:2"
    assert out["networks"]["is"]["ref"] == "dog-is-teacher:2"


def test_a_cut_that_is_no_layer_names_the_nearest(client: TestClient, app_settings: Settings) -> None:
    response = client.put("/v1/teachers/dog?cut=featurs.3", content=files.file_bytes(files.teacher()))
    assert (response.status_code, code_of(response)) == (422, "cut_not_found")
    assert "features.3" in response.json()["hint"]
    assert in_store(app_settings.home) == []


def test_a_cut_that_does_not_separate(client: TestClient, app_settings: Settings) -> None:
    response = client.put(
        "/v1/teachers/dog?cut=heads.is.0", content=files.file_bytes(files.teacher(outputs=("is", "size")))
    )
    assert (response.status_code, code_of(response)) == (422, "cut_not_separating")
    assert in_store(app_settings.home) == []


def test_a_cut_is_needed(client: TestClient) -> None:
    assert code_of(client.put("/v1/teachers/dog", content=b"")) == "request_invalid"


@pytest.mark.parametrize("taken", ["dog", "dog-teacher", "dog-is", "dog-is-teacher"])
def test_a_part_whose_name_is_taken_stops_all_of_it(client: TestClient, app_settings: Settings, taken: str) -> None:
    push_samples(client, taken, files.samples())
    response = client.put("/v1/teachers/dog?cut=features", content=files.file_bytes(files.teacher()))
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")
    assert taken in response.json()["detail"]
    assert [each["name"] for each in client.get("/v1/modules").json()["items"]] == [taken]
    assert len(in_store(app_settings.home)) == 1


def test_outputs_whose_names_collide(client: TestClient, app_settings: Settings) -> None:
    data = files.file_bytes(files.teacher(outputs=("teacher",)))
    response = client.put("/v1/teachers/dog?cut=features", content=data)
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")
    assert in_store(app_settings.home) == []


def test_a_name_that_is_too_long_with_its_endings(client: TestClient) -> None:
    response = client.put(f"/v1/teachers/{'x' * 124}?cut=features", content=b"")
    assert (response.status_code, code_of(response)) == (422, "name_invalid")


def test_a_whole_net_can_be_kept_uncut(client: TestClient) -> None:
    assert push(client, "net", files.file_bytes(files.teacher()))["kind"] == "teacher"
