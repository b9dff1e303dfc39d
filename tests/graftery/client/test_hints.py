"""What the command line says beside a refusal, to a person who reads it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from graftery.client.cli import run
from tests.support.scripted import problem, scripted


def test_names_that_the_service_said_are_not_said_again(capsys: pytest.CaptureFixture[str]) -> None:
    near = problem("not_found", 404, "There is no module named 'ca'", near=["cat", "cats"], hint="there is cat, cats")
    used = problem("has_dependents", 409, "n:1, m:1 depend on it", dependents=["n:1", "m:1", "o:1"])
    with scripted({"GET /v1/versions/ca": lambda _: near, "DELETE /v1/versions/cat:1": lambda _: used}) as server:
        run(["inspect", "ca", "--url", server.url])
        run(["delete", "cat:1", "--yes", "--url", server.url])
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error[not_found]: There is no module named 'ca' (there is cat, cats)"
    assert second == "error[has_dependents]: n:1, m:1 depend on it (used by o:1)"


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_arrays_are_not_sent_as_a_module(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with scripted({}) as server:
        assert run(["push", "cats", str(tmp_path / f"cats{suffix}"), "--url", server.url]) == 2
        assert not server.asked
    assert "--samples publishes it as a sample set" in capsys.readouterr().err


def test_a_recipe_is_checked_before_it_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted({}) as server:
        asked = ["transplant", "cat", "is", "--name", "n", "--url", server.url]
        assert run([*asked, "--recipe", '{"lerning_rate": 0.1}']) == 1
        assert run([*asked, "--seed", str(2**53)]) == 1
        assert not server.asked
    first, second = capsys.readouterr().err.splitlines()
    assert first == "error[recipe_invalid]: lerning_rate: there is no such field; did you mean learning_rate?"
    assert second.startswith(
        "error[recipe_invalid]: seed: 9007199254740992 is not allowed: it has to be a whole number"
    )
