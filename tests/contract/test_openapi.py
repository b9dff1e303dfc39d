"""The OpenAPI document: what generators and readers need of it. That the service keeps to it: test_operations.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from app.main import create_app
from graftery.spec.graphs import MEDIA_TYPES
from graftery.spec.problems import PROBLEMS
from registry.settings import Settings
from tests.support.openapi import PLANES

Access = Literal["auto", "keys", "open"]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(Settings(home=tmp_path_factory.mktemp("document"), planes=PLANES)).openapi()


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
        if method == "post" and path.startswith("/v1/"):
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


def test_lineage_is_json_or_a_graph(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/versions/{ref}/lineage"]["get"]["responses"]["200"]["content"]
    assert content.keys() == {"application/json", *MEDIA_TYPES.values()}
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/LineageOut"}
    for media_type in MEDIA_TYPES.values():
        assert content[media_type]["schema"] == {"type": "string"} and content[media_type]["example"]


def test_a_yank_or_its_impact(document: dict[str, Any]) -> None:
    answer = document["paths"]["/v1/versions/{ref}/yank"]["post"]["responses"]["200"]
    models = [each["$ref"].rpartition("/")[2] for each in answer["content"]["application/json"]["schema"]["anyOf"]]
    assert models == ["VersionOut", "ImpactOut"]
    assert "get_version_impact" in answer["links"]


def test_what_an_answer_names_is_linked_to(document: dict[str, Any]) -> None:
    links = {operation["operationId"]: operation["responses"] for _, _, operation in _operations(document)}
    job = links["collect"]["202"]["links"]
    assert job.keys() == {"get_job", "get_job_events", "cancel_job", "retry_job"}
    assert job["get_job"] == {"operationId": "get_job", "parameters": {"id": "$response.body#/id"}}
    upload = links["create_upload"]["201"]["links"]
    assert upload["append_upload"]["parameters"] == {
        "id": "$response.body#/id",
        "upload-offset": "$response.body#/offset",
    }
    assert upload["upload_module"]["parameters"] == {"name": "$response.body#/name", "upload": "$response.body#/id"}
    assert links["list_jobs"]["200"]["links"]["cancel_job_of_items"]["parameters"] == {
        "id": "$response.body#/items/0/id"
    }
    assert links["upload_teacher"]["201"]["links"]["get_version_of_category"]["parameters"] == {
        "ref": "$response.body#/category/ref"
    }
    assert "infer" in links["create_network"]["201"]["links"]
    assert "infer" not in links["upload_module"]["201"]["links"]
    assert "links" not in links["delete_module"]["204"]


def test_a_link_gives_all_of_a_path(document: dict[str, Any]) -> None:
    targets = {operation["operationId"]: (path, operation) for _, path, operation in _operations(document)}
    for method, path, operation in _operations(document):
        for answer in operation["responses"].values():
            for link in answer.get("links", {}).values():
                to, target = targets[link["operationId"]]
                takes = {parameter["name"] for parameter in target["parameters"]}
                assert set(re.findall(r"\{(\w+)\}", to)) <= link["parameters"].keys() <= takes, (method, path, to)


@pytest.mark.parametrize(("access", "also_without"), [("keys", False), ("auto", True), ("open", True)])
def test_every_operation_says_which_keys_may(tmp_path: Path, access: Access, also_without: bool) -> None:
    made = create_app(Settings(home=tmp_path, access=access, planes=PLANES)).openapi()
    said = {(method, path): operation["security"] for method, path, operation in _operations(made)}
    without: list[dict[str, list[str]]] = [{}] if also_without else []
    assert said["get", "/v1/modules"] == [{"key": ["read"]}, *without]
    assert said["get", "/v2/models"] == [{"key": ["infer"]}, {"key": ["read"]}, *without]
    assert said["put", "/v1/keys/{name}"] == [{"key": ["admin"]}, *without]
    assert said["get", "/health/live"] == said["get", "/v2/health/ready"] == []
