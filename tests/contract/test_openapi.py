"""The OpenAPI document: what generators and readers need of it, and that the service keeps to it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from app.main import ROUTERS, create_app
from app.prechecks import Prechecks
from app.routes import health
from graftery.spec.limits import Limits
from graftery.spec.problems import PROBLEMS
from graftery.spec.uploading import OFFSET_TYPE
from registry.settings import Settings
from tests.support import files
from tests.support.http import push_parts, push_samples, push_teacher
from tests.support.verifiers import SharedVerifier

EXAMPLES = 12
UPLOADS = 5


@pytest.fixture(scope="module")
def app(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """The registry's app with something behind the names that the examples use."""
    home = tmp_path_factory.mktemp("openapi")
    shutil.copy(_sqlite_template, home / "graftery.db")
    made = create_app(Settings(home=home, planes=frozenset({"registry"}), free_bytes=0))
    verifier = SharedVerifier(Limits())  # schemathesis starts and ends the app around each request
    made.state.service = replace(made.state.service, verifier=verifier, prechecks=Prechecks(made.state.store, None))
    with TestClient(made) as client:
        push_parts(client)
        push_teacher(client, "dog")
        push_samples(client, "digits", files.samples())
        client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
        ended = client.post("/v1/collect").json()["id"]
        client.post(f"/v1/jobs/{ended}/cancel")
        upload = client.post("/v1/uploads", json={"name": "new", "size_bytes": 10, "digest": "0f" * 32}).json()["id"]
        made.state.known = {"name": "cat", "ref": "dog:1", "alias": "stable", "id": ended, "upload": upload}
        yield made
    verifier.end()


@pytest.fixture(scope="module")
def document(app: FastAPI) -> dict[str, Any]:
    return app.openapi()


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def test_operation_ids_are_clean_and_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for _, _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", each) for each in ids), ids


def test_every_operation_is_described_and_tagged_with_a_tag_that_is_explained(document: dict[str, Any]) -> None:
    explained = {tag["name"] for tag in document["tags"]}
    for method, path, operation in _operations(document):
        assert operation.get("description"), (method, path)
        assert set(operation["tags"]) <= explained and operation["tags"], (method, path)


def test_every_refusal_is_a_problem_document_with_an_example_of_its_code(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        if not path.startswith("/v1/"):
            continue
        refusals = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert {"422", "500"} <= refusals.keys(), (method, path)
        for status, answer in refusals.items():
            content = answer["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ProblemDocument"}
            for code, example in content["examples"].items():
                assert PROBLEMS[code].status == int(status) == example["value"]["status"]


def test_uploads_take_bytes(document: dict[str, Any]) -> None:
    for path in ("/v1/modules/{name}", "/v1/samples/{name}", "/v1/teachers/{name}"):
        content = document["paths"][path]["put"]["requestBody"]["content"]
        assert content == {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def test_every_post_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        if method == "post":
            names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "header"}
            assert "idempotency-key" in names, path


def test_requests_and_answers_have_examples(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["TransplantRequest"]["examples"]
    assert schemas["JobOut"]["properties"]["progress"]["examples"]
    for method, path, operation in _operations(document):
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "path":
                schema = parameter["schema"]
                assert parameter.get("example") or schema.get("examples") or parameter.get("examples"), (method, path)


def test_no_answer_is_undescribed(document: dict[str, Any]) -> None:
    for method, path, operation in _operations(document):
        for status, answer in operation["responses"].items():
            if status in ("200", "201", "202") and method != "head":
                content = answer["content"]
                assert any(each.get("schema") for each in content.values()), (method, path, status)


# Bytes that are valid by the schema (any bytes) are refused by the checks of docs/module-file.md; a cursor or an ETag
# that is valid by the schema (any string) is not one that we gave; an upload that is valid by the schema may be over the
# limits of the settings: what is positive there, a schema cannot say.
_UNSAID = {
    ("PUT", "/v1/modules/{name}"),
    ("PUT", "/v1/samples/{name}"),
    ("PUT", "/v1/teachers/{name}"),
    ("PUT", "/v1/uploads/{id}/parts/{number}"),
    ("PATCH", "/v1/uploads/{id}"),
    ("POST", "/v1/uploads"),
}
schemathesis.serializer.alias(OFFSET_TYPE, "application/octet-stream")

OPERATIONS = sorted(
    (
        (method, route.path)
        for room in (*ROUTERS, health)
        for route in room.router.routes
        for method in route.methods  # type: ignore[attr-defined]
    ),
    key=lambda each: (each[0] == "DELETE", each),  # last, so that the others find something
)


@pytest.fixture(scope="module")
def api(app: FastAPI) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda value: value)
def test_the_service_keeps_to_its_document(app: FastAPI, api: Any, method: str, path: str) -> None:
    """Requests that the document allows, also about what is there, and requests that it forbids."""
    operation = api[path][method]
    there = app.state.known | ({"id": app.state.known["upload"]} if path.startswith("/v1/uploads") else {})
    known = {name: value for name, value in there.items() if f"{{{name}}}" in path}
    cases = operation.as_strategy() | operation.as_strategy(path_parameters=known)
    if known or operation.body or operation.query:
        cases |= operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @given(case=cases)
    @settings(
        max_examples=UPLOADS if method == "PUT" else EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def keeps_to_it(case: Any) -> None:
        unsaid = (method, path) in _UNSAID or "cursor" in (case.query or {}) or "if-match" in (case.headers or {})
        excluded = [positive_data_acceptance] if unsaid else []
        if "tus-resumable" in (case.headers or {}):  # tus refuses with 412, which the check does not take for a refusal
            excluded.append(negative_data_rejection)
        case.call_and_validate(excluded_checks=excluded)

    keeps_to_it()
