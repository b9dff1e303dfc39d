"""A network's clones over HTTP: put in, taken out in any order, refused where they do not belong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from app.requests import attaching
from graftery.cloning import clone
from graftery.cloning.networks import whole
from graftery.spec.certificate import CertificateOut
from graftery.spec.manifest import Parent
from graftery.spec.recipes import CloneRecipe
from registry.settings import Settings
from tests.app.routes.test_clones import compose
from tests.support import clones, files, tones
from tests.support.access import bearer, make_key
from tests.support.http import code_of, push, push_samples


@pytest.fixture
def world(client: TestClient) -> None:
    """Cats and dogs, and two clones for them."""
    compose(client, "animals", clones.animals())
    push(client, "owl", files.file_bytes(clones.made()))
    push(client, "jay", files.file_bytes(clones.made(("jay",), "task.block")))


def change(client: TestClient, verb: str, network: str, *refs: str, status: int = 201, **more: Any) -> dict[str, Any]:
    response = client.post(f"/v1/networks/{network}/{verb}", json={"clones": [*refs], **more})
    assert response.status_code == status, response.text
    found: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/v1/versions/{found['ref']}"
    return found


def test_in_and_out_again(client: TestClient, world: None) -> None:
    target = client.get("/v1/versions/animals").json()
    digests = {name: client.get(f"/v1/versions/{name}").json()["digest"] for name in ("owl", "jay")}
    both = change(client, "attach", "animals", "owl", "jay")
    assert (both["ref"], both["aliases"]) == ("animals:2", [])
    assert both["parts"] == {**target["parts"], "clones": [digests["owl"], digests["jay"]]}
    one = change(client, "attach", "animals:1", "jay", name="other", alias="stable")
    assert (one["ref"], one["aliases"]) == ("other:1", ["default", "stable"])
    two = change(client, "attach", "other", "owl")
    assert two["parts"]["clones"] == [digests["jay"], digests["owl"]]
    assert change(client, "attach", "other:1", "owl", status=200) == two
    without = change(client, "detach", "animals:2", "owl")
    assert (without["ref"], without["digest"]) == ("animals:3", one["digest"])
    bare = change(client, "detach", without["ref"], f"jay@sha256:{digests['jay']}", status=200, alias="default")
    assert (bare["ref"], bare["digest"], bare["parts"]) == ("animals:1", target["digest"], target["parts"])
    assert change(client, "detach", "other:2", "owl", "jay", name="animals", status=200)["ref"] == "animals:1"
    edges = client.get("/v1/versions/animals:2/lineage").json()["edges"]
    assert {edge["parent"] for edge in edges if edge["role"] == "clone"} == {"owl:1", "jay:1"}
    response = client.delete("/v1/versions/jay:1")
    assert (response.status_code, code_of(response)) == (409, "has_dependents")
    certificate = CertificateOut.model_validate(client.get("/v1/versions/animals:2/certificate").json())
    assert certificate.clones == [f"{name}@sha256:{digests[name]}" for name in ("owl", "jay")]
    assert set(certificate.parts) == {"category", "task"}


def test_a_clone_that_was_yanked_is_taken_out_by_its_name(client: TestClient, world: None) -> None:
    change(client, "attach", "animals", "owl")
    assert client.post("/v1/versions/owl:1/yank", json={"reason": "it knows too much"}).status_code == 200
    refused = client.post("/v1/networks/animals:1/attach", json={"clones": ["owl"]})
    assert (refused.status_code, code_of(refused)) == (404, "yanked")
    assert change(client, "detach", "animals:2", "owl", status=200)["ref"] == "animals:1"
    assert change(client, "detach", "animals:2", "owl:1", status=200)["ref"] == "animals:1"


def test_a_clone_is_taken_out_by_its_name_though_that_has_newer_versions(client: TestClient, world: None) -> None:
    change(client, "attach", "animals", "owl")
    push(client, "owl", files.file_bytes(clones.made(seed=3)))
    lacking = client.post("/v1/networks/animals:2/detach", json={"clones": ["owl:2"]})
    assert (lacking.status_code, code_of(lacking)) == (409, "kind_mismatch")
    assert change(client, "detach", "animals:2", "owl", status=200)["ref"] == "animals:1"


def test_a_clone_is_taken_out_of_a_network_that_was_yanked(client: TestClient, world: None) -> None:
    change(client, "attach", "animals", "owl")
    assert client.post("/v1/versions/animals:2/yank", json={"reason": "the owl"}).status_code == 200
    assert change(client, "detach", "animals:2", "owl", status=200)["ref"] == "animals:1"


def test_a_clone_that_was_made_in_python_for_the_modules_is_attached(client: TestClient, world: None) -> None:
    category, task = clones.animals()
    recipe = CloneRecipe.model_validate(clones.QUICK)
    for target, status in ((whole({"category": category, "task": task}), 201), (clones.teacher(clones.ANIMALS), 409)):
        made = clone(clones.teacher(clones.BIRDS, 6, 1), target, clones.images(3), ["wren"], recipe=recipe)
        push(client, f"wren-{status}", files.file_bytes(made.clone))
        response = client.post("/v1/networks/animals:1/attach", json={"clones": [f"wren-{status}"]})
        assert response.status_code == status, response.text
    assert code_of(response) == "target_changed"
    assert "whole" in response.json()["hint"]


def test_there_are_as_many_clones_as_a_file_can_name(
    client: TestClient, world: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attaching, "MOST", 1)
    change(client, "attach", "animals", "owl")
    compose(client, "birds", clones.birds())
    push_samples(client, "few", clones.samples(4))
    asked = {"source": "birds", "target": "animals:2", "want": ["wren"], "samples": "few", "name": "wren"}
    requests: list[tuple[str, dict[str, Any], int]] = [
        ("/v1/networks/animals:2/attach", {"clones": ["jay"]}, 409),
        ("/v1/clones", {**asked, "network": "more"}, 409),
        ("/v1/clones", asked, 202),
    ]
    for path, body, status in requests:
        response = client.post(path, json=body)
        assert response.status_code == status, response.text
        assert status == 202 or "take some out first" in response.json()["hint"]


def test_what_a_network_says_of_groups_outlives_its_clones(client: TestClient, world: None) -> None:
    for part, of, name in zip(clones.animals(), clones.groups(), ("f", "is"), strict=True):
        push(client, f"kin-{name}", files.file_bytes(of))
        parents = (*part.manifest.parents, Parent(role="group", digest=of.digest))
        push(client, f"odd-{name}", files.file_bytes(tones.stating(part, parents=parents)))
    asked = {"name": "odd", "category": "odd-f", "task": "odd-is", "force": True}
    forced = client.post("/v1/networks", json=asked)
    assert forced.json()["metrics"] == {"across_groups": True}, forced.text
    more = change(client, "attach", "odd", "owl", name="more")
    bare = change(client, "detach", more["ref"], "owl", name="bare")
    assert bare["digest"] == forced.json()["digest"]
    assert more["metrics"] == bare["metrics"] == {"across_groups": True}


def test_what_does_not_belong_there(client: TestClient, world: None) -> None:
    compose(client, "beasts", clones.parts(("cow", "pig"), seed=7))
    compose(client, "birds", clones.birds())
    push(client, "other-owl", files.file_bytes(clones.made(seed=3)))
    change(client, "attach", "animals", "owl")
    refused: list[tuple[str, str, dict[str, Any], int, str]] = [
        ("attach", "beasts", {"clones": ["owl"]}, 409, "target_changed"),
        ("attach", "birds", {"clones": ["owl"]}, 409, "class_known"),
        ("attach", "animals:2", {"clones": ["owl"]}, 409, "class_known"),
        ("attach", "animals:2", {"clones": ["other-owl"]}, 409, "class_known"),
        ("attach", "animals", {"clones": ["owl", "other-owl"]}, 409, "class_known"),
        ("attach", "animals", {"clones": ["animals-is"]}, 409, "kind_mismatch"),
        ("attach", "animals-is", {"clones": ["owl"]}, 409, "kind_mismatch"),
        ("attach", "animals", {"clones": ["owl"], "name": "birds-f"}, 409, "kind_conflict"),
        ("attach", "animals", {"clones": ["lwo"]}, 404, "not_found"),
        ("attach", "nimals", {"clones": ["owl"]}, 404, "not_found"),
        ("attach", "animals", {"clones": []}, 422, "request_invalid"),
        ("attach", "animals", {"clones": ["owl", "owl"]}, 422, "request_invalid"),
        ("detach", "animals:2", {"clones": ["jay"]}, 409, "kind_mismatch"),
        ("detach", "animals:1", {"clones": ["owl"]}, 409, "kind_mismatch"),
        ("detach", "animals:2", {"clones": ["animals-f"]}, 409, "kind_mismatch"),
        ("detach", "animals:2", {"clones": ["none"]}, 404, "not_found"),
        ("detach", "owl", {"clones": ["owl"]}, 409, "kind_mismatch"),
    ]
    for verb, network, asked, status, code in refused:
        response = client.post(f"/v1/networks/{network}/{verb}", json=asked)
        assert (response.status_code, code_of(response)) == (status, code), (verb, network, asked, response.text)
    assert [each["ref"] for each in client.get("/v1/modules/animals/versions").json()["items"]] == [
        "animals:2",
        "animals:1",
    ]


def test_a_retry_gets_the_first_answer_though_the_name_has_moved(client: TestClient, world: None) -> None:
    asked, headers = {"clones": ["owl"], "alias": "default"}, {"Idempotency-Key": "once"}
    first = client.post("/v1/networks/animals/attach", json=asked, headers=headers)
    again = client.post("/v1/networks/animals/attach", json=asked, headers=headers)
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json()), again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert code_of(client.post("/v1/networks/animals/attach", json=asked)) == "class_known"


def test_a_key_of_a_namespace_gives_names_in_it_alone(
    app_settings: Settings, app: FastAPI, client: TestClient, world: None
) -> None:
    push_samples(client, "few", clones.samples(3))
    compose(client, "birds", clones.birds())
    change(client, "attach", "animals", "jay", name="more")
    made = create_app(app_settings.model_copy(update={"access": "keys"}))
    made.state.service = replace(made.state.service, verifier=app.state.service.verifier)
    asked = {"name": "vision.owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few"}
    refused: list[tuple[str, Any]] = [
        ("/v1/clones", {**asked, "name": "owl"}),
        ("/v1/clones", {**asked, "network": "net"}),
        ("/v1/networks/animals/attach", {"clones": ["owl"]}),
        ("/v1/networks/animals/attach", {"clones": ["owl"], "name": "net"}),
        ("/v1/networks/more/detach", {"clones": ["jay"]}),
    ]
    with TestClient(made):
        keys = made.state.database
        inside = TestClient(made, headers=bearer(make_key(keys, "v", "push", "transplant", namespaces=["vision"])))
        admin = TestClient(made, headers=bearer(make_key(keys, "root", "admin")))
        for path, body in refused:
            assert code_of(inside.post(path, json=body)) == "forbidden", (path, body)
        assert inside.post("/v1/clones", json=asked).status_code == 202
        change(inside, "attach", "animals", "owl", name="vision.animals")
        job = admin.post("/v1/clones", json={**asked, "network": "net"}).json()["id"]
        assert code_of(inside.post(f"/v1/jobs/{job}/cancel")) == "forbidden"
        admin.post(f"/v1/jobs/{job}/cancel")
        assert code_of(inside.post(f"/v1/jobs/{job}/retry")) == "forbidden"
