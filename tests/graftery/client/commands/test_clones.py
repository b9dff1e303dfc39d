"""`graftery clone`, `attach` and `detach` against a scripted server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graftery.client.cli import run
from tests.support.scripted import Answer, Script, as_json, scripted

Make = Callable[..., dict[str, Any]]
AT = "2026-01-02T03:04:05Z"
METRICS = {
    "position": {"target": "task.block", "source": "task.block"},
    "positions": [
        {"target": "task.block", "source": "task.block", "held_out_loss": 0.25, "held_out_accuracy": 0.9},
        {"target": "category.features", "source": "category.features", "held_out_loss": 0.5, "held_out_accuracy": 0.8},
    ],
    "kept": {"category.features.0.weight": [2, 6], "task.block.0.weight": [3, 12]},
    "added": {"parameters": 1980, "parameters_share": 0.25, "flops": 5596, "flops_share": 0.4},
    "original": 0.97,
    "original_before": 0.98,
    "wanted": 0.9,
    "changed": 0.01,
    "mean": 0.935,
}


def ask(capsys: pytest.CaptureFixture[str], script: Script, *arguments: str) -> tuple[int, str, str, list[Any]]:
    with scripted(script) as server:
        code = run([*arguments, "--url", server.url])
    captured = capsys.readouterr()
    return code, captured.out, captured.err, [each.json() for each in server.asked if each.method == "POST"]


def test_a_clone_is_followed_and_told(capsys: pytest.CaptureFixture[str], job: Make, tmp_path: Path) -> None:
    events = [("progress", {"phase": "search", "step": 3, "steps": 3, "loss": 0.5}), ("state", {"state": "succeeded"})]
    said = [{"seq": seq, "type": kind, "at": AT, "data": data} for seq, (kind, data) in enumerate(events, 1)]
    stream = "".join(f"data: {json.dumps(each)}\n\n" for each in said).encode()
    certificate = {
        "networks": 1,
        "identical": 1,
        "within_tolerance": 0,
        "different": [],
        "first_seen": 1,
        "left_out": 0,
    }
    result = {"clone": "owl:1", "network": "more:1", "metrics": METRICS, "certificate": certificate, "seconds": 3.5}
    script: Script = {
        "POST /v1/clones": lambda _: as_json(job(kind="clone"), 202),
        "GET /v1/jobs/j1/events": lambda _: Answer(200, stream, {"Content-Type": "text/event-stream"}),
        "GET /v1/jobs/j1": lambda _: as_json(job("succeeded", kind="clone", result=result)),
    }
    (tmp_path / "recipe.json").write_text('{"keep": 0.3, "healing_steps": 9}')
    options = ["--network", "more", "--position", "task.block", "--position", "category.features", "--keep", "0.2"]
    named = ["--want", "owl", "--want", "jay", "--samples", "few", "--name", "owl"]
    recipe = ["--recipe", str(tmp_path / "recipe.json"), "--seed", "7"]
    code, out, err, sent = ask(capsys, script, "clone", "birds", "animals", *named, *options, *recipe)
    assert code == 0, err
    (body,) = sent
    assert (body["want"], body["network"]) == (["owl", "jay"], "more")
    positions = ["task.block", "category.features"]
    assert body["recipe"] == {"keep": 0.2, "healing_steps": 9, "seed": 7, "positions": positions}
    assert out.splitlines() == [
        "clone succeeded  clone owl:1  network more:1  seconds 3.5",
        "  position  task.block, which stands for the source's task.block",
        "  tried  task.block 0.25, category.features 0.5  (held-out loss)",
        "  kept  5 of 18 channels in 2 layers of the source",
        "  added  1,980 parameters (25%), 5,596 flops (40%), beside the target's",
        "  metrics  original 0.97  original_before 0.98  wanted 0.9  changed 0.01  mean 0.935",
        "  certificate  1 of 1 networks that share a module answer as before, to the bit",
    ]
    assert "search 3/3" in err


def test_what_changes_a_network(capsys: pytest.CaptureFixture[str], version: Make) -> None:
    parts = {"category": "a" * 64, "task": "b" * 64, "clones": ["c" * 64]}
    module = {"name": "animals", "kind": "network", "versions": 2, "latest": 2, "created_at": AT, "updated_at": AT}
    script: Script = {
        "POST /v1/networks/animals/attach": lambda _: as_json(version("animals", 2, kind="network", parts=parts), 201),
        "POST /v1/networks/animals:2/detach": lambda _: as_json(
            version("animals", 1, kind="network", parts={**parts, "clones": None}), 200
        ),
        "GET /v1/modules/animals": lambda _: as_json(module | {"aliases": {"default": 1}}),
    }
    code, out, err, sent = ask(capsys, script, "attach", "animals", "owl", "jay", "--alias", "stable")
    assert (code, out) == (0, "animals:2  network with 1 clone  sha256:abababababab\n")
    assert "`graftery alias animals default 2` moves it" in err
    assert sent == [{"clones": ["owl", "jay"], "alias": "stable"}]
    code, out, err, sent = ask(capsys, script, "detach", "animals:2", "owl", "--name", "animals")
    assert (code, out, err) == (0, "animals:1  network without clones  sha256:abababababab\n", "")
    assert sent == [{"clones": ["owl"], "name": "animals"}]
    code, out, _, _ = ask(capsys, script, "attach", "animals", "owl", "--json")
    assert json.loads(out)["parts"]["clones"] == ["c" * 64]


@pytest.mark.parametrize(
    "arguments",
    [
        ["clone", "birds", "animals", "--samples", "few", "--name", "owl"],
        ["clone", "birds", "--want", "owl", "--samples", "few", "--name", "owl"],
        ["attach", "animals"],
        ["detach", "animals"],
    ],
)
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err, sent = ask(capsys, {}, *arguments)
    assert (code, sent) == (2, []) and err.startswith("error[usage]: ")
