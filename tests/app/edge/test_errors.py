from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.edge.errors import examples_of
from graftery.errors import Conflict, Unavailable
from graftery.spec.problems import PROBLEMS
from tests.support.http import code_of


@pytest.fixture
def broken(app: FastAPI) -> Iterator[TestClient]:
    """The app with routes that fail."""

    @app.get("/v1/broken/unknown")
    def unknown() -> None:
        raise RuntimeError("the password is hunter2")

    @app.get("/v1/broken/full")
    def full() -> None:
        raise Unavailable("not now")

    @app.get("/v1/broken/known")
    def known() -> None:
        raise Conflict("no", code="has_dependents", hint="do this", dependents=["a:1"])

    @app.get("/v1/broken/code")
    def odd_code() -> None:
        raise Conflict("no", code="code_of_tomorrow")

    with TestClient(app) as client:
        yield client


def test_an_unknown_exception_tells_nothing(broken: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        response = broken.get("/v1/broken/unknown")
    assert response.status_code == 500
    assert code_of(response) == "internal"
    assert "hunter2" not in response.text and "Traceback" not in response.text


def test_details_cross_as_they_are(broken: TestClient) -> None:
    response = broken.get("/v1/broken/known")
    assert response.status_code == 409
    assert code_of(response) == "has_dependents"
    assert response.json()["dependents"] == ["a:1"]
    assert response.json()["hint"] == "do this"
    assert response.json()["title"] == PROBLEMS["has_dependents"].title


def test_unavailable_says_when_to_come_back(broken: TestClient) -> None:
    response = broken.get("/v1/broken/full")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0


def test_a_code_that_is_not_in_the_table_is_internal(broken: TestClient) -> None:
    assert code_of(broken.get("/v1/broken/code")) == "internal"


def test_no_such_path(client: TestClient) -> None:
    response = client.get("/v1/nothing")
    assert response.status_code == 404
    assert code_of(response) == "not_found"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/modules/cat", {"GET", "PATCH", "DELETE", "PUT"}),
        ("/v1/versions/cat:1/file", {"GET", "HEAD"}),
        ("/v1/modules/cat/aliases/a", {"PUT", "DELETE"}),
    ],
)
def test_a_method_that_is_not_there_names_those_that_are(client: TestClient, path: str, allowed: set[str]) -> None:
    response = client.request("TRACE", path)
    assert response.status_code == 405
    assert code_of(response) == "method_not_allowed"
    assert set(response.headers["allow"].split(", ")) == allowed


def test_a_malformed_payload_names_the_place(client: TestClient) -> None:
    response = client.post("/v1/networks", json={"name": "n", "category": "c", "task": "t", "colour": "red"})
    assert response.status_code == 422
    assert code_of(response) == "request_invalid"
    assert response.json()["detail"].startswith("body.colour")
    assert response.json()["errors"][0]["at"] == "body.colour"


@pytest.mark.parametrize(
    ("recipe", "said", "near"),
    [
        ('{"batch": 0}', "body.recipe.batch: 0 is not allowed: it has to be a whole number from 2 to 65536", None),
        (
            '{"learning_rate": NaN}',
            "body.recipe.learning_rate: nan is not allowed: it has to be a number above 0",
            None,
        ),
        ('{"lerning_rate": 1}', "body.recipe.lerning_rate: there is no such field", ["learning_rate"]),
        ('{"adapter": {"layer": 1}}', "body.recipe.adapter.layer: there is no such field", ["layers"]),
    ],
)
def test_a_recipe_that_cannot_be_is_told_field_range_and_names_like_it(
    client: TestClient, recipe: str, said: str, near: list[str] | None
) -> None:
    body = f'{{"name": "n", "category": "c", "task": "t", "recipe": {recipe}}}'
    response = client.post("/v1/transplants", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert code_of(response) == "recipe_invalid"
    assert response.json()["detail"].startswith(said)
    assert response.json().get("near") == near


def test_a_request_is_told_the_names_like_an_unknown_one(client: TestClient) -> None:
    response = client.post("/v1/transplants", json={"name": "n", "category": "c", "task": "t", "evaluate": "s"})
    assert (response.status_code, code_of(response)) == (422, "request_invalid")
    assert response.json()["near"] == ["evaluate_on"]
    assert response.json()["errors"][0]["at"] == "body.evaluate"


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"\xff\xfe", b'{"name": "\\ud800"}', b"null", b'"text"', b"NaN"]
)
def test_bodies_that_are_no_json(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/networks", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
    assert code_of(response) == "request_invalid"


def test_a_json_body_over_the_limit(client: TestClient) -> None:
    response = client.post("/v1/networks", json={"name": "x" * 2**20})
    assert response.status_code == 413
    assert code_of(response) == "request_too_large"


def test_examples_are_one_a_code() -> None:
    responses = examples_of(("not_found", "yanked", "internal"))
    assert set(responses) == {404, 500}
    examples = responses[404]["content"]["application/problem+json"]["examples"]
    assert set(examples) == {"not_found", "yanked"}
    assert examples["yanked"]["value"]["status"] == 404
