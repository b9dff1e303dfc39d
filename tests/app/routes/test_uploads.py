"""Uploads in pieces, as tus 1.0 clients and ours send them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, in_store, push, repr_digest
from tests.support.verifiers import SharedVerifier

PART = 1000
FILE = files.file_bytes(files.parts()[0])
DIGEST = hashlib.sha256(FILE).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}
APPEND = TUS | {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture
def app_settings(app_settings: Settings) -> Settings:
    return app_settings.model_copy(update={"upload_part_bytes": PART})


def begin(client: TestClient, data: bytes = FILE, name: str = "cat", target: str = "module", **more: Any) -> Any:
    request = {"name": name, "size_bytes": len(data), "digest": hashlib.sha256(data).hexdigest(), "target": target}
    return client.post("/v1/uploads", json=request | more)


def address(client: TestClient, *args: Any, **more: Any) -> str:
    response = begin(client, *args, **more)
    assert response.status_code == 201, response.text
    return str(response.headers["location"])


def append(client: TestClient, path: str, offset: int, data: bytes, **headers: str) -> Any:
    return client.patch(path, content=data, headers=APPEND | {"Upload-Offset": str(offset)} | headers)


def send_parts(client: TestClient, path: str, data: bytes = FILE) -> None:
    for number in client.get(path).json()["missing"]:
        part = data[number * PART : (number + 1) * PART]
        response = client.put(f"{path}/parts/{number}", content=part, headers={"Repr-Digest": repr_digest(part)})
        assert response.status_code == 204, response.text


def publish(client: TestClient, path: str, to: str = "/v1/modules/cat", **params: Any) -> Any:
    return client.put(to, params={"upload": path.rpartition("/")[2], **params})


def nothing_left(client: TestClient, settings: Settings) -> bool:
    return in_store(settings.home) == []


def test_what_is_spoken(client: TestClient) -> None:
    response = client.options("/v1/uploads")
    assert response.status_code == 204
    assert response.headers["Tus-Version"] == "1.0.0"
    assert int(response.headers["Tus-Max-Size"]) == 4 * 1024**3


def test_appended_as_tus_says(client: TestClient, app_settings: Settings) -> None:
    path = address(client)
    for begin_at in range(0, len(FILE), 1500):
        head = client.head(path, headers=TUS)
        assert (head.headers["Upload-Offset"], head.headers["Upload-Length"]) == (str(begin_at), str(len(FILE)))
        assert head.headers["Cache-Control"] == "no-store"
        response = append(client, path, begin_at, FILE[begin_at : begin_at + 1500])
        assert response.status_code == 204, response.text
    assert response.headers["Upload-Offset"] == str(len(FILE))
    response = publish(client, path, description="by pieces", tag=["a"])
    assert response.status_code == 201, response.text
    assert (response.json()["digest"], response.json()["tags"]) == (DIGEST, ["a"])
    assert client.get("/v1/versions/cat:1/file").content == FILE
    assert client.head(path).status_code == 404
    assert len(in_store(app_settings.home)) == 1


def test_parts_in_any_order_and_twice(client: TestClient) -> None:
    path = address(client)
    missing = client.get(path).json()["missing"]
    assert missing == list(range(-(-len(FILE) // PART)))
    for number in reversed(missing[1:]):
        client.put(f"{path}/parts/{number}", content=FILE[number * PART : (number + 1) * PART])
    assert (client.get(path).json()["missing"], client.get(path).json()["offset"]) == ([0], 0)
    assert code_of(publish(client, path)) == "upload_incomplete"
    send_parts(client, path)
    client.put(f"{path}/parts/1", content=FILE[PART : 2 * PART])
    assert client.get(path).json()["offset"] == len(FILE)
    assert publish(client, path).status_code == 201


def test_the_same_file_goes_on_where_it_was(client: TestClient) -> None:
    path = address(client)
    append(client, path, 0, FILE[:1700])
    again = begin(client)
    assert (again.status_code, again.headers["location"], again.json()["offset"]) == (200, path, 1700)


def test_teachers_and_samples(client: TestClient, app_settings: Settings) -> None:
    teacher, samples = files.file_bytes(files.teacher()), files.samples()
    for data, target, to in (
        (teacher, "teacher", "/v1/teachers/dog?cut=features"),
        (samples, "samples", "/v1/samples/digits"),
    ):
        path = address(client, data, to.split("/")[3].split("?")[0], target)
        send_parts(client, path, data)
        upload = path.rpartition("/")[2]
        response = client.put(f"{to}{'&' if '?' in to else '?'}upload={upload}")
        assert response.status_code == 201, response.text
        assert client.get(path).status_code == 404
    assert client.get("/v1/versions/dog-teacher/file").content == teacher
    assert client.get("/v1/versions/digits/file").content == samples


@pytest.mark.parametrize(
    ("offset", "data", "headers", "status", "code"),
    [
        (5, FILE[5:], {}, 409, "upload_offset"),
        (0, FILE + b"x", {}, 413, "file_too_large"),
        (0, FILE, {"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        (0, FILE, {"Tus-Resumable": "0.2.2"}, 412, "tus_version"),
    ],
)
def test_appends_that_are_refused(
    client: TestClient, offset: int, data: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    path = address(client)
    response = append(client, path, offset, data, **headers)
    assert (response.status_code, code_of(response)) == (status, code)
    if code == "upload_offset":
        assert response.json()["offset"] == 0


@pytest.mark.parametrize(("number", "size"), [(0, PART - 1), (0, PART + 1), (10**6, 1)])
def test_parts_of_another_size(client: TestClient, number: int, size: int) -> None:
    path = address(client)
    response = client.put(f"{path}/parts/{number}", content=bytes(size))
    assert (response.status_code, code_of(response)) == (422, "request_invalid")
    assert client.get(path).json()["missing"][0] == 0


def test_a_part_that_was_changed_on_its_way(client: TestClient) -> None:
    path = address(client)
    response = client.put(f"{path}/parts/0", content=bytes(PART), headers={"Repr-Digest": repr_digest(b"x")})
    assert code_of(response) == "digest_mismatch"
    assert client.get(path).json()["missing"][0] == 0


def test_other_bytes_than_announced(client: TestClient, app_settings: Settings) -> None:
    path = address(client, digest="ab" * 32)
    send_parts(client, path)
    assert code_of(publish(client, path)) == "digest_mismatch"
    assert client.get(path).status_code == 404
    assert nothing_left(client, app_settings)


def test_what_the_verifier_refuses_leaves_nothing(client: TestClient, app_settings: Settings) -> None:
    data = bytes(3000)
    path = address(client, data)
    send_parts(client, path, data)
    assert publish(client, path).status_code == 422
    assert nothing_left(client, app_settings)


def test_a_check_that_cannot_be_made_now_keeps_the_pieces(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graftery.errors import Unavailable

    path = address(client)
    send_parts(client, path)

    def no_child(*_args: Any) -> None:
        raise Unavailable("no child could be started")

    with monkeypatch.context() as patch:
        patch.setattr(app.state.service.verifier, "verify", no_child)
        assert publish(client, path).status_code == 503
    assert publish(client, path).status_code == 201


def test_given_up(client: TestClient, app_settings: Settings) -> None:
    path = address(client)
    append(client, path, 0, FILE[:100])
    assert client.delete(path, headers=TUS).status_code == 204
    assert client.delete(path).status_code == 404
    assert append(client, path, 100, FILE[100:]).status_code == 404
    assert nothing_left(client, app_settings)


@pytest.mark.parametrize(
    ("more", "status", "code"),
    [
        ({"name": "-"}, 422, "request_invalid"),
        ({"digest": "x"}, 422, "request_invalid"),
        ({"size_bytes": 0}, 422, "request_invalid"),
        ({"size_bytes": True}, 422, "request_invalid"),
        ({"size_bytes": 5 * 1024**3}, 413, "file_too_large"),
        ({"name": "digits"}, 409, "kind_conflict"),
        ({"name": "digits", "target": "teacher"}, 409, "kind_conflict"),
    ],
)
def test_what_cannot_be_published_is_not_begun(
    client: TestClient, more: dict[str, Any], status: int, code: str, app_settings: Settings
) -> None:
    client.put("/v1/samples/digits", content=files.samples())
    response = begin(client, **more)
    assert (response.status_code, code_of(response)) == (status, code)
    assert len(in_store(app_settings.home)) == 1


def test_an_upload_is_for_its_name(client: TestClient) -> None:
    path = address(client)
    send_parts(client, path)
    assert publish(client, path, "/v1/modules/dog").status_code == 404
    assert publish(client, path, digest=DIGEST).status_code == 422
    response = client.put(f"/v1/modules/cat?upload={path.rpartition('/')[2]}", content=b"a body")
    assert (response.status_code, code_of(response)) == (422, "request_invalid")


def test_bytes_that_are_there_are_not_sent(client: TestClient) -> None:
    push(client, "team.cat", FILE)
    assert client.head(f"/v1/blobs/{DIGEST}?name=team.dog").status_code == 200
    assert client.get(f"/v1/blobs/{DIGEST}?name=team.dog").json() == {"digest": DIGEST, "size_bytes": len(FILE)}
    response = client.put(f"/v1/modules/team.dog?digest={DIGEST}")
    assert (response.status_code, response.json()["ref"]) == (201, "team.dog:1")
    assert client.put(f"/v1/modules/team.dog?digest={DIGEST}").status_code == 200


def test_a_teacher_that_is_there_is_not_sent(client: TestClient) -> None:
    data = files.file_bytes(files.teacher())
    assert client.put("/v1/teachers/dog?cut=features", content=data).status_code == 201
    digest = hashlib.sha256(data).hexdigest()
    for name, status in (("wolf", 201), ("dog", 200)):
        response = client.put(f"/v1/teachers/{name}?cut=features&digest={digest}")
        assert response.status_code == status, response.text
        assert response.json()["teacher"]["digest"] == digest


def test_a_full_disk_keeps_what_was_there(client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    path = address(client)
    append(client, path, 0, FILE[:1000])

    def full(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(app.state.store._pieces, "write", full)
        for response in (
            append(client, path, 1000, FILE[1000:]),
            client.put(f"{path}/parts/1", content=FILE[1000:2000]),
        ):
            assert (response.status_code, code_of(response)) == (507, "store_full")
    assert client.get(path).json()["offset"] == 1000
    append(client, path, 1000, FILE[1000:])
    assert publish(client, path).status_code == 201


def test_other_namespaces_are_not_told(client: TestClient) -> None:
    push(client, "team.cat", FILE)
    for name in ("others.cat", "cat"):
        assert client.head(f"/v1/blobs/{DIGEST}?name={name}").status_code == 404
        response = client.put(f"/v1/modules/{name}?digest={DIGEST}")
        assert (response.status_code, code_of(response)) == (404, "not_found")


def test_bytes_that_the_store_has_lost_are_asked_for(client: TestClient, app: FastAPI) -> None:
    push(client, "cat", FILE)
    app.state.store.delete(DIGEST)
    assert client.head(f"/v1/blobs/{DIGEST}?name=dog").status_code == 404
    assert client.put(f"/v1/modules/dog?digest={DIGEST}").status_code == 404
    push(client, "dog", FILE)
    assert client.head(f"/v1/blobs/{DIGEST}?name=dog").status_code == 200


class TestQuota:
    @pytest.fixture
    def client(self, app_settings: Settings, verifier: SharedVerifier) -> Iterator[TestClient]:
        allowed = len(FILE) + 100
        app = create_app(app_settings.model_copy(update={"quota_bytes": allowed, "quotas": {"big": 10 * allowed}}))
        app.state.service = replace(app.state.service, verifier=verifier)
        with TestClient(app) as client:
            yield client

    def test_a_namespace_that_is_full(self, client: TestClient, app_settings: Settings) -> None:
        other = files.file_bytes(files.parts(seed=1)[0])
        assert push(client, "team.cat", FILE)["ref"] == "team.cat:1"
        for response in (
            client.put("/v1/modules/team.dog", content=other),
            client.put("/v1/modules/team.dog", content=iter([other])),  # its size is not stated
            client.put("/v1/samples/team.digits", content=files.samples()),
            begin(client, other, "team.dog"),
        ):
            assert (response.status_code, code_of(response)) == (413, "quota_exceeded")
            assert response.json()["used_bytes"] in (
                len(FILE),
                len(FILE) + len(other),
                len(FILE) + len(files.samples()),
            )
            assert response.json()["allowed_bytes"] == len(FILE) + 100
        assert [row["name"] for row in client.get("/v1/modules").json()["items"]] == ["team.cat"]
        assert not [path for path in in_store(app_settings.home) if path.startswith(("staging", "uploads"))]
        push(client, "big.cat", other)
        push(client, "other.cat", FILE)
        headers = {"Repr-Digest": repr_digest(FILE)}  # these are no new bytes
        assert client.put("/v1/modules/team.dog", content=FILE, headers=headers).status_code == 201

    def test_a_teacher(self, client: TestClient) -> None:
        data = files.file_bytes(files.teacher())
        response = client.put("/v1/teachers/dog?cut=features", content=data)
        assert code_of(response) == "quota_exceeded"
        assert client.get("/v1/modules").json()["items"] == []

    def test_what_is_announced_counts_once(self, client: TestClient) -> None:
        path = address(client, FILE, "team.cat")
        assert code_of(begin(client, files.file_bytes(files.parts(seed=1)[0]), "team.dog")) == "quota_exceeded"
        send_parts(client, path)
        assert publish(client, path, "/v1/modules/team.cat").status_code == 201
