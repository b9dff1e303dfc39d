from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from app.deps import Service
from registry.settings import Settings
from tests.support import files
from tests.support.http import code_of, in_store, push, push_samples, repr_digest


@pytest.fixture(scope="module")
def category() -> bytes:
    return files.file_bytes(files.parts()[0])


def test_an_upload_is_a_version(client: TestClient, category: bytes) -> None:
    response = client.put("/v1/modules/cat", content=category, params={"description": "Cats", "tag": ["a", "b"]})
    assert response.status_code == 201
    version = response.json()
    assert (version["ref"], version["kind"], version["version"]) == ("cat:1", "category", 1)
    assert version["size_bytes"] == len(category)
    assert version["facts"]["outputs"]["features"]["shape"] == ["N", 4, 4, 4]
    assert version["manifest"]["kind"] == "category"
    assert version["tags"] == ["a", "b"]
    assert response.headers["location"] == "/v1/versions/cat:1"
    module = client.get("/v1/modules/cat").json()
    assert (module["description"], module["tags"], module["versions"], module["latest"]) == ("Cats", ["a", "b"], 1, 1)


def test_the_same_bytes_are_the_same_version(client: TestClient, category: bytes) -> None:
    first = push(client, "cat", category)
    again = client.put("/v1/modules/cat", content=category)
    assert again.status_code == 200
    assert again.json()["ref"] == first["ref"]
    assert client.get("/v1/modules/cat").json()["versions"] == 1


def test_other_bytes_are_the_next_version(client: TestClient, category: bytes) -> None:
    push(client, "cat", category)
    assert push(client, "cat", files.file_bytes(files.parts(seed=1)[0]))["ref"] == "cat:2"
    refs = [each["ref"] for each in client.get("/v1/modules/cat/versions").json()["items"]]
    assert refs == ["cat:2", "cat:1"]


def test_two_uploads_of_one_name_at_once_are_both_kept(client: TestClient, category: bytes) -> None:
    bodies = [category, files.file_bytes(files.parts(seed=1)[0])]
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda body: client.put("/v1/modules/cat", content=body), bodies))
    assert [answer.status_code for answer in answers] == [201, 201]
    assert {answer.json()["version"] for answer in answers} == {1, 2}
    for answer, body in zip(answers, bodies, strict=True):
        assert client.get(f"/v1/versions/{answer.json()['ref']}/file").content == body


def test_the_same_bytes_twice_at_once_are_one_version(client: TestClient, category: bytes) -> None:
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: client.put("/v1/modules/cat", content=category), range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert {answer.json()["ref"] for answer in answers} == {"cat:1"}


def test_a_promised_digest_is_compared(client: TestClient, app_settings: Settings, category: bytes) -> None:
    wrong = client.put("/v1/modules/cat", content=category, headers={"Repr-Digest": repr_digest(b"other")})
    assert (wrong.status_code, code_of(wrong)) == (422, "digest_mismatch")
    assert in_store(app_settings.home) == []
    right = client.put("/v1/modules/cat", content=category, headers={"Repr-Digest": repr_digest(category)})
    assert right.status_code == 201


def test_a_name_of_another_kind(client: TestClient, app_settings: Settings, category: bytes) -> None:
    push_samples(client, "cat", files.samples())
    before = in_store(app_settings.home)
    response = client.put("/v1/modules/cat", content=category)
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")
    push(client, "task", files.file_bytes(files.parts()[1]))
    late = client.put("/v1/modules/task", content=category)  # only the file itself says that it is no task
    assert (late.status_code, code_of(late)) == (409, "kind_conflict")
    assert len(in_store(app_settings.home)) == len(before) + 1


def test_a_name_of_another_kind_is_refused_before_the_body_is_read(client: TestClient) -> None:
    push_samples(client, "cat", files.samples())
    read = []

    def body():  # type: ignore[no-untyped-def]
        for _ in range(4):
            read.append(1)
            yield b"x" * 65_536

    response = client.put("/v1/modules/cat", content=body())
    assert code_of(response) == "kind_conflict"
    assert len(read) <= 1


@pytest.mark.parametrize("name", ["-cat", "a b", "x" * 129, "caf\u00e9"])
def test_names_that_are_not_allowed(client: TestClient, name: str) -> None:
    response = client.put(f"/v1/modules/{name}", content=b"")
    assert (response.status_code, code_of(response)) == (422, "name_invalid")


def test_lists_filter_and_page(client: TestClient, category: bytes) -> None:
    for i in range(5):
        push(client, f"cat{i}", category)
    push(client, "is-it", files.file_bytes(files.parts()[1]))
    first = client.get("/v1/modules", params={"kind": "category", "limit": 2})
    assert [each["name"] for each in first.json()["items"]] == ["cat4", "cat3"]
    link = first.headers["link"]
    assert link.endswith('>; rel="next"')
    second = client.get(link[1:].split(">")[0])
    assert [each["name"] for each in second.json()["items"]] == ["cat2", "cat1"]
    last = client.get("/v1/modules", params={"kind": "category", "limit": 2, "cursor": second.json()["next"]})
    assert [each["name"] for each in last.json()["items"]] == ["cat0"]
    assert "link" not in last.headers
    assert [each["name"] for each in client.get("/v1/modules", params={"q": "IS-"}).json()["items"]] == ["is-it"]


def test_a_cursor_that_no_page_gave(client: TestClient) -> None:
    response = client.get("/v1/modules", params={"cursor": "nonsense"})
    assert (response.status_code, code_of(response)) == (422, "request_invalid")


def test_an_unknown_name_has_near_ones(client: TestClient, category: bytes) -> None:
    push(client, "elephant", category)
    response = client.get("/v1/modules/elefant")
    assert (response.status_code, code_of(response)) == (404, "not_found")
    assert response.json()["near"] == ["elephant"]


def test_an_etag_saves_the_answer_and_guards_the_change(client: TestClient, category: bytes) -> None:
    push(client, "cat", category)
    etag = client.get("/v1/modules/cat").headers["etag"]
    same = client.get("/v1/modules/cat", headers={"If-None-Match": etag})
    assert (same.status_code, same.content) == (304, b"")
    changed = client.patch("/v1/modules/cat", json={"description": "new"}, headers={"If-Match": etag})
    assert (changed.status_code, changed.json()["description"]) == (200, "new")
    assert changed.headers["etag"] != etag
    late = client.patch("/v1/modules/cat", json={"description": "newer"}, headers={"If-Match": etag})
    assert (late.status_code, code_of(late)) == (412, "precondition_failed")
    gone = client.delete("/v1/modules/cat", headers={"If-Match": etag})
    assert (gone.status_code, code_of(gone)) == (412, "precondition_failed")
    assert client.delete("/v1/modules/cat", headers={"If-Match": changed.headers["etag"]}).status_code == 204
    assert client.get("/v1/modules/cat").status_code == 404


def test_a_patch_replaces_the_tags(client: TestClient, category: bytes) -> None:
    client.put("/v1/modules/cat", content=category, params={"tag": "a"})
    assert client.patch("/v1/modules/cat", json={"tags": ["c", "b"]}).json()["tags"] == ["b", "c"]
    assert [each["name"] for each in client.get("/v1/modules", params={"tag": "b"}).json()["items"]] == ["cat"]


def test_no_row_without_bytes(client: TestClient, service: Service, category: bytes) -> None:
    version = push(client, "cat", category)
    assert service.store.size(version["digest"]) == len(category)


def test_the_impact_of_a_name(client: TestClient, category: bytes) -> None:
    push(client, "cat", category)
    push(client, "cat", files.file_bytes(files.parts(seed=1)[0]))
    client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
    found = client.get("/v1/modules/cat/impact")
    assert found.status_code == 200
    assert [(name["reference"], name["ref"], name["effect"]) for name in found.json()["names"]] == [
        ("cat", "cat:2", "no_longer_resolved"),
        ("cat@latest", "cat:2", "no_longer_resolved"),
        ("cat@stable", "cat:1", "no_longer_resolved"),
    ]
    assert found.json()["delete"] == {"refused": False, "refused_by": []}
    missing, wrong = client.get("/v1/modules/cot/impact"), client.get("/v1/modules/a b/impact")
    assert (missing.status_code, code_of(missing), missing.json()["near"]) == (404, "not_found", ["cat"])
    assert (wrong.status_code, code_of(wrong)) == (422, "name_invalid")
