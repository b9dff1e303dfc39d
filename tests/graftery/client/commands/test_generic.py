"""graftery generic ...: each verb against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graftery.client.cli import GENERIC, run
from tests.support.scripted import Answer, Asked, Script, as_json

Make = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]
AT = "2026-01-02T03:04:05Z"
CELL = {"category": "cat", "task": "is", "old": "n:1", "new": "n:2"}


@pytest.mark.parametrize("verb", GENERIC)
def test_every_help_has_examples_that_are_this_verb_s(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generic", verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"graftery generic {verb}" in out.split("Examples:")[1]
    assert "--url" in out and "--json" in out


def test_networks_are_made_and_changed(graftery: Call, matrix: Make) -> None:
    seen: list[Asked] = []

    def act(asked: Asked) -> Answer:
        seen.append(asked)
        return as_json(matrix())

    paths = ("POST /v1/generic", "POST /v1/generic/zoo/members", "POST /v1/generic/zoo/cells")
    script: Script = dict.fromkeys(paths, act)
    for words in (
        ["create", "zoo", "--category", "cat", "--task", "is", "--description", "d"],
        ["add", "zoo", "--task", "turn"],
        ["place", "zoo", "n:2", "--replace"],
    ):
        code, out, _ = graftery(script, "generic", *words)
        assert code == 0 and out.splitlines()[0] == "zoo  1 cell: 1 ready"
    assert [asked.json() for asked in seen] == [
        {"name": "zoo", "categories": ["cat"], "tasks": ["is"], "description": "d"},
        {"categories": [], "tasks": ["turn"]},
        {"network": "n:2", "replace": True},
    ]
    assert graftery(script, "generic", "add", "zoo")[0] == 2


def test_networks_are_listed(graftery: Call) -> None:
    one = {"name": "zoo", "categories": 3, "tasks": 2, "ready": 4, "created_at": AT, "updated_at": AT}
    script: Script = {"GET /v1/generic": lambda _: as_json({"items": [one], "next": None})}
    _, out, _ = graftery(script, "generic", "list")
    assert out.splitlines()[1].split()[:6] == ["zoo", "3", "2", "4", "of", "6"]
    assert json.loads(graftery(script, "generic", "list", "--json")[1])[0]["ready"] == 4


def test_members_and_networks_go(graftery: Call) -> None:
    gone = lambda _: Answer(204)  # noqa: E731
    script: Script = {"DELETE /v1/generic/zoo/members/dog": gone, "DELETE /v1/generic/zoo": gone}
    assert graftery(script, "generic", "remove", "zoo", "dog")[1].startswith("dog is out of zoo")
    assert json.loads(graftery(script, "generic", "delete", "zoo", "--yes", "--json")[1]) == {"deleted": "zoo"}
    code, _, err = graftery(script, "generic", "delete", "zoo")
    assert code == 2 and "--yes" in err


def test_changes_are_told_and_undone(graftery: Call) -> None:
    place = {"id": 2, "action": "place", "at": AT, "by": "job 7", "cells": [CELL]}
    add = {"id": 1, "action": "add", "at": AT, "members": {"cat": [None, "cat:1"]}}
    undo = place | {"id": 3, "action": "rollback", "undoes": 2, "cells": [CELL | {"old": "n:2", "new": "n:1"}]}
    asked: list[Any] = []

    def roll(request: Asked) -> Answer:
        asked.append(request.json())
        return as_json(undo)

    script: Script = {
        "GET /v1/generic/zoo/changes": lambda _: as_json({"items": [place, add], "next": None}),
        "POST /v1/generic/zoo/rollback": roll,
    }
    lines = graftery(script, "generic", "changes", "zoo")[1].splitlines()
    assert lines[1].endswith("place   job 7  cat x is n:1 -> n:2") and lines[2].endswith("cat + cat:1")
    said = graftery(script, "generic", "rollback", "zoo", "--change", "2")[1]
    assert said == "change 2 is undone: cat x is n:2 -> n:1\n" and asked == [{"change": 2}]


def test_a_certificate_with_a_difference_is_exit_code_1(graftery: Call) -> None:
    good = {"name": "zoo", "cells": 3, "recorded": 3, "replays": 5, "identical": 5, "different": []}
    script: Script = {"GET /v1/generic/zoo/certificate": lambda _: as_json(good)}
    code, out, _ = graftery(script, "generic", "certificate", "zoo")
    assert code == 0 and "5 times asked again after a job, 5 times the same to the bit" in out
    bad = {"GET /v1/generic/zoo/certificate": lambda _: as_json(good | {"different": ["n:1"]})}
    code, out, _ = graftery(bad, "generic", "certificate", "zoo")
    assert code == 1 and "DIFFERENT: n:1" in out
