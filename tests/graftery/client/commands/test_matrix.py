"""graftery matrix: what is asked for, in which form, and how it is watched."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graftery.client.commands import matrix as command
from tests.support.scripted import Answer, Asked, as_json, problem

Make = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]
READY = {"category": "cat", "task": "is", "state": "ready", "network": "n:1"}
PATH = "GET /v1/generic/zoo"


def test_it_is_drawn_whole_into_a_pipe(graftery: Call, matrix: Make) -> None:
    cells = [READY | {"task": f"task-{number}"} for number in range(40)]
    code, out, err = graftery({PATH: lambda _: as_json(matrix(*cells))}, "matrix", "zoo")
    assert (code, err) == (0, "")
    head, names, row = out.splitlines()
    assert head == "zoo  40 cells: 40 ready" and len(names.split()) == 40 and row.split() == ["cat", *["ready"] * 40]


def test_filters_json_and_csv(graftery: Call, matrix: Make) -> None:
    seen: list[dict[str, list[str]]] = []

    def act(asked: Asked) -> Answer:
        seen.append(asked.query)
        if "format" in asked.query:
            return Answer(200, b"category,task\ncat,is\n", {"Content-Type": "text/csv"})
        return as_json(matrix(READY))

    filters = ["--category", "cat", "--category", "dog", "--task", "is", "--state", "ready", "--within", "1"]
    code, out, _ = graftery({PATH: act}, "matrix", "zoo", *filters, "--json")
    assert code == 0 and json.loads(out)["cells"][0]["network"] == "n:1"
    assert seen == [{"category": ["cat", "dog"], "task": ["is"], "state": ["ready"], "within": ["1.0"]}]
    assert graftery({PATH: act}, "matrix", "zoo", "--csv")[1] == "category,task\ncat,is\n"


def test_it_is_watched_until_nothing_runs(graftery: Call, matrix: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "EVERY_S", 0.01)
    looks = [["running", "missing"], ["ready", "running"], ["ready", "rejected"]]

    def act(asked: Asked) -> Answer:
        wanted = asked.query.get("state")
        now = looks[0] if wanted else looks.pop(0) if len(looks) > 1 else looks[0]
        cells = [READY | {"task": f"t{at}", "state": state} for at, state in enumerate(now)]
        return as_json(matrix(*(each for each in cells if not wanted or each["state"] in wanted), name="zoo"))

    def running(asked: Asked) -> Answer:
        answer = json.loads(act(asked).body)
        if asked.query.get("state") and looks[0] == ["ready", "rejected"]:
            answer["cells"] = []
        return as_json(answer)

    code, out, err = graftery({PATH: running}, "matrix", "zoo", "--watch")
    assert code == 0
    assert err.splitlines() == ["cat x t0: ready", "cat x t1: running", "cat x t1: rejected"]
    assert out.splitlines()[0] == "zoo  2 cells: 1 ready, 1 rejected"


def test_on_a_terminal_it_is_drawn_anew_in_place(graftery: Call, matrix: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "EVERY_S", 0.01)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("LINES", "4")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(command, "_is_terminal", lambda: True)
    looks = iter([1, 1, 0, 0])

    def act(asked: Asked) -> Answer:
        left = next(looks)
        cells = [READY | {"task": f"t{at}", "state": "running" if left else "ready"} for at in range(20)]
        out = matrix(*cells)
        return as_json(out if left or "state" not in asked.query else out | {"cells": []})

    code, out, err = graftery({PATH: act}, "matrix", "zoo", "--watch")
    assert (code, err) == (0, "")
    assert "20 running" in out
    last = out[out.rindex("zoo  20 cells") :]
    # The last one stays, and is whole although the terminal is not that high.
    assert "20 ready" in last and all(f"t{at}" in last for at in range(20))


def test_an_unknown_network_is_an_error(graftery: Call) -> None:
    code, _, err = graftery({PATH: lambda _: problem("not_found", 404, "no zoo", near=["zoos"])}, "matrix", "zoo")
    assert (code, err) == (1, "error[not_found]: no zoo (did you mean zoos?)\n")
