from __future__ import annotations

import hashlib

import pytest
from fastapi.testclient import TestClient

from graftery.spec.graphs import MEDIA_TYPES, draw
from graftery.spec.lineage import LineageOut
from tests.support import files
from tests.support.http import code_of, push, push_teacher, repr_digest


@pytest.fixture
def category(client: TestClient) -> bytes:
    """cat:1 and cat:2; the bytes of cat:2."""
    push(client, "cat", files.file_bytes(files.parts()[0]))
    data = files.file_bytes(files.parts(seed=1)[0])
    push(client, "cat", data)
    return data


def test_every_form_of_a_reference(client: TestClient, category: bytes) -> None:
    client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
    digest = hashlib.sha256(category).hexdigest()
    found = {ref: client.get(f"/v1/versions/{ref}").json()["ref"] for ref in ("cat", "cat:1", "cat@stable")}
    assert found == {"cat": "cat:2", "cat:1": "cat:1", "cat@stable": "cat:1"}
    assert client.get(f"/v1/versions/cat@sha256:{digest}").json()["ref"] == "cat:2"
    assert client.get("/v1/versions/cat%40latest").json()["ref"] == "cat:2"


@pytest.mark.parametrize("ref", ["cat:0", "cat:-1", "cat@", "cat@sha256:12", "@stable", "cat:1:2", "a b", "cat@1"])
def test_bad_references(client: TestClient, ref: str) -> None:
    response = client.get(f"/v1/versions/{ref}")
    assert (response.status_code, code_of(response)) == (422, "name_invalid")
    assert "name@alias" in response.json()["hint"]


@pytest.mark.parametrize(
    ("ref", "near"),
    [("cot", "cat"), ("cat:7", "cat:2"), ("cat@stabel", "cat@stable"), ("cat@sha256:" + "0" * 64, "cat:2")],
)
def test_unknown_references_have_near_ones(client: TestClient, category: bytes, ref: str, near: str) -> None:
    client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
    response = client.get(f"/v1/versions/{ref}")
    assert (response.status_code, code_of(response)) == (404, "not_found")
    assert near in response.json()["near"]


def test_a_file_with_its_headers(client: TestClient, category: bytes) -> None:
    response = client.get("/v1/versions/cat/file")
    digest = hashlib.sha256(category).hexdigest()
    assert response.content == category
    assert response.headers["etag"] == f'"{digest}"'
    assert response.headers["content-length"] == str(len(category))
    assert response.headers["content-disposition"] == 'attachment; filename="cat-2.safetensors"'
    assert response.headers["repr-digest"] == repr_digest(category)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["cache-control"] == "no-cache"
    pinned = client.get(f"/v1/versions/cat@sha256:{digest}/file")
    assert "immutable" in pinned.headers["cache-control"]


def test_head_of_a_file(client: TestClient, category: bytes) -> None:
    head = client.head("/v1/versions/cat:2/file")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(category))
    assert hashlib.sha256(category).hexdigest() in head.headers["etag"]


def test_a_file_that_is_known_already(client: TestClient, category: bytes) -> None:
    etag = client.head("/v1/versions/cat:2/file").headers["etag"]
    response = client.get("/v1/versions/cat:2/file", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")
    assert client.get("/v1/versions/cat:1/file", headers={"If-None-Match": etag}).status_code == 200


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_a_file_in_parts_is_the_file(client: TestClient, category: bytes, size: int) -> None:
    found = b""
    while len(found) < len(category):
        last = len(found) + size - 1
        part = client.get("/v1/versions/cat:2/file", headers={"Range": f"bytes={len(found)}-{last}"})
        assert part.status_code == 206
        end = min(last, len(category) - 1)
        assert part.headers["content-range"] == f"bytes {len(found)}-{end}/{len(category)}"
        found += part.content
        if size == 1 and len(found) > 20:
            return
    assert found == category


def test_a_range_outside(client: TestClient, category: bytes) -> None:
    response = client.get("/v1/versions/cat:2/file", headers={"Range": f"bytes={len(category)}-"})
    assert (response.status_code, code_of(response)) == (416, "range_invalid")
    assert response.headers["content-range"] == f"bytes */{len(category)}"


def test_a_range_of_other_bytes_is_all_of_it(client: TestClient, category: bytes) -> None:
    headers = {"Range": "bytes=0-9", "If-Range": '"other"'}
    response = client.get("/v1/versions/cat:2/file", headers=headers)
    assert (response.status_code, response.content) == (200, category)


def test_a_yanked_version_is_hidden_but_pinned(client: TestClient, category: bytes) -> None:
    digest = hashlib.sha256(category).hexdigest()
    yanked = client.post("/v1/versions/cat:2/yank", json={"reason": "trained on test data"})
    assert (yanked.status_code, yanked.json()["yanked"]) == (200, True)
    assert client.get("/v1/versions/cat").json()["ref"] == "cat:1"
    for pinned in ("cat:2", f"cat@sha256:{digest}"):
        assert client.get(f"/v1/versions/{pinned}").json()["yank_reason"] == "trained on test data"
        assert client.get(f"/v1/versions/{pinned}/file").status_code == 200
    again = client.put("/v1/modules/cat", content=category)
    assert (again.status_code, code_of(again)) == (409, "conflict")
    client.post("/v1/versions/cat:1/yank", json={"reason": "too"})
    nothing = client.get("/v1/versions/cat")
    assert (nothing.status_code, code_of(nothing)) == (404, "yanked")
    assert client.post("/v1/versions/cat:2/unyank").json()["yanked"] is False
    assert client.get("/v1/versions/cat").json()["ref"] == "cat:2"


def test_a_yank_needs_a_reason_and_a_version(client: TestClient, category: bytes) -> None:
    assert code_of(client.post("/v1/versions/cat:2/yank", json={"reason": ""})) == "request_invalid"
    assert code_of(client.post("/v1/versions/cat/yank", json={"reason": "x"})) == "request_invalid"


def test_what_others_were_made_from_cannot_be_deleted(client: TestClient) -> None:
    push_teacher(client, "dog")
    response = client.delete("/v1/versions/dog:1")
    assert (response.status_code, code_of(response)) == (409, "has_dependents")
    assert response.json()["dependents"] == ["dog-is-teacher:1"]
    assert code_of(client.delete("/v1/modules/dog-teacher")) == "has_dependents"
    for ref in ("dog-is-teacher:1", "dog-is:1", "dog:1", "dog-teacher:1"):
        assert client.delete(f"/v1/versions/{ref}").status_code == 204
    assert client.get("/v1/versions/dog:1").status_code == 404


def test_lineage_up_and_down(client: TestClient) -> None:
    push_teacher(client, "dog")
    up = client.get("/v1/versions/dog-is-teacher:1/lineage").json()
    assert {(edge["child"], edge["parent"], edge["role"]) for edge in up["edges"]} == {
        ("dog-is-teacher:1", "dog:1", "category"),
        ("dog-is-teacher:1", "dog-is:1", "task"),
        ("dog:1", "dog-teacher:1", "teacher"),
        ("dog-is:1", "dog-teacher:1", "teacher"),
    }
    down = client.get("/v1/versions/dog-teacher:1/lineage", params={"direction": "down", "depth": 1}).json()
    assert {node["ref"] for node in down["nodes"]} == {"dog-teacher:1", "dog:1", "dog-is:1"}


def test_lineage_as_a_graph(client: TestClient) -> None:
    push_teacher(client, "dog")
    both = {"direction": "both"}
    document = client.get("/v1/versions/dog:1/lineage", params=both).json()
    assert [(node["ref"], node["aliases"], node["yanked"]) for node in document["nodes"]] == [
        ("dog-teacher:1", [], False),
        ("dog:1", [], False),
        ("dog-is-teacher:1", ["default"], False),
    ]
    for how, media_type in MEDIA_TYPES.items():
        response = client.get("/v1/versions/dog:1/lineage", params={**both, "format": how})
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{media_type}; charset=utf-8"
        assert response.text == draw(LineageOut.model_validate(document), how), "what the client draws of the JSON"
    assert client.get("/v1/versions/dog:1/lineage", params={**both, "format": "json"}).json() == document


@pytest.mark.parametrize("params", [{"format": "svg"}, {"direction": "sideways"}, {"depth": 0}, {"depth": 101}])
def test_lineage_that_cannot_be_had(client: TestClient, category: bytes, params: dict[str, str]) -> None:
    response = client.get("/v1/versions/cat:1/lineage", params=params)
    assert (response.status_code, code_of(response)) == (422, "request_invalid")


@pytest.mark.parametrize("more", ["lineage", "lineage?format=dot", "impact"])
def test_lineage_and_impact_of_what_is_not_there(client: TestClient, category: bytes, more: str) -> None:
    client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
    client.post("/v1/versions/cat:1/yank", json={"reason": "bad"})
    for ref, status, code in (
        ("cot", 404, "not_found"), ("cat:7", 404, "not_found"), ("cat@stable", 404, "yanked"), ("a b", 422, "name_invalid"),
    ):  # fmt: skip
        response = client.get(f"/v1/versions/{ref}/{more}")
        assert (response.status_code, code_of(response)) == (status, code)
    assert client.get(f"/v1/versions/cat:1/{more}").status_code == 200


def test_an_impact_and_a_dry_run_are_the_same(client: TestClient) -> None:
    push_teacher(client, "dog")
    before = client.get("/v1/versions/dog-is-teacher:1").json()
    found = client.get("/v1/versions/dog-is-teacher:1/impact").json()
    assert [(name["reference"], name["effect"], name["served"]) for name in found["names"]][:2] == [
        ("dog", "not_ready", True),
        ("dog-is-teacher", "no_longer_resolved", True),
    ]
    assert (found["dependents"], found["jobs"], found["cells"], found["left_out"]) == ([], [], [], 0)
    assert found["delete"] == {"refused": False, "refused_by": []}
    wanted = {"reason": "bad", "dry_run": True}
    dry = client.post("/v1/versions/dog-is-teacher:1/yank", json=wanted, headers={"Idempotency-Key": "k"})
    assert (dry.status_code, dry.json()) == (200, found)
    assert client.get("/v1/versions/dog-is-teacher:1").json() == before
    done = client.post("/v1/versions/dog-is-teacher:1/yank", json={"reason": "bad", "dry_run": False})
    assert done.json()["yanked"] is True
    again = client.post("/v1/versions/dog-is-teacher:1/yank", json=wanted, headers={"Idempotency-Key": "k"})
    assert (again.headers["idempotency-replayed"], again.json()) == ("true", found)
    assert client.post("/v1/versions/dog-is-teacher:1/yank", json=wanted).json()["yanked"] is True


def test_a_dry_run_is_refused_as_a_yank_is(client: TestClient, category: bytes) -> None:
    for ref, body, code in (
        ("cat", {"reason": "x", "dry_run": True}, "request_invalid"),
        ("cat:7", {"reason": "x", "dry_run": True}, "not_found"),
        ("cat:1", {"dry_run": True}, "request_invalid"),
        ("cat:1", {"reason": "x", "dry_run": "yes"}, "request_invalid"),
    ):
        assert code_of(client.post(f"/v1/versions/{ref}/yank", json=body)) == code


def test_a_refused_delete_says_where_all_of_it_is(client: TestClient) -> None:
    push_teacher(client, "dog")
    refused = client.delete("/v1/versions/dog:1").json()
    found = client.get("/v1/versions/dog:1/impact")
    assert "/v1/versions/dog:1/impact" in refused["hint"]
    assert found.json()["delete"] == {"refused": True, "refused_by": refused["dependents"]}
    assert [(each["ref"], each["why"]) for each in found.json()["dependents"]] == [
        ("dog-is-teacher:1", [{"child": "dog-is-teacher:1", "parent": "dog:1", "role": "category"}])
    ]


def test_bytes_that_the_store_lost_are_a_500_with_a_code(client: TestClient, category: bytes) -> None:
    client.app.state.service.store.delete(hashlib.sha256(category).hexdigest())  # type: ignore[attr-defined]
    response = client.get("/v1/versions/cat:2/file")
    assert (response.status_code, code_of(response)) == (500, "store_corrupt")
