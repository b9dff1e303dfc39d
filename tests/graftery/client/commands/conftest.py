from __future__ import annotations

from collections.abc import Callable

import pytest

from graftery.client.cli import run
from tests.support.scripted import Script, scripted

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def graftery(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs a command line against a script; gives exit code, standard output and standard error."""

    def call(script: Script, *arguments: str) -> tuple[int, str, str]:
        with scripted(script) as server:
            monkeypatch.setenv("GRAFTERY_URL", server.url)
            code = run(arguments)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
