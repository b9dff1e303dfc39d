"""Requests for clones: what can be refused is refused before a job exists."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from safetensors.torch import save

from graftery.module import ModuleFile, cut
from graftery.spec.manifest import Preprocessing
from graftery.spec.recipes import CloneRecipe
from tests.support import clones, files
from tests.support.http import code_of, push, push_samples, push_teacher

ASKED: dict[str, Any] = {"name": "owl", "source": "birds", "target": "animals", "want": ["owl"], "samples": "few"}


def compose(client: TestClient, name: str, modules: tuple[ModuleFile, ModuleFile]) -> None:
    """Upload two modules and compose the network of them."""
    push(client, f"{name}-f", files.file_bytes(modules[0]))
    push(client, f"{name}-is", files.file_bytes(modules[1]))
    response = client.post("/v1/networks", json={"name": name, "category": f"{name}-f", "task": f"{name}-is"})
    assert response.status_code == 201, response.text


@pytest.fixture
def world(client: TestClient) -> None:
    """Cats and dogs, birds, and six images of each class that a clone of one bird needs."""
    compose(client, "animals", clones.animals())
    compose(client, "birds", clones.birds())
    push_samples(client, "few", clones.samples(3))


def _jobs(client: TestClient) -> list[Any]:
    items: list[Any] = client.get("/v1/jobs").json()["items"]
    return items


@pytest.mark.usefixtures("world")
def test_a_clone_is_pinned_and_queued(client: TestClient) -> None:
    asked = {**ASKED, "evaluate_on": "few", "source_evaluate_on": "few", "network": "more", "alias": "stable"}
    asked["recipe"] = {"keep": 0.2, "positions": ["category.features.3", "task.block"]}
    headers = {"Idempotency-Key": "once"}
    response = client.post("/v1/clones", json=asked, headers=headers)
    assert response.status_code == 202, response.text
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert client.get(response.headers["location"]).json() == job
    assert (job["kind"], job["state"]) == ("clone", "queued")
    digests = {ref: client.get(f"/v1/versions/{ref}").json()["digest"] for ref in ("birds", "animals", "few")}
    named = {
        "source": "birds",
        "target": "animals",
        **dict.fromkeys(("samples", "evaluate_on", "source_evaluate_on"), "few"),
    }
    assert job["pinned"] == {role: f"{ref}@sha256:{digests[ref]}" for role, ref in named.items()}
    recipe = CloneRecipe.model_validate(job["recipe"])
    assert (recipe.keep, recipe.steps) == (0.2, CloneRecipe().steps)
    again = client.post("/v1/clones", json=asked, headers=headers)
    assert again.json()["id"] == job["id"] and len(_jobs(client)) == 1
    response = client.delete("/v1/modules/birds")
    assert (response.status_code, code_of(response)) == (409, "has_dependents")


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"source": "brids"}, 404, "not_found"),
    ({"target": "animals:9"}, 404, "not_found"),
    ({"samples": "none"}, 404, "not_found"),
    ({"source": "birds-is"}, 409, "kind_mismatch"),
    ({"target": "few"}, 409, "kind_mismatch"),
    ({"samples": "birds"}, 409, "kind_mismatch"),
    ({"name": "birds"}, 409, "kind_conflict"),
    ({"network": "birds-f"}, 409, "kind_conflict"),
    ({"name": "both", "network": "both"}, 409, "kind_conflict"),
    ({"alias": "stable"}, 422, "request_invalid"),
    ({"network": "more", "alias": "latest"}, 422, "name_invalid"),
    ({"want": []}, 422, "request_invalid"),
    ({"want": ["owl", "owl"]}, 422, "request_invalid"),
    ({"want": ["sphinx"]}, 422, "class_unknown"),
    ({"source": "animals", "want": ["cat"]}, 409, "class_known"),
    ({"source": "unnamed", "target": "unnamed-too", "want": ["class 1"]}, 409, "class_known"),
    ({"recipe": {"keep": 0}}, 422, "recipe_invalid"),
    ({"recipe": {"positions": ["features.3"]}}, 422, "position_invalid"),
    ({"samples": "unlabelled"}, 422, "samples_invalid"),
    ({"samples": "five-classes"}, 422, "samples_invalid"),
    ({"samples": "few-of-each"}, 422, "samples_missing"),
    ({"samples": "no-owl"}, 422, "samples_missing"),
    ({"samples": "large"}, 409, "shape_mismatch"),
    ({"source": "flat-birds", "samples": "wide"}, 409, "shape_mismatch"),
    ({"evaluate_on": "unlabelled"}, 422, "samples_invalid"),
    ({"evaluate_on": "one-class"}, 422, "samples_invalid"),
    ({"source_evaluate_on": "five-classes"}, 422, "samples_invalid"),
    ({"target": "dog-is-teacher"}, 409, "semantics_mismatch"),
    ({"source": "other-birds"}, 409, "preprocessing_mismatch"),
    ({"source": "colour-birds"}, 409, "shape_mismatch"),
]


@pytest.fixture
def oddities(client: TestClient, world: None) -> None:
    push_teacher(client, "dog")  # one logit
    x = torch.randn(30, 1, files.SIDE, files.SIDE)
    y = torch.arange(30)
    push_samples(client, "unlabelled", save({"x": x}))
    push_samples(client, "five-classes", save({"x": x, "y": y % 5}))
    push_samples(client, "few-of-each", save({"x": x[:12], "y": y[:12] % 3}))
    push_samples(client, "no-owl", save({"x": x, "y": y % 2}))
    push_samples(client, "one-class", save({"x": x, "y": y * 0}))
    push_samples(client, "large", save({"x": torch.randn(30, 3, 8, 8), "y": y % 3}))
    push_samples(client, "wide", save({"x": torch.randn(30, 1, 16, 16), "y": y % 3}))
    flat, tasks = cut(clones.teacher(clones.BIRDS, flat=True), files.CUT)
    compose(client, "flat-birds", (flat, tasks["is"]))
    compose(client, "unnamed", clones.parts(3))
    compose(client, "unnamed-too", clones.parts(2))
    compose(client, "colour-birds", clones.parts(clones.BIRDS, channels=3))
    for name, (category, task), mean in (
        ("other-birds", clones.birds(), 0.5),
        ("other-animals", clones.animals(), 0.1),
    ):
        stated = files.with_preprocessing(category, Preprocessing(mean=(mean,), std=(1.0,)))
        compose(client, name, (stated, task))


def test_refusals(client: TestClient, oddities: None) -> None:
    for change, status, code in REFUSED:
        asked = {**ASKED, **change}
        if change.get("source") == "other-birds":
            asked["target"] = "other-animals"
        response = client.post("/v1/clones", json=asked)
        assert (response.status_code, code_of(response)) == (status, code), (change, response.text)
    assert _jobs(client) == []


def test_noise_in_place_of_the_targets_images(client: TestClient, world: None) -> None:
    x = torch.randn(6, 1, files.SIDE, files.SIDE)
    push_samples(client, "owls", save({"x": x, "y": torch.full((6,), 2)}))
    asked = {**ASKED, "samples": "owls"}
    assert code_of(client.post("/v1/clones", json=asked)) == "samples_missing"
    response = client.post("/v1/clones", json={**asked, "recipe": {"originals": "noise"}})
    assert response.status_code == 202, response.text


def test_a_clone_of_a_target_that_has_one(client: TestClient, world: None) -> None:
    """Its classes are old ones, too."""
    push(client, "jay", files.file_bytes(clones.made(("jay",))))
    response = client.post("/v1/networks/animals/attach", json={"clones": ["jay"], "name": "both"})
    assert response.status_code == 201, response.text
    asked = {**ASKED, "target": "both"}
    assert code_of(client.post("/v1/clones", json=asked)) == "samples_missing", "none of the fourth class"
    push_samples(client, "four", clones.samples(4))
    assert client.post("/v1/clones", json={**asked, "samples": "four"}).status_code == 202
    assert code_of(client.post("/v1/clones", json={**asked, "samples": "four", "want": ["jay"]})) == "class_known"


def test_a_clone_that_is_pushed_by_hand_is_looked_at(client: TestClient) -> None:
    file = clones.made()
    found = push(client, "owl", files.file_bytes(file))
    assert (found["kind"], found["manifest"]["clone"]["classes"]) == ("clone", ["owl"])
    broken = {
        "shapes_invalid": replace(file, extras={**file.extras, "clone.old": torch.zeros(2, 8)}),
        "weights_invalid": replace(file, extras={**file.extras, "clone.old": torch.full((1, 8), float("inf"))}),
        "manifest_invalid": replace(file, manifest=file.manifest.model_copy(update={"clone": None})),
    }
    for code, bad in broken.items():
        response = client.put("/v1/modules/bad", content=files.file_bytes(bad))
        assert (response.status_code, code_of(response)) == (422, code), response.text
    response = client.put("/v1/modules/owl", content=files.file_bytes(clones.animals()[0]))
    assert (response.status_code, code_of(response)) == (409, "kind_conflict")
