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


def test_a_consolidation_is_followed_and_promoted(graftery: Call, job: Make) -> None:
    asked: list[Any] = []
    standing = {"explained": 0.9, "agreement": 0.8, "metrics": {"balanced_accuracy": 0.75}}
    report = {"cell": "cat x is", "semantics": "classification", "anchored": False, "sources": ["noise"]}
    report |= {"objectives": {"distillation": 1.0}, "labels": 0, "before": standing}
    report |= {"after": standing | {"explained": 0.95, "metrics": {"balanced_accuracy": 0.8}}}
    done = job("succeeded", kind="consolidate", result={"module": "is:2", "steps": 4, "cells": [{"report": report}]})
    ended = f"data: {json.dumps({'seq': 1, 'type': 'state', 'at': AT, 'data': {'state': 'succeeded'}})}\n\n"

    def post(answer: Any) -> Callable[[Asked], Answer]:
        return lambda request: asked.append(request.json()) or as_json(answer)  # type: ignore[func-returns-value]

    script: Script = {
        "POST /v1/generic/zoo/consolidate": post(job(kind="consolidate")),
        "GET /v1/jobs/j1": lambda _: as_json(done),
        "GET /v1/jobs/j1/events": lambda _: Answer(200, ended.encode(), {"Content-Type": "text/event-stream"}),
        "POST /v1/generic/zoo/promote": post({"id": 4, "action": "promote", "at": AT, "cells": [CELL]}),
    }
    words = ["--task", "is", "--evaluate-on", "cat=cats", "--recipe", '{"steps": 4}']
    code, out, _ = graftery(script, "generic", "consolidate", "zoo", *words)
    assert code == 0
    assert "cat x is  balanced_accuracy  0.7500  0.8000" in out and "graftery generic promote zoo j1" in out
    assert graftery(script, "generic", "promote", "zoo", "j1", "--worst", "0")[1] == "change 4: cat x is n:1 -> n:2\n"
    assert asked == [
        {"task": "is", "evaluate_on": {"cat": "cats"}, "recipe": {"steps": 4}},
        {"jobs": ["j1"], "worst": 0.0},
    ]


def test_a_certificate_with_a_difference_is_exit_code_1(graftery: Call) -> None:
    good = {"name": "zoo", "cells": 3, "recorded": 3, "replays": 5, "identical": 5, "different": []}
    script: Script = {"GET /v1/generic/zoo/certificate": lambda _: as_json(good)}
    code, out, _ = graftery(script, "generic", "certificate", "zoo")
    assert code == 0 and "5 times asked again after a job, 5 times the same to the bit" in out
    bad = {"GET /v1/generic/zoo/certificate": lambda _: as_json(good | {"different": ["n:1"]})}
    code, out, _ = graftery(bad, "generic", "certificate", "zoo")
    assert code == 1 and "DIFFERENT: n:1" in out
