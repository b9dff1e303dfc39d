"""The verbs about generic networks: what each sends, and what it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graftery.client.http import Client
from graftery.errors import Conflict, GrafteryError
from tests.support.scripted import Answer, Asked, as_json, problem, scripted

Make = Callable[..., dict[str, Any]]
GROWN = {"name": "zoo", "category": "cat:1", "dry_run": False, "cells": []}
CHANGE = {"id": 3, "action": "rollback", "at": "2026-01-02T03:04:05Z", "undoes": 2}


def test_each_verb_asks_its_route(matrix: Make) -> None:
    whole = matrix()
    script: dict[str, Callable[[Asked], Answer | None]] = {
        "POST /v1/generic": lambda _: as_json(whole, 201),
        "GET /v1/generic/zoo": lambda _: as_json(whole),
        "POST /v1/generic/zoo/members": lambda _: as_json(whole),
        "DELETE /v1/generic/zoo/members/cat": lambda _: Answer(204),
        "POST /v1/generic/zoo/cells": lambda _: as_json(whole),
        "POST /v1/generic/zoo/grow": lambda _: as_json(GROWN, 202),
        "POST /v1/generic/zoo/rollback": lambda _: as_json(CHANGE),
        "GET /v1/generic/zoo/certificate": lambda _: as_json(
            {"name": "zoo", "cells": 1, "recorded": 1, "replays": 0, "identical": 0, "different": []}
        ),
        "DELETE /v1/generic/zoo": lambda _: Answer(204),
    }
    with scripted(script) as server, Client(server.url) as client:
        assert client.create_generic("zoo", ["animals"], ["is"], description="d").name == "zoo"
        assert client.generic("zoo").cells[0].state == "ready"
        assert client.add_members("zoo", tasks=["turn"]).name == "zoo"
        client.remove_member("zoo", "cat")
        assert client.place_cell("zoo", "n:2", replace=True).name == "zoo"
        assert client.grow("zoo", "cat").cells == []
        assert client.rollback_generic("zoo").undoes == 2
        assert client.generic_certificate("zoo").different == []
        client.delete_generic("zoo")
    bodies = [asked.json() for asked in server.asked if asked.method == "POST"]
    assert bodies == [
        {"name": "zoo", "categories": ["animals"], "tasks": ["is"], "description": "d"},
        {"categories": [], "tasks": ["turn"]},
        {"network": "n:2", "replace": True},
        {"category": "cat", "recipe": {}, "baseline": False, "force": False, "dry_run": False},
        {},
    ]
    assert all("Idempotency-Key" in asked.headers for asked in server.asked if asked.method == "POST")


def test_what_is_asked_of_growth_is_sent_as_it_was_said() -> None:
    with scripted({"POST /v1/generic/zoo/grow": lambda _: as_json(GROWN, 202)}) as server, Client(server.url) as client:
        client.grow(
            "zoo",
            "cat",
            tasks=["is"],
            evaluate_on={"is": "cats"},
            recipe={"steps": 5},
            accept={"within": 2},
            baseline=True,
            samples="few",
            dry_run=True,
        )
        said = server.asked[0].json()
    assert said == {
        "category": "cat",
        "tasks": ["is"],
        "evaluate_on": {"is": "cats"},
        "samples": "few",
        "recipe": {"steps": 5},
        "accept": {"within": 2},
        "baseline": True,
        "force": False,
        "dry_run": True,
    }


def test_filters_are_sent_and_nothing_else_is(matrix: Make) -> None:
    def csv(asked: Asked) -> Answer:
        text = b"category,task\n"
        return Answer(200, text, {"Content-Type": "text/csv"}) if "format" in asked.query else as_json(matrix())

    with scripted({"GET /v1/generic/zoo": csv}) as server, Client(server.url) as client:
        client.generic("zoo")
        client.generic("zoo", categories=["cat", "dog"], tasks=["is"], states=["ready"], within=0)
        assert client.generic_csv("zoo", states=["running"]) == "category,task\n"
    assert [asked.query for asked in server.asked] == [
        {},
        {"category": ["cat", "dog"], "task": ["is"], "state": ["ready"], "within": ["0"]},
        {"format": ["csv"], "state": ["running"]},
    ]


def test_lists_come_in_pages() -> None:
    def page(asked: Asked) -> Answer:
        return as_json({"items": [CHANGE], "next": None if "cursor" in asked.query else "c"})

    with scripted({"GET /v1/generic/zoo/changes": page}) as server, Client(server.url) as client:
        assert [change.id for change in client.generic_changes("zoo")] == [3, 3]
        assert [change.id for change in client.generic_changes("zoo", limit=1)] == [3]


def test_refusals_are_errors_of_their_class() -> None:
    refuse = {"POST /v1/generic/zoo/rollback": lambda _: problem("conflict", 409, "nothing to undo")}
    with scripted(refuse) as server, Client(server.url) as client:
        with pytest.raises(Conflict, match="nothing to undo"):
            client.rollback_generic("zoo")
        with pytest.raises(GrafteryError, match="not allowed as name"):
            client.generic("a/b")
        with pytest.raises(GrafteryError) as found:
            client.grow("zoo", "cat", recipe={"stepz": 1})
        assert found.value.code == "recipe_invalid"
    assert len(server.asked) == 1
