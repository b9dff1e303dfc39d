"""Each verb against a scripted server: what is asked, and what becomes of the answer."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftery.client.http import Client
from graftery.client.tensors import LENGTH_HEADER
from graftery.errors import Conflict, GrafteryError, NotFound, RecipeRefused, ServiceError, TrainingFailed
from graftery.spec.recipes import TransplantRecipe
from tests.support.scripted import Answer, Asked, Script, as_json, problem, scripted

AT = "2026-01-02T03:04:05Z"
Make = Callable[..., dict[str, Any]]


@contextmanager
def speaking(script: Script) -> Iterator[tuple[Client, list[Asked]]]:
    with scripted(script) as server, Client(server.url) as client:
        yield client, server.asked


def test_the_client_does_not_load_torch() -> None:
    code = "import sys, graftery, graftery.client.cli; graftery.Client(); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_pages_are_followed_and_no_further_than_needed() -> None:
    def page(asked: Asked) -> Answer:
        begin = int(asked.query.get("cursor", ["0"])[0])
        count = int(asked.query["limit"][0])
        items = [
            {"name": f"m{i}", "kind": "task", "versions": 1, "created_at": AT, "updated_at": AT}
            for i in range(begin, min(begin + count, 450))
        ]
        return as_json({"items": items, "next": str(begin + count) if begin + count < 450 else None})

    with speaking({"GET /v1/modules": page}) as (client, asked):
        assert [module.name for module in client.list("task", q="m")] == [f"m{i}" for i in range(450)]
        assert len(asked) == 3
        assert asked[1].query == {"kind": ["task"], "q": ["m"], "cursor": ["200"], "limit": ["200"]}
        asked.clear()
        assert len([*client.list(limit=201)]) == 201
        assert [request.query["limit"] for request in asked] == [["200"], ["1"]]


@pytest.mark.parametrize("name", ["", "a/b", "../x", "a b", "a:1"])
def test_a_name_that_cannot_be_is_not_sent(name: str) -> None:
    with speaking({}) as (client, asked), pytest.raises(GrafteryError) as caught:
        client.module(name)
    assert caught.value.code == "name_invalid"
    assert asked == []


def test_push_sends_bytes_that_are_not_there(version: Make, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"module")
    digest = hashlib.sha256(b"module").hexdigest()
    with speaking({"PUT /v1/modules/cat": lambda _: as_json(version(), 201)}) as (client, asked):
        assert client.push("cat", tmp_path / "m", description="a cat", tags=["x"]).ref == "cat:1"
    look, blob, put = asked
    assert (blob.path, blob.query) == (f"/v1/blobs/{digest}", {"name": ["cat"]})
    assert look.path == f"/v1/versions/cat@sha256:{digest}"
    assert (put.body, put.query) == (b"module", {"description": ["a cat"], "tag": ["x"]})
    assert put.headers["Repr-Digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"


def test_push_sends_nothing_that_is_there(version: Make, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"module")
    digest = hashlib.sha256(b"module").hexdigest()
    module = {"name": "cat", "kind": "category", "versions": 1, "created_at": AT, "updated_at": AT, "tags": ["a", "c"]}
    script: Script = {
        f"GET /v1/versions/cat@sha256:{digest}": lambda _: as_json(version(digest=digest)),
        "GET /v1/modules/cat": lambda _: as_json(module, ETag='"7"'),
        "PATCH /v1/modules/cat": lambda _: as_json(module),
    }
    with speaking(script) as (client, asked):
        assert client.push("cat", tmp_path / "m").digest == digest
        assert len(asked) == 1
        client.push("cat", tmp_path / "m", tags=["a"])
        assert {request.method for request in asked} == {"GET"}
        client.push("cat", tmp_path / "m", tags=["b"], description="new")
        assert asked[-1].json() == {"description": "new", "tags": ["a", "b", "c"]}
        assert asked[-1].headers["If-Match"] == '"7"'


def test_yanked_bytes_are_for_the_service_to_refuse(version: Make, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"module")
    digest = hashlib.sha256(b"module").hexdigest()
    script: Script = {
        f"GET /v1/versions/cat@sha256:{digest}": lambda _: as_json(version(digest=digest, yanked=True)),
        "PUT /v1/modules/cat": lambda _: problem("conflict", 409, "cat:1 was yanked"),
    }
    with speaking(script) as (client, _), pytest.raises(Conflict, match="was yanked"):
        client.push("cat", tmp_path / "m")


def test_push_teacher_and_samples_have_their_own_addresses(version: Make, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"net")
    parts = {"teacher": version("n-teacher"), "category": version("n"), "tasks": {}, "networks": {}}
    script: Script = {
        "PUT /v1/teachers/n": lambda _: as_json(parts, 201),
        "PUT /v1/samples/s": lambda _: as_json(version("s", kind="samples"), 201),
    }
    with speaking(script) as (client, asked):
        assert client.push_teacher("n", tmp_path / "m", cut="features.4").category.name == "n"
        assert asked[-1].query == {"cut": ["features.4"]}
        assert client.push_samples("s", np.zeros((2, 3))).kind == "samples"


def test_pull(version: Make, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"module").hexdigest()
    script: Script = {
        "GET /v1/versions/cat@stable": lambda _: as_json(version(number=3, digest=digest, size_bytes=6)),
        f"GET /v1/versions/cat@sha256:{digest}/file": lambda _: Answer(200, b"module", {"ETag": f'"{digest}"'}),
    }
    with speaking(script) as (client, asked):
        target = client.pull("cat@stable", tmp_path)
        assert (target.name, target.read_bytes()) == ("cat-3.safetensors", b"module")
        asked.clear()
        assert client.pull("cat@stable", target) == target
        assert len(asked) == 1
        assert client.pull("cat@stable", f"{tmp_path}/new/") == tmp_path / "new" / "cat-3.safetensors"


def test_transplant_sends_what_was_said_and_no_defaults(job: Make) -> None:
    with speaking({"POST /v1/transplants": lambda _: as_json(job(), 202)}) as (client, asked):
        client.transplant("cat", "is", name="n", samples="s", recipe={"steps": 5, "objectives": {"direct": 1}})
        assert asked[-1].json() == {
            "name": "n",
            "category": "cat",
            "task": "is",
            "samples": "s",
            "force": False,
            "recipe": {"steps": 5, "objectives": {"direct": 1.0}},
        }
        client.transplant("cat", "is", name="n", recipe=TransplantRecipe(seed=7))
        assert asked[-1].json()["recipe"] == {"seed": 7}
        client.transplant("cat", "is", name="n")
        assert asked[-1].json()["recipe"] == {}


@pytest.mark.parametrize("recipe", [{"steps": -1}, {"stepz": 1}, {"adapter": {"kernel": 4}}])
def test_a_recipe_that_cannot_be_is_not_sent(recipe: dict[str, Any]) -> None:
    with speaking({}) as (client, asked), pytest.raises(RecipeRefused):
        client.transplant("cat", "is", name="n", recipe=recipe)
    assert asked == []


def events(*states: str) -> Callable[[Asked], Answer]:
    lines = [
        f"data: {json.dumps({'seq': seq, 'type': 'state', 'at': AT, 'data': {'state': state}})}\n\n"
        for seq, state in enumerate(states, 1)
    ]
    return lambda _: Answer(200, "".join(lines).encode(), {"Content-Type": "text/event-stream"})


def waited(job_out: dict[str, Any]) -> Script:
    return {
        "GET /v1/jobs/j1": lambda _: as_json(job_out),
        "GET /v1/jobs/j1/events": events("queued", "running", job_out["state"]),
    }


def test_wait_gives_the_job_that_succeeded(job: Make) -> None:
    seen: list[str] = []
    with speaking(waited(job("succeeded", result={"network": "n:1"}))) as (client, _):
        done = client.wait("j1", progress=lambda event: seen.append(event.data["state"]))
    assert done.result == {"network": "n:1"}
    assert seen == ["queued", "running", "succeeded"]


def test_wait_raises_what_the_job_failed_of(job: Make) -> None:
    error = {"code": "diverged", "message": "the loss is NaN at step 7; it was 0.3 at step 6"}
    with speaking(waited(job("failed", error=error))) as (client, _), pytest.raises(TrainingFailed) as caught:
        client.wait("j1")
    assert caught.value.code == "diverged"
    assert "it was 0.3 at step 6" in caught.value.message
    assert caught.value.details["job"] == "j1"


def test_wait_raises_for_a_cancelled_job(job: Make) -> None:
    with speaking(waited(job("cancelled"))) as (client, _), pytest.raises(Conflict, match="was cancelled") as caught:
        client.wait("j1")
    assert caught.value.code == "job_state"


def test_infer_in_binary() -> None:
    metadata = {"name": "n", "inputs": [{"name": "x0", "datatype": "FP32", "shape": [-1, 2]}], "outputs": []}

    def double(asked: Asked) -> Answer:
        end = int(asked.headers[LENGTH_HEADER])
        entry = json.loads(asked.body[:end])["inputs"][0]
        doubled = (np.frombuffer(asked.body[end:], "<f4") * 2).tobytes()
        head = json.dumps({"outputs": [entry | {"name": "is"}]}).encode()
        return Answer(200, head + doubled, {LENGTH_HEADER: str(len(head))})

    script: Script = {
        "GET /v2/models/n@stable": lambda _: as_json(metadata),
        "POST /v2/models/n@stable/infer": double,
        "GET /v2/models/n/versions/3": lambda _: as_json(metadata),
        "POST /v2/models/n/versions/3/infer": double,
    }
    with speaking(script) as (client, _):
        np.testing.assert_array_equal(client.infer("n@stable", [[1, 2]]), [[2, 4]])
        np.testing.assert_array_equal(client.infer("n:3", {"x0": np.ones((1, 2))}), [[2, 2]])
        with pytest.raises(NotFound):
            client.infer("m", [[1, 2]])


def test_infer_asks_for_some_outputs_by_the_input_that_they_read() -> None:
    """A generic network whose categories read different inputs has an entry for each, of one name."""
    metadata = {
        "name": "zoo",
        "inputs": [
            {"name": "input", "datatype": "FP32", "shape": [-1, 2], "parameters": {"categories": ["cat", "dog"]}},
            {"name": "input", "datatype": "FP64", "shape": [-1, 3], "parameters": {"categories": ["owl"]}},
        ],
        "outputs": [{"name": f"{name}..is", "parameters": {"category": name}} for name in ("cat", "dog", "owl")],
    }

    def echo(asked: Asked) -> Answer:
        document = json.loads(asked.body[: int(asked.headers[LENGTH_HEADER])])
        entry = {"datatype": "FP32", "shape": [1, 1], "data": [len(document["inputs"][0]["shape"])]}
        outputs = [
            entry | {"name": f"{each['name']} {document['inputs'][0]['datatype']}"} for each in document["outputs"]
        ]
        return as_json({"outputs": outputs})

    script: Script = {"GET /v2/models/zoo": lambda _: as_json(metadata), "POST /v2/models/zoo/infer": echo}
    with speaking(script) as (client, _):
        found = client.infer("zoo", [[1, 2]], outputs=["dog..is", "cat..is"])
        assert isinstance(found, dict) and list(found) == ["dog..is FP32", "cat..is FP32"]
        assert client.infer("zoo", [[1, 2, 3]], outputs=["owl..is"]).shape == (1, 1)  # type: ignore[union-attr]


@pytest.mark.parametrize("few", [{"batch": 2}, {}])
def test_infer_sends_many_rows_in_pieces_to_one_version(monkeypatch: pytest.MonkeyPatch, few: dict[str, int]) -> None:
    """Many rows, or rows of many bytes."""
    if not few:
        monkeypatch.setattr("graftery.client.inference.REQUEST_BYTES", 2 * 2 * 4 + 1)
    metadata = {"name": "n", "inputs": [{"name": "x0", "datatype": "FP32", "shape": [-1, 2]}], "outputs": []}

    def echo(asked: Asked) -> Answer:
        end = int(asked.headers[LENGTH_HEADER])
        entry = json.loads(asked.body[:end])["inputs"][0]
        head = json.dumps({"model_version": "3", "outputs": [entry | {"name": "is"}]}).encode()
        return Answer(200, head + asked.body[end:], {LENGTH_HEADER: str(len(head))})

    script: Script = {
        "GET /v2/models/n@stable": lambda _: as_json(metadata),
        "POST /v2/models/n@stable/infer": echo,
        "POST /v2/models/n/versions/3/infer": echo,
    }
    x = np.arange(10, dtype="float32").reshape(5, 2)
    with speaking(script) as (client, asked):
        np.testing.assert_array_equal(client.infer("n@stable", x, **few), x)
    assert [each.path for each in asked][1:] == [
        "/v2/models/n@stable/infer",
        "/v2/models/n/versions/3/infer",
        "/v2/models/n/versions/3/infer",
    ]


def test_the_rest_of_the_verbs_go_where_they_belong(version: Make, job: Make) -> None:
    alias = {"name": "cat", "alias": "stable", "version": 3, "ref": "cat:3", "updated_at": AT}
    lineage = {"root": "cat:1", "direction": "down", "nodes": [], "edges": []}
    impact = {"ref": "cat:3", "name": "cat", "kind": "category", "delete": {"refused": True, "refused_by": ["net:1"]}}
    script: Script = {
        "PUT /v1/modules/cat/aliases/stable": lambda _: as_json(alias),
        "DELETE /v1/modules/cat/aliases/stable": lambda _: Answer(204),
        "GET /v1/modules/cat/aliases": lambda _: as_json([alias]),
        "GET /v1/modules/cat/aliases/stable/history": lambda _: as_json({"items": [], "next": None}),
        "POST /v1/modules/cat/aliases/stable/rollback": lambda _: as_json(alias),
        "POST /v1/versions/cat:3/yank": lambda _: as_json(version()),
        "POST /v1/versions/cat:3/unyank": lambda _: as_json(version()),
        "DELETE /v1/versions/cat:3": lambda _: Answer(204),
        "DELETE /v1/modules/cat": lambda _: Answer(204),
        "GET /v1/versions/cat/lineage": lambda _: as_json(lineage),
        "GET /v1/versions/cat:3/impact": lambda _: as_json(impact),
        "GET /v1/modules/cat/impact": lambda _: as_json(impact | {"ref": "cat"}),
        "POST /v1/versions/cat:4/yank": lambda _: as_json(impact),
        "POST /v1/networks": lambda _: as_json(version(kind="network"), 201),
        "POST /v1/collect": lambda _: as_json(job(kind="collect"), 202),
        "POST /v1/jobs/j1/cancel": lambda _: as_json(job()),
        "POST /v1/jobs/j1/retry": lambda _: as_json(job(), 202),
        "GET /health": lambda _: as_json({"status": "ok", "version": "1"}),
        "POST /v2/repository/index": lambda _: as_json([{"name": "n"}]),
    }
    with speaking(script) as (client, asked):
        assert client.alias("cat", "stable", 3).ref == "cat:3"
        client.unalias("cat", "stable")
        assert [entry.alias for entry in client.aliases("cat")] == ["stable"]
        assert client.alias_history("cat", "stable") == ()
        client.rollback("cat", "stable")
        client.yank("cat:3", "bad")
        client.unyank("cat:3")
        client.delete("cat:3")
        client.delete("cat")
        assert client.lineage("cat", "down").direction == "down"
        assert client.impact("cat:3").ref == "cat:3"
        assert client.impact("cat").ref == "cat"
        assert client.yank("cat:4", "bad", dry_run=True).delete.refused_by == ["net:1"]
        client.compose("n", "cat", "is", alias="stable", evaluate_on="few")
        client.collect(dry_run=True)
        client.cancel("j1")
        client.retry("j1")
        assert client.health().status == "ok"
        assert client.served() == ({"name": "n"},)
        posts = [request for request in asked if request.method == "POST" and request.path.startswith("/v1")]
    assert all("Idempotency-Key" in request.headers for request in posts)
    by_path = {f"{request.method} {request.path}": request for request in asked}
    assert by_path["PUT /v1/modules/cat/aliases/stable"].json() == {"version": 3}
    assert by_path["POST /v1/versions/cat:3/yank"].json() == {"reason": "bad"}
    assert by_path["POST /v1/versions/cat:4/yank"].json() == {"reason": "bad", "dry_run": True}
    composed = {"name": "n", "category": "cat", "task": "is", "alias": "stable", "evaluate_on": "few", "force": False}
    assert by_path["POST /v1/networks"].json() == composed
    assert by_path["POST /v1/collect"].json() == {"dry_run": True}
    assert by_path["GET /v1/versions/cat/lineage"].query == {"direction": ["down"]}


@pytest.mark.parametrize("path", ["/v1/modules", "/v1/modules/cat/aliases", "/v2/models/n"])
def test_an_answer_of_something_else_is_no_traceback(path: str) -> None:
    with speaking({f"GET {path}": lambda _: Answer(200, b"<html>")}) as (client, _):
        asking: dict[str, Callable[[], Any]] = {
            "/v1/modules": lambda: [*client.list()],
            "/v1/modules/cat/aliases": lambda: client.aliases("cat"),
            "/v2/models/n": lambda: client.metadata("n"),
        }
        with pytest.raises(ServiceError):
            asking[path]()
