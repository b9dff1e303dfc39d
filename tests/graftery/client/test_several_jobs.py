"""Several tasks in one request: what the client sends, how it waits for all jobs, and what the command line shows."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from graftery.client import events, progress
from graftery.client.cli import run
from graftery.client.http import Client
from graftery.client.progress import jobs_view
from graftery.errors import Conflict, ServiceError, TrainingFailed
from graftery.spec.wire import JobOut
from tests.support.scripted import Answer, Asked, Script, as_json, problem, scripted

Make = Callable[..., dict[str, Any]]
FAILED = {"code": "diverged", "message": "NaN at step 7"}


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "PAUSE_S", 0.01)


def _script(job: Make, *states: tuple[str, ...]) -> Script:
    """Two jobs, each with the states that it has from look to look; the last one stays."""
    left = {f"j{number}": list(those) for number, those in enumerate(states, 1)}

    def one(name: str, state: str) -> dict[str, Any]:
        more: dict[str, Any] = {"failed": {"error": FAILED}, "succeeded": {"result": {"network": f"n-{name}:1"}}}
        more["running"] = {"progress": {"phase": "train", "step": 2, "steps": 5, "loss": 0.5}}
        return job(state, id=name, request={"name": f"n-{name}"}, **more.get(state, {}))

    def look(name: str) -> Callable[[Asked], Answer]:
        return lambda _: as_json(one(name, left[name].pop(0) if len(left[name]) > 1 else left[name][0]))

    queued = {"jobs": [one(name, "queued") | {"precheck": {"status": "running"}} for name in left]}
    return {
        "POST /v1/transplants": lambda _: as_json(queued, 202),
        **{f"GET /v1/jobs/{name}": look(name) for name in left},
    }


def test_a_list_of_tasks_is_sent_as_one_request(job: Make) -> None:
    with scripted(_script(job, ("queued",), ("queued",))) as server, Client(server.url) as client:
        found = client.transplant("cat", ["is", "turn"], name="n", evaluate_on={"turn": "s"}, teacher_task="t")
        assert [each.id for each in found] == ["j1", "j2"]
        assert found[1].precheck is not None
        assert len(server.asked) == 1
        said = server.asked[0].json()
        assert (said["task"], said["evaluate_on"], said["teacher_task"]) == (["is", "turn"], {"turn": "s"}, "t")


def test_all_are_waited_for_and_given_in_order(job: Make) -> None:
    seen: list[list[str]] = []
    script = _script(job, ("queued", "running", "succeeded"), ("succeeded",))
    with scripted(script) as server, Client(server.url) as client:
        found = client.wait_all(["j1", "j2"], progress=lambda jobs: seen.append([each.state for each in jobs]))
        assert client.wait_all([]) == []
    assert [each.id for each in found] == ["j1", "j2"]
    assert seen == [["queued", "succeeded"], ["running", "succeeded"], ["succeeded", "succeeded"]]


@pytest.mark.parametrize(("last", "error"), [("failed", TrainingFailed), ("cancelled", Conflict)])
def test_one_that_fails_is_told_when_all_have_ended(job: Make, last: str, error: type[Exception]) -> None:
    seen: list[list[str]] = []
    script = _script(job, (last,), ("running", "succeeded"))
    with scripted(script) as server, Client(server.url) as client, pytest.raises(error, match="j1"):
        client.wait_all(["j1", "j2"], progress=lambda jobs: seen.append([each.state for each in jobs]))
    assert seen[-1] == [last, "succeeded"]


def test_a_service_that_is_away_for_a_while_is_waited_for(job: Make) -> None:
    away = [problem("unavailable", 503)] * 3
    done = as_json(job("succeeded", result={}))
    with scripted({"GET /v1/jobs/j1": lambda _: away.pop() if away else done}) as server, Client(server.url) as client:
        assert client.wait_all(["j1"])[0].state == "succeeded"
        assert away == []
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceError):
        client.wait_all(["j1"], patience_s=0)


def _run(script: Script, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str, list[dict[str, Any]]]:
    with scripted(script) as server:
        code = run(["transplant", "cat", "is", "turn", "--name", "n", *words, "--url", server.url])
        asked = [each.json() for each in server.asked if each.method == "POST"]
    captured = capsys.readouterr()
    return code, captured.out, captured.err, asked


def test_the_command_line_follows_all_jobs(job: Make, capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(job, ("queued", "running", "succeeded"), ("queued", "queued", "running", "succeeded"))
    words = ["--evaluate-on", "is=a", "--evaluate-on", "turn=b", "--samples", "s"]
    code, out, err, asked = _run(script, capsys, *words)
    assert code == 0
    assert (asked[0]["task"], asked[0]["samples"]) == (["is", "turn"], "s")
    assert asked[0]["evaluate_on"] == {"is": "a", "turn": "b"}
    assert out.splitlines() == ["transplant succeeded  network n-j1:1", "transplant succeeded  network n-j2:1"]
    lines = err.splitlines()
    assert [line for line in lines if "train" in line] == ["n-j1: train 2/5 loss 0.5", "n-j2: train 2/5 loss 0.5"]
    assert lines[0] == "is:" and "job j2  n-j2" in lines


def test_the_command_line_tells_what_succeeded_before_what_failed(
    job: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    script = _script(job, ("failed",), ("succeeded",))
    code, out, err, _ = _run(script, capsys)
    assert code == 1
    assert "network n-j2:1" in out
    assert err.splitlines()[-1] == "error[diverged]: job j1 failed: NaN at step 7"
    code, out, _, _ = _run(script, capsys, "--json")
    assert (code, [each["state"] for each in json.loads(out)["jobs"]]) == (1, ["failed", "succeeded"])


def test_the_command_line_need_not_wait(job: Make, capsys: pytest.CaptureFixture[str]) -> None:
    script = _script(job, ("queued",), ("queued",))
    code, out, err, _ = _run(script, capsys, "--no-watch", "--json")
    assert (code, err) == (0, "")
    assert [each["precheck"]["status"] for each in json.loads(out)["jobs"]] == ["running"] * 2
    assert _run(script, capsys, "--no-watch")[1].splitlines() == ["j1  transplant  queued", "j2  transplant  queued"]


def test_an_option_by_task_is_by_task_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err, asked = _run({}, capsys, "--samples", "a", "--samples", "turn=b")
    assert (code, asked) == (2, [])
    assert "--samples is written NAME=VALUE, not 'a'" in err


def test_on_a_terminal_each_job_has_its_bar(job: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    at = {"phase": "train", "step": 2, "steps": 5, "loss": 0.5}
    jobs = [
        JobOut.model_validate(job("running", id="a", request={"name": "n-is"}, progress=at)),
        JobOut.model_validate(job("queued", id="b", request={"name": "n-turn"})),
    ]
    with jobs_view() as show:
        show(jobs)
    for text in ("n-is train", "2/5", "loss 0.5", "n-turn queued"):
        assert text in screen.getvalue()
