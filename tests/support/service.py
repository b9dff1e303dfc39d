"""A real service for tests: `python -m app.serve` with its API, its worker and its inference, on SQLite."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from graftery.client.http import Client
from tests.support.processes import eventually, running

START_S = 90.0
END_S = 20.0


@dataclass(frozen=True)
class Service:
    url: str
    home: Path
    process: subprocess.Popen[bytes]

    def client(self) -> Client:
        return Client(self.url)

    @property
    def log(self) -> str:
        return (self.home / "serve.log").read_text(errors="replace")


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[Service]:
    """The service, ready; at the end it has ended cleanly and nothing of it is left.

    Args:
        settings: GRAFTERY_... by their names in lower case: `planes="registry"`.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "serve.log").open("wb") as log:
        command = ("app.serve", "--home", str(home), "--port", "0")
        with running(command, _environment(settings), stdout=log.fileno(), stderr=log.fileno()) as process:
            address = home / "serve.json"
            assert eventually(lambda: address.exists() or process.poll() is not None, START_S), (
                "it is not ready in time"
            )
            assert process.poll() is None, (home / "serve.log").read_text()[-3000:]
            yield Service(json.loads(address.read_text())["url"], home, process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_S) == 0


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GRAFTERY_")}
    given = {f"GRAFTERY_{name.upper()}": value for name, value in settings.items()}
    # Deriving a module takes seconds of a core: tests that are about it say so.
    return {**plain, "OMP_NUM_THREADS": "1", "GRAFTERY_THREADS": "1", "GRAFTERY_FAST_FORMS": "off", **given}


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for all tests of a process that do not mind each other's names."""
    with serving(tmp_path_factory.mktemp("service")) as started:
        yield started
