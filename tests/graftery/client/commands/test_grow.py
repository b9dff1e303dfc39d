"""graftery grow: what is asked for, how its jobs are followed, and what is told of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graftery.client import events
from tests.support.scripted import Answer, Asked, Script, as_json, problem

Make = Callable[..., dict[str, Any]]
Call = Callable[..., tuple[int, str, str]]
BASE = {"category": "cat", "network": "zoo-cat-is"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAUSE_S", 0.01)


def _plan(*cells: dict[str, Any], dry_run: bool = False) -> dict[str, Any]:
    return {"name": "zoo", "category": "cat:1", "dry_run": dry_run, "cells": [BASE | cell for cell in cells]}


def _script(job: Make, matrix: Make, **ends: dict[str, Any]) -> tuple[Script, list[Asked]]:
    """A job for each task `t1`, `t2`, ... with what it ended with; `t9` was there before."""
    asked: list[Asked] = []
    cells = [{"task": f"t{at}", "action": "start", "job": name} for at, name in enumerate(ends, 1)]
    cells.append({"task": "t9", "action": "kept"})
    figures = {"figure": {"metric": "accuracy", "value": 0.9}, "teacher": {"metric": "accuracy", "value": 0.95}}
    became = [{"category": "cat", "task": cell["task"], "state": "ready", "network": "n:1"} | figures for cell in cells]

    def grow(request: Asked) -> Answer:
        asked.append(request)
        return as_json(_plan(*cells), 202)

    def end(name: str, how: dict[str, Any]) -> Callable[[Asked], Answer]:
        return lambda _: as_json(job(**({"id": name, "request": {"name": f"zoo-{name}"}} | how)))

    script: Script = {"POST /v1/generic/zoo/grow": grow, "GET /v1/generic/zoo": lambda _: as_json(matrix(*became))}
    return script | {f"GET /v1/jobs/{name}": end(name, how) for name, how in ends.items()}, asked


def _outcome(outcome: str, reason: str | None = None) -> dict[str, Any]:
    return {"state": "succeeded", "result": {"network": "n:1", "generic": {"outcome": outcome, "reason": reason}}}


def test_at_the_end_it_says_what_was_kept_rejected_and_failed(graftery: Call, job: Make, matrix: Make) -> None:
    error = {"code": "diverged", "message": "NaN at step 7"}
    script, _ = _script(
        job,
        matrix,
        j1=_outcome("kept"),
        j2=_outcome("rejected", "10.0 points below"),
        j3={"state": "failed", "error": error},
    )
    code, out, err = graftery(script, "grow", "zoo", "cat")
    lines = out.splitlines()
    assert lines[0].split() == ["CELL", "OUTCOME", "NETWORK", "FIGURE", "TEACHER", "DIRECT"]
    assert lines[1].split() == ["cat", "x", "t1", "kept", "n:1", "accuracy", "0.900", "accuracy", "0.950"]
    assert "rejected" in lines[2] and lines[2].endswith("10.0 points below")
    assert "failed" in lines[3] and lines[3].endswith("diverged: NaN at step 7")
    assert "there before" in lines[4]
    assert lines[5] == "1 kept, 1 rejected, 1 failed, 1 there before"
    assert code == 1 and err.splitlines()[-1].startswith("error[diverged]: ")


def test_options_become_the_request(graftery: Call, job: Make, matrix: Make) -> None:
    script, asked = _script(job, matrix, j1=_outcome("kept"))
    words = ["--tasks", "t1", "--tasks", "t2", "--evaluate-on", "t1=a", "--evaluate-on", "t2=b", "--samples", "few"]
    words += ["--steps", "5", "--recipe", '{"seed": 3}', "--within", "2", "--baseline"]
    code, out, _ = graftery(script, "grow", "zoo", "cat", *words, "--json")
    assert code == 0
    assert asked[0].json() == {
        "category": "cat",
        "tasks": ["t1", "t2"],
        "samples": "few",
        "evaluate_on": {"t1": "a", "t2": "b"},
        "recipe": {"seed": 3, "steps": 5},
        "accept": {"within": 2},
        "baseline": True,
        "force": False,
        "dry_run": False,
    }
    document = json.loads(out)
    assert [cell["action"] for cell in document["cells"]] == ["start", "kept"]
    assert [cell["state"] for cell in document["became"]] == ["ready", "ready"]


def test_a_dry_run_tells_order_and_cost(graftery: Call) -> None:
    cells = [
        {"task": "t1", "action": "start", "order": 2, "flops": 2_500_000_000, "memory_bytes": 3000, "seconds": 12.0},
        {"task": "t2", "action": "start", "order": 1, "flops": 10},
        {"task": "t3", "action": "no_teacher", "reason": "it has no such task"},
    ]
    script: Script = {"POST /v1/generic/zoo/grow": lambda _: as_json(_plan(*cells, dry_run=True))}
    code, out, err = graftery(script, "grow", "zoo", "cat", "--dry-run")
    lines = out.splitlines()
    assert code == 0 and err == "nothing was begun: this was a dry run\n"
    assert [line.split("cat x ")[1][:2] for line in lines[1:]] == ["t3", "t2", "t1"]
    assert "2.5 GFLOP" in lines[3] and "3 kB" in lines[3] and "12 s" in lines[3]


def test_without_waiting_the_jobs_are_told(graftery: Call, job: Make, matrix: Make) -> None:
    script, _ = _script(job, matrix, j1=_outcome("kept"))
    code, out, _ = graftery(script, "grow", "zoo", "cat", "--no-wait")
    assert code == 0 and "j1" in out and "OUTCOME" not in out


def test_a_refusal_is_an_error(graftery: Call) -> None:
    refuse = {"POST /v1/generic/zoo/grow": lambda _: problem("conflict", 409, "zoo lacks the teacher's task 'turn'")}
    code, out, err = graftery(refuse, "grow", "zoo", "cat")
    assert (code, out) == (1, "") and "zoo lacks" in err
