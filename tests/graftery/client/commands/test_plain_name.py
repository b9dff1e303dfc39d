"""What a person is told where the plain name stays on an earlier version."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftery.client.cli import run
from graftery.client.commands.plain_name import tell_plain_name
from graftery.client.http import Client
from tests.support.scripted import Answer, Script, as_json, problem, scripted

Make = Callable[..., dict[str, Any]]
AT = "2026-01-02T03:04:05Z"


MODULE: dict[str, Any] = {
    "name": "n",
    "kind": "network",
    "versions": 3,
    "latest": 3,
    "created_at": AT,
    "updated_at": AT,
}


def noted(capsys: pytest.CaptureFixture[str], ref: str, aliases: dict[str, int] | None) -> tuple[str, int]:
    """The note, and how many requests it took."""
    answer = problem("not_found", 404) if aliases is None else as_json(MODULE | {"aliases": aliases})
    script: Script = {"GET /v1/modules/n": lambda _: answer}
    with scripted(script) as server:
        with Client(server.url) as client:
            tell_plain_name(client, ref)
        captured = capsys.readouterr()
        assert captured.out == ""
        return captured.err, len(server.asked)


def test_the_command_that_moves_default_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    said, _ = noted(capsys, "n:3", {"default": 1, "stable": 3})
    assert said == "n still means n:1; `graftery alias n default 3` moves it to n:3\n"


@pytest.mark.parametrize("aliases", [{"default": 3}, {"stable": 1}, {}, None])
def test_nothing_is_told_where_the_plain_name_moved_or_nobody_knows(
    capsys: pytest.CaptureFixture[str], aliases: dict[str, int] | None
) -> None:
    assert noted(capsys, "n:3", aliases)[0] == ""


def test_a_first_version_is_not_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert noted(capsys, "n:1", {"default": 2}) == ("", 0)


@pytest.mark.parametrize("verb", ["transplant", "watch", "compose", "push"])
def test_every_verb_that_makes_versions_tells_it_beside_its_answer(
    verb: str, version: Make, job: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"bytes of a module file")
    made = as_json(version(name="n", ref="n:3", version=3), 201)
    done = job("succeeded", result={"network": "n:3"})
    state = {"seq": 1, "type": "state", "at": AT, "data": {"state": "succeeded"}}
    stream = Answer(200, f"data: {json.dumps(state)}\n\n".encode(), {"Content-Type": "text/event-stream"})
    script: Script = {
        "GET /v1/modules/n": lambda _: as_json(MODULE | {"aliases": {"default": 1}}),
        "PUT /v1/modules/n": lambda _: made,
        "POST /v1/networks": lambda _: made,
        "POST /v1/transplants": lambda _: as_json(done, 202),
        "GET /v1/jobs/j1": lambda _: as_json(done),
        "GET /v1/jobs/j1/events": lambda _: stream,
    }
    words = {
        "transplant": ["cat", "is", "--name", "n"],
        "watch": ["j1"],
        "compose": ["n", "cat", "is"],
        "push": ["n", str(tmp_path / "file")],
    }
    with scripted(script) as server:
        assert run([verb, *words[verb], "--url", server.url]) == 0
        captured = capsys.readouterr()
        assert "n:3" in captured.out
        assert captured.err.splitlines()[-1].startswith("n still means n:1; `graftery alias n default 3`")
        assert run([verb, *words[verb], "--url", server.url, "--json"]) == 0
        assert "still means" not in capsys.readouterr().err
