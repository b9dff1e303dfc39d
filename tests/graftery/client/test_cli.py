"""The command line against a scripted server: what is printed where, and with what exit code."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graftery.client.cli import COMPAT, GROUPS, run
from graftery.spec.graphs import draw
from graftery.spec.lineage import LineageOut
from tests.support.scripted import Answer, Asked, Script, as_json, problem, scripted

AT = "2026-01-02T03:04:05Z"
Make = Callable[..., dict[str, Any]]
VERBS = [name for verbs in GROUPS.values() for name in verbs]
LOCAL = {"serve", "layers", "export", "import"}


@pytest.fixture
def graftery(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line against a script; gives exit code, standard output and standard error."""

    def call(script: Script, *arguments: str) -> tuple[int, str, str]:
        with scripted(script) as server:
            monkeypatch.setenv("GRAFTERY_URL", server.url)
            code = run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def events(*events: tuple[str, dict[str, Any]]) -> Callable[[Asked], Answer]:
    documents = [{"seq": seq, "type": kind, "at": AT, "data": data} for seq, (kind, data) in enumerate(events, 1)]
    body = "".join(f"data: {json.dumps(document)}\n\n" for document in documents)
    return lambda _: Answer(200, body.encode(), {"Content-Type": "text/event-stream"})


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_has_examples_that_are_this_verb_s(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"graftery {verb}" in out.split("Examples:")[1]


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in LOCAL])
def test_every_verb_takes_url_and_json(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    run([verb, "--help"])
    out = capsys.readouterr().out
    assert "--url" in out
    assert "--json" in out


def test_the_verbs_of_the_contract_are_there() -> None:
    promised = "push pull list inspect alias yank delete transplant jobs watch infer serve collect"
    assert set(promised.split()) <= set(VERBS)


def test_an_error_is_one_line(graftery: Callable[..., tuple[int, str, str]]) -> None:
    refuse = lambda _: problem("not_found", 404, "there is\nno ca", near=["cat", "cats"], hint="look")  # noqa: E731
    code, out, err = graftery({"GET /v1/versions/ca": refuse}, "inspect", "ca")
    assert (code, out) == (1, "")
    assert err == "error[not_found]: there is no ca (look; did you mean cat or cats?)\n"


def test_dependents_are_named(graftery: Callable[..., tuple[int, str, str]]) -> None:
    refuse = lambda _: problem("has_dependents", 409, "cat:1 is in use", dependents=["n:1"])  # noqa: E731
    code, _, err = graftery({"DELETE /v1/versions/cat:1": refuse}, "delete", "cat:1", "--yes")
    assert (code, err) == (1, "error[has_dependents]: cat:1 is in use (used by n:1)\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["psuh"],
        ["push"],
        ["push", "cat"],
        ["push", "cat", "f", "--net", "a:b"],
        ["push", "cat", "f", "--teacher"],
        ["push", "cat", "f", "--samples", "--cut", "a"],
        ["push", "cat", "--net", "a:b"],
        ["alias", "cat", "stable"],
        ["alias", "cat", "stable", "3", "--remove"],
        ["alias", "cat", "stable", "three"],
        ["lineage", "cat", "--up", "--both"],
        ["lineage", "cat", "--dot", "--json"],
        ["yank", "cat:1"],
        ["transplant", "cat", "is", "--name", "n", "--recipe", "{"],
        ["transplant", "cat", "is", "--name", "n", "--recipe", "nofile.json"],
        ["transplant", "cat", "is"],
        ["jobs", "--limit", "0"],
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], graftery: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = graftery({}, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error[usage]: ")
    assert err.count("\n") == 1


def test_nothing_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "--url", "http://127.0.0.1:9"]) == 1
    assert "start it with `graftery serve`, or give --url / GRAFTERY_URL" in capsys.readouterr().err


def test_list_as_a_table_and_as_json(graftery: Callable[..., tuple[int, str, str]]) -> None:
    module = {"name": "cat", "kind": "category", "versions": 3, "latest": 3, "aliases": {"stable": 2}}
    page = {"items": [module | {"created_at": AT, "updated_at": AT, "tags": ["a" * 200]}], "next": None}
    script: Script = {"GET /v1/modules": lambda _: as_json(page)}
    _, out, err = graftery(script, "list")
    assert re.search(r"^cat +category +3 +3 +stable=2 +a{200} +20", out, re.MULTILINE)
    assert err == ""
    _, out, _ = graftery(script, "list", "--json")
    assert [entry["name"] for entry in json.loads(out)] == ["cat"]


def test_push_prints_the_version(graftery: Callable[..., tuple[int, str, str]], version: Make, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"module")
    script: Script = {"PUT /v1/modules/cat": lambda _: as_json(version(), 201)}
    code, out, err = graftery(script, "push", "cat", str(tmp_path / "m"))
    assert (code, out) == (0, "cat:1  category  2.05 kB  sha256:abababababab\n")
    assert "push cat: 6 B of 6 B" in err
    _, out, _ = graftery(script, "push", "cat", str(tmp_path / "m"), "--json")
    assert json.loads(out)["ref"] == "cat:1"


def test_push_of_a_teacher_names_what_it_became(
    graftery: Callable[..., tuple[int, str, str]], version: Make, tmp_path: Path
) -> None:
    (tmp_path / "m").write_bytes(b"net")
    task = version("n-is", kind="task")
    parts = {"teacher": version("n-teacher"), "category": version("n"), "tasks": {"is": task}, "networks": {}}
    script: Script = {"PUT /v1/teachers/n": lambda _: as_json(parts, 201)}
    _, out, _ = graftery(script, "push", "n", str(tmp_path / "m"), "--cut", "features.4")
    assert [line.split()[0] for line in out.splitlines()] == ["n:1", "n-is:1", "n-teacher:1"]


def test_inspect_shows_a_card(graftery: Callable[..., tuple[int, str, str]], version: Make) -> None:
    shown = version(
        kind="network", aliases=["default"], yanked=True, yank_reason="bad", metrics={"adapter": {"accuracy": 0.98125}}
    )
    edges = [
        {"child": "cat:1", "parent": "dog:2", "role": "category"},
        {"child": "dog:2", "parent": "x:1", "role": "teacher"},
    ]
    script: Script = {
        "GET /v1/versions/cat": lambda _: as_json(shown),
        "GET /v1/versions/cat:1/lineage": lambda _: as_json(
            {"root": "cat:1", "direction": "up", "nodes": [], "edges": edges}
        ),
    }
    _, out, _ = graftery(script, "inspect", "cat")
    for text in ("cat:1\n", "kind", "yanked: bad", "default", "2.05 kB", "dog:2 (as category)", "accuracy 0.9812"):
        assert text in out
    assert "x:1" not in out


def test_lineage_is_a_tree_or_a_graph(graftery: Callable[..., tuple[int, str, str]]) -> None:
    asked: list[Asked] = []

    def answer(request: Asked) -> Answer:
        asked.append(request)
        nodes = [
            {"ref": "cat:1", "kind": "category", "digest": "d"},
            {"ref": "dog:2", "kind": "teacher", "digest": "d"},
        ]
        edges = [{"child": "cat:1", "parent": "dog:2", "role": "teacher"}]
        return as_json({"root": "cat:1", "direction": request.query["direction"][0], "nodes": nodes, "edges": edges})

    def lineage(*options: str) -> str:
        code, out, err = graftery({"GET /v1/versions/cat/lineage": answer}, "lineage", "cat", *options)
        assert (code, err) == (0, "")
        return out

    assert lineage() == lineage("--up") == "cat:1  category\n  dog:2  teacher (as teacher)\n"
    assert lineage("--down") == "cat:1  category\n"
    assert lineage("--both").splitlines()[1] == "  made from:"
    assert [request.query["direction"] for request in asked] == [["up"], ["up"], ["down"], ["both"]]
    document = json.loads(lineage("--both", "--json"))
    for how in ("dot", "mermaid"):
        assert lineage("--both", f"--{how}") == draw(LineageOut.model_validate(document), how)  # type: ignore[arg-type]


def test_what_is_no_file_and_no_reference(graftery: Callable[..., tuple[int, str, str]]) -> None:
    assert graftery({}, "inspect", "./cat.safetensors")[2] == "error[not_found]: there is no file ./cat.safetensors\n"


TRAIN = [("state", {"state": "running"}), ("progress", {"phase": "train", "step": 1, "steps": 2, "loss": 0.51234})]


def following(job_out: dict[str, Any]) -> Script:
    return {
        "POST /v1/transplants": lambda _: as_json(job_out | {"state": "queued", "error": None, "result": None}, 202),
        "GET /v1/jobs/j1": lambda _: as_json(job_out),
        "GET /v1/jobs/j1/events": events(*TRAIN, ("state", {"state": job_out["state"]})),
    }


def test_transplant_follows_its_job(graftery: Callable[..., tuple[int, str, str]], job: Make) -> None:
    metrics = {"adapter": {"accuracy": 0.98}, "adapter_interval": {"accuracy": [0.97, 0.99]}}
    result = {"network": "n:1", "adapter": "n-adapter:1", "metrics": metrics}
    script = following(job("succeeded", result=result))
    code, out, err = graftery(script, "transplant", "cat", "is", "--name", "n")
    assert code == 0
    assert out == "transplant succeeded  network n:1  adapter n-adapter:1\n  adapter  accuracy 0.98 [0.97, 0.99]\n"
    assert err.splitlines() == ["job j1", "job running", "train 1/2 loss 0.5123", "job succeeded"]


READY = {
    "status": "ready",
    "features": [4, 8, 8],
    "wanted": [6, None, None],
    "identity": False,
    "layers": ["1x1 convolution 4 to 6", "3x3 convolution 6 to 6"],
    "parameters": 1234,
    "images": 64,
    "residual": 0.25,
    "cka": 0.875,
    "neighbours": [
        {"name": "dog:1", "residual": 0.25, "cka": 0.875},
        {"name": "cow:1", "reason": "its preprocessing is another"},
    ],
}


def test_precheck_is_a_card(graftery: Callable[..., tuple[int, str, str]]) -> None:
    asked: list[Asked] = []

    def answer(request: Asked) -> Answer:
        asked.append(request)
        return as_json({"status": "running"} if request.nth == 1 else READY)

    code, out, _ = graftery({"GET /v1/prechecks": answer}, "precheck", "cat", "is", "--seed", "3", "--layers", "1")
    assert code == 0
    assert asked[0].query == {"category": ["cat"], "task": ["is"], "seed": ["3"], "layers": ["1"]}
    assert [line.split() for line in out.splitlines()] == [
        ["cat", "in", "is"],
        [
            "features",
            "[4,",
            "8,",
            "8]",
            "does",
            "not",
            "fit",
            "as",
            "it",
            "is",
            "where",
            "the",
            "task",
            "takes",
            "[6,",
            "any,",
            "any]",
        ],
        [
            "adapter",
            "1x1",
            "convolution",
            "4",
            "to",
            "6,",
            "3x3",
            "convolution",
            "6",
            "to",
            "6:",
            "1,234",
            "parameters",
        ],
        ["likeness", "residual", "0.25", "CKA", "0.875"],
        ["to", "dog:1", "residual", "0.25", "CKA", "0.875"],
        ["to", "cow:1", "not", "measured:", "its", "preprocessing", "is", "another"],
        ["on", "64", "noise", "images;", "a", "hint,", "not", "an", "accuracy"],
    ]
    _, out, _ = graftery({"GET /v1/prechecks": lambda _: as_json(READY)}, "precheck", "cat", "is", "--json")
    assert json.loads(out)["residual"] == 0.25


def test_a_precheck_that_is_not_there_says_why(graftery: Callable[..., tuple[int, str, str]]) -> None:
    gone = {"status": "unavailable", "reason": "switched off"}
    _, out, _ = graftery({"GET /v1/prechecks": lambda _: as_json(gone)}, "precheck", "cat", "is")
    assert out.splitlines()[1].split(maxsplit=1) == ["pre-check", "unavailable: switched off"]


def test_transplant_tells_what_is_known_before(graftery: Callable[..., tuple[int, str, str]], job: Make) -> None:
    for known, said in ((READY, "likeness  residual 0.25  CKA 0.875"), ({"status": "running"}, "has it later")):
        script: Script = {"POST /v1/transplants": lambda _, known=known: as_json(job() | {"precheck": known}, 202)}
        _, out, err = graftery(script, "transplant", "cat", "is", "--name", "n", "--no-watch")
        assert said in err
        assert out == "j1  transplant  queued\n"
        _, out, err = graftery(script, "transplant", "cat", "is", "--name", "n", "--no-watch", "--json")
        assert (json.loads(out)["precheck"]["status"], err) == (known["status"], "")


def test_transplant_in_a_script(graftery: Callable[..., tuple[int, str, str]], job: Make) -> None:
    script = following(job("succeeded", result={"network": "n:1"}))
    _, out, err = graftery(script, "transplant", "cat", "is", "--name", "n", "--no-watch", "--json")
    assert (json.loads(out)["state"], err) == ("queued", "")
    _, out, _ = graftery(script, "transplant", "cat", "is", "--name", "n", "--json")
    assert json.loads(out)["state"] == "succeeded"


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_job_that_fails_is_an_error(
    graftery: Callable[..., tuple[int, str, str]], job: Make, more: list[str]
) -> None:
    script = following(job("failed", error={"code": "diverged", "message": "NaN at step 7"}))
    code, out, err = graftery(script, "transplant", "cat", "is", "--name", "n", *more)
    assert code == 1
    assert err.splitlines()[-1] == "error[diverged]: job j1 failed: NaN at step 7"
    assert (json.loads(out)["state"] if more else out) == ("failed" if more else "")


def test_the_recipe_is_the_file_with_the_options_over_it(
    graftery: Callable[..., tuple[int, str, str]], job: Make, tmp_path: Path
) -> None:
    (tmp_path / "recipe.json").write_text('{"steps": 5, "seed": 3, "sources": ["noise"]}')
    asked: list[Asked] = []

    def keep(request: Asked) -> Answer:
        asked.append(request)
        return as_json(job(), 202)

    options = ["--steps", "9", "--objective", "direct", "--objective", "distillation=4", "--labels", "100"]
    graftery(
        {"POST /v1/transplants": keep},
        *("transplant", "cat", "is", "--name", "n", "--samples", "s", "--no-watch"),
        *("--recipe", str(tmp_path / "recipe.json"), *options),
    )
    assert asked[0].json()["samples"] == "s"
    assert asked[0].json()["recipe"] == {
        "steps": 9,
        "seed": 3,
        "labels": 100,
        "sources": ["noise"],
        "objectives": {"direct": 1.0, "distillation": 4.0},
    }


def test_watch_in_a_script_is_one_event_a_line(graftery: Callable[..., tuple[int, str, str]], job: Make) -> None:
    code, out, err = graftery(following(job("succeeded")), "watch", "j1", "--json")
    assert [json.loads(line)["seq"] for line in out.splitlines()] == [1, 2, 3]
    assert (code, err) == (0, "")


def test_ctrl_c_ends_the_watching_and_says_that_the_job_goes_on(job: Make) -> None:
    def endless(_: Asked) -> Answer:
        return Answer(200, events(*TRAIN)(_).body, {"Content-Type": "text/event-stream"}, declared=10**6)

    script: Script = {"GET /v1/jobs/j1": lambda _: as_json(job("running")), "GET /v1/jobs/j1/events": endless}
    with scripted(script) as server:
        command = [sys.executable, "-m", "graftery.client.cli", "watch", "j1", "--url", server.url]
        # What a shell starts with & ignores SIGINT, and so would this test's children.
        heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        pipe = subprocess.PIPE
        watcher = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heeding)
        assert watcher.stderr is not None
        assert watcher.stderr.readline() == "job running\n"
        watcher.send_signal(signal.SIGINT)
        out, err = watcher.communicate(timeout=20)
    assert (watcher.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "job j1 goes on: `graftery watch j1` follows it, `graftery cancel j1` ends it"


def test_infer(graftery: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    outputs = [{"name": "is", "datatype": "FP32", "shape": [2, 1], "data": [0.5, -1]}]
    script: Script = {
        "GET /v2/models/n": lambda _: as_json({"inputs": [{"name": "x0", "datatype": "FP32", "shape": [-1, 2]}]}),
        "POST /v2/models/n/infer": lambda _: as_json({"outputs": outputs}),
    }
    np.save(tmp_path / "x.npy", np.ones((2, 2)))
    (tmp_path / "x.json").write_text("[[1, 2], [3, 4]]")
    _, out, _ = graftery(script, "infer", "n", "--input", str(tmp_path / "x.npy"), "--json")
    assert json.loads(out) == {"output": [[0.5], [-1.0]]}
    y = tmp_path / "y.npy"
    code, out, _ = graftery(script, "infer", "n", "--input", str(tmp_path / "x.json"), "--output", str(y))
    assert (code, out) == (0, "")
    np.testing.assert_array_equal(np.load(y), [[0.5], [-1]])
    (tmp_path / "x.npy").write_bytes(b"nothing")
    code, _, err = graftery(script, "infer", "n", "--input", str(tmp_path / "x.npy"))
    assert code == 1
    assert err.startswith("error[inference_invalid]")


def test_serve_becomes_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: called.append(arguments))
    assert run(["serve", "--home", str(tmp_path), "--port", "0"]) == 0
    assert called == [[sys.executable, "-P", "-m", "app.serve", "--home", str(tmp_path), "--port", "0"]]


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    item = {"name": "n" * 100, "kind": "task", "versions": 1, "created_at": AT, "updated_at": AT}
    page = {"items": [item] * 2000, "next": None}
    with scripted({"GET /v1/modules": lambda _: as_json(page)}) as server:
        command = [sys.executable, "-m", "graftery.client.cli", "list", "--json", "--url", server.url]
        lister = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert lister.stdout is not None
        time.sleep(0.1)
        lister.stdout.read(10)
        lister.stdout.close()
        assert lister.stderr is not None
        assert lister.stderr.read() == b""
        lister.wait(timeout=20)
        lister.stderr.close()


def test_every_verb_is_documented() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs/cli.md").read_text()
    assert set(VERBS) - set(re.findall(r"`([a-z]+)(?: |`)", text)) == set()
    assert set(COMPAT) - set(re.findall(r"`compat ([a-z]+)(?: |`)", text)) == set()
