"""The whole service in this process with something behind the names that requests to it are about, for schemathesis."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from schemathesis.core.parameters import ParameterLocation
from schemathesis.python.asgi import shutdown_lifespans

from app.edge.openapi import BINARY
from app.main import create_app
from app.requests.prechecks import Prechecks
from graftery.spec.limits import Limits
from graftery.spec.uploading import OFFSET_TYPE
from registry.settings import Settings
from tests.support import files
from tests.support.access import bearer, make_key
from tests.support.http import push_parts, push_samples, push_teacher
from tests.support.verifiers import SharedVerifier

schemathesis.serializer.alias(OFFSET_TYPE, BINARY)
PLANES = frozenset({"registry", "inference"})
TIMES = int(os.environ.get("GRAFTERY_OPENAPI", "1"))
"""How many times the usual number of requests is sent."""
# What schemathesis does not count as a refusal by itself: an ETag or a tus that is another, a body that is too large, a
# range that is not there. And a model that was unloaded is not a server that has failed.
_REFUSALS = [400, 401, 403, 404, 405, 406, 409, 412, 413, 415, 416, 422, 428, 429, "5xx"]
_CONFIG = schemathesis.Config.from_dict(
    {
        "checks": {
            "negative_data_rejection": {"expected-statuses": [str(each) for each in _REFUSALS]},
            "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "503"]},
        },
        # The links are those of the document: none is guessed beside them. What is followed is to succeed.
        "phases": {"stateful": {"inference": {"algorithms": []}, "generation": {"mode": "positive"}}},
    }
)
# Details of refusals of what the document allows, where no schema can say what is wrong with it.
_UNSAID = (
    r"The cursor is not one that a page gave",  # any string is a cursor by its schema
    r"both upload and digest are given",  # one parameter forbids another
    r"there is a body, and it is not needed",  # or the body
    r"body\.recipe",  # a part of a recipe may contradict another
    r"\S+ has changed",  # an ETag that we did not give
    r"the file is over \d+ bytes",  # a setting
)


@dataclass
class Whole:
    """The app with all its planes, its document as schemathesis reads it, and what is known to be there."""

    app: FastAPI
    api: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    rows: sqlite3.Connection | None = None
    """The database as it was at first."""

    def known_at(self, path: str) -> dict[str, Any]:
        """Values of the path's parameters that lead to something."""
        room = next(room for room in (*self.known, "") if path.startswith(room))
        there = self.known.get(room, {})
        return {name: there[name] for name in re.findall(r"\{(\w+)\}", path)}

    def restore(self) -> None:
        """Have the rows again that there were at first; no bytes were freed."""
        assert self.rows is not None
        with closing(sqlite3.connect(self.app.state.settings.home / "graftery.db")) as live:
            self.rows.backup(live)


@contextmanager
def whole(template: Path, home: Path, **settings: Any) -> Iterator[Whole]:
    """The service on SQLite and a folder, its database a copy of `template`; with these settings.

    Where they ask for keys, `headers` has one that may do everything.
    """
    shutil.copy(template, home / "graftery.db")
    verifier = SharedVerifier(Limits())
    plain = Settings(home=home, planes=frozenset({"registry"}), free_bytes=0, log_level="warning")
    with TestClient(_made(plain, verifier)) as client:
        known = _populate(client)
    made = _made(
        Settings(home=home, planes=PLANES, free_bytes=0, device="cpu", threads=1, log_level="warning", **settings),
        verifier,
    )
    headers = {}
    if made.state.service.guard.asks:
        secret = make_key(made.state.database, "root", "read", "push", "transplant", "infer", "admin")
        headers = bearer(secret)
    rows = sqlite3.connect(":memory:", check_same_thread=False)
    with closing(sqlite3.connect(home / "graftery.db")) as live:
        live.backup(rows)
    api = schemathesis.openapi.from_asgi("/openapi.json", made, config=_CONFIG)
    try:
        yield Whole(made, api, headers, known, rows)
    finally:
        shutdown_lifespans()
        verifier.end()
        rows.close()


def _made(settings: Settings, verifier: SharedVerifier) -> FastAPI:
    app = create_app(settings)
    app.state.service = replace(app.state.service, verifier=verifier, prechecks=Prechecks(app.state.store, None))
    return app


def _populate(client: TestClient) -> dict[str, dict[str, Any]]:
    """By the beginning of paths, what there leads to something."""
    push_parts(client)
    push_teacher(client, "dog")
    push_samples(client, "digits", files.samples())
    client.put("/v1/modules/cat/aliases/stable", json={"version": 1})
    client.put("/v1/keys/passing", json={"scopes": ["read"]})
    ended = client.post("/v1/collect").json()["id"]
    client.post(f"/v1/jobs/{ended}/cancel")
    upload = client.post("/v1/uploads", json={"name": "new", "size_bytes": 10, "digest": "0f" * 32}).json()["id"]
    digest = client.get("/v1/versions/cat:1").json()["digest"]
    client.post("/v1/generic", json={"name": "zoo", "categories": ["dog"], "tasks": ["dog-is"]})
    return {
        "/v1/jobs": {"id": ended},
        "/v1/uploads": {"id": upload, "number": 0},
        "/v1/keys": {"name": "passing"},
        "/v1/blobs": {"digest": digest},
        "/v1/generic": {"name": "zoo", "member": "dog"},
        "/v1/": {"name": "cat", "ref": "dog:1", "alias": "stable"},
        "/v2": {"name": "dog-is-teacher", "version": "1"},
    }


def is_unsaid(response: Any) -> bool:
    """Whether it refuses something that the document cannot forbid."""
    sent, url = response.request.headers.get("content-type", ""), response.request.url
    if sent in (BINARY, OFFSET_TYPE):
        return True  # any bytes are allowed; what is wrong with these, docs/module-file.md says
    if url.partition("?")[0].endswith("/infer"):
        return True  # a tensor that fits the protocol does not yet fit the model
    problem = response.headers.get("content-type") == ["application/problem+json"] and response.content
    return bool(problem) and any(re.match(each, response.json()["detail"]) for each in _UNSAID)


def lead_somewhere(case: Any) -> None:
    """Give a request that the document allows bytes and references that are there: what is drawn never leads to any."""
    if case.meta.is_negative_at(ParameterLocation.BODY):
        return
    match case.operation.path.removeprefix("/v1/").split("/"):
        case ["modules" | "teachers" | "samples" as target, _] if case.method == "PUT":
            case.body = b"" if "upload" in case.query else _file(target)
            if target == "teachers":
                case.query["cut"] = files.CUT
        case ["uploads"] if case.method == "POST":
            data = _file("modules")
            digest = hashlib.sha256(data).hexdigest()
            case.body = {**case.body, "size_bytes": len(data), "digest": digest, "target": "module"}
        case ["uploads", _, "parts", _] | ["uploads", _] if case.method in ("PUT", "PATCH"):
            case.body = _file("modules")
        case ["networks"]:
            case.body = {"name": case.body["name"], "category": "cat", "task": "is-it"}
        case ["transplants"]:
            case.body = {
                "name": case.body["name"],
                "category": "dog",
                "task": "is-it",
                "recipe": {"sources": ["noise"]},
            }
        case ["generic"] if case.method == "POST":
            case.body = {"name": case.body["name"], "categories": ["dog"], "tasks": ["is-it", "dog-is"]}
        case ["generic", _, "members"] if case.method == "POST":
            case.body = {"tasks": ["is-it"]}
        case ["generic", _, "cells"]:
            case.body = {"network": "dog-is-teacher", "replace": True}
        case ["generic", _, "consolidate"]:
            case.body = {"category": "dog", "samples": "digits", "recipe": {"sources": ["noise"]}}
        case ["generic", _, "grow"]:
            case.body = {"category": "dog", "recipe": {"sources": ["noise"]}}
        case ["modules", _, "aliases", _] if case.method == "PUT":
            case.body = {"version": 1}
        case [*_, "infer"] if isinstance(case.body, dict):
            one = {
                "name": "input",
                "datatype": "FP32",
                "shape": [1, 1, files.SIDE, files.SIDE],
                "data": [0.5] * files.SIDE**2,
            }
            case.body, case.headers = {"inputs": [one]}, {}


def _file(target: str) -> bytes:
    """Bytes for PUT /v1/TARGET/NAME."""
    if target == "samples":
        return files.samples()
    return files.file_bytes(files.teacher() if target == "teachers" else files.parts()[0])
