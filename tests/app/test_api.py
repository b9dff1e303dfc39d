"""The API process: it refuses a schema that it does not know, and when asked to end it drains first."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import uvicorn
from fastapi.testclient import TestClient
from sqlalchemy import text
from sse_starlette.sse import AppStatus

from app.api import Server
from app.deps import Service
from app.main import create_app
from registry.db import Database
from registry.settings import Settings
from tests.support.processes import environment, eventually, running

START_S = 60.0


@pytest.fixture(autouse=True)
def _streams_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that ends in this process would tell all streams of events of the tests to come to end as well."""
    monkeypatch.setattr(AppStatus, "should_exit", False)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _get(port: int, path: str) -> http.client.HTTPResponse | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError):
        connection.request("GET", path)
        return connection.getresponse()
    return None


def _status(port: int, path: str) -> int | None:
    answer = _get(port, path)
    return None if answer is None else answer.status


@contextmanager
def _api(settings: Settings, stderr: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    with running(["app.api"], environment(settings), stderr=stderr) as process:
        yield process


def _at_revision(settings: Settings, revision: str) -> None:
    database = Database(settings.database)
    with database.transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
    database.dispose()


@pytest.mark.parametrize(("revision", "words"), [("9999", "does not know"), ("0001", "python -m migrations")])
def test_a_schema_that_is_not_known_is_refused(app_settings: Settings, revision: str, words: str) -> None:
    _at_revision(app_settings, revision)
    settings = app_settings.model_copy(update={"port": _free_port(), "prechecks": 0})
    with _api(settings, stderr=subprocess.PIPE) as process:
        assert process.wait(START_S) == 1
        assert process.stderr is not None
        said = process.stderr.read().decode().strip().splitlines()
    assert len(said) == 1 and f"schema {revision}" in said[0] and words in said[0]


def test_asked_to_end_it_says_so_and_answers_on(app_settings: Settings) -> None:
    port = _free_port()
    settings = app_settings.model_copy(update={"port": port, "drain_s": 2.0, "prechecks": 0})
    with _api(settings) as process:
        assert eventually(lambda: _status(port, "/health/ready") == 200, START_S)
        process.send_signal(signal.SIGTERM)
        asked_at = time.monotonic()
        assert eventually(lambda: _status(port, "/health/ready") == 503, 1.0)
        answer = _get(port, "/v1/modules")
        assert answer is not None and answer.status == 200
        assert answer.getheader("Connection") == "close", "a proxy is to take its next connection elsewhere"
        process.wait(20)
        assert time.monotonic() - asked_at >= 2.0
        assert _status(port, "/health/live") is None


def test_a_second_signal_ends_the_drain(service: Service) -> None:
    server = Server(uvicorn.Config(create_app), service.draining, drain_s=600.0)
    server.handle_exit(signal.SIGTERM, None)
    assert service.draining.is_set() and not server.should_exit
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit


def test_without_a_drain_it_ends_at_once(service: Service) -> None:
    server = Server(uvicorn.Config(create_app), service.draining, drain_s=0.0)
    server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit


def test_readiness_tells_of_the_drain(client: TestClient, service: Service) -> None:
    service.draining.set()
    ready = client.get("/health/ready")
    assert ready.status_code == 503
    assert "is ending" in ready.json()["checks"]["process"]
    assert client.get("/v1/modules").status_code == 200


def test_inference_tells_of_the_drain(_sqlite_template: Path) -> None:
    app = create_app(Settings(database_url=f"sqlite:///{_sqlite_template}", planes=frozenset({"inference"})))
    with TestClient(app) as client:
        assert client.get("/v2/health/ready").status_code == 200
        app.state.service.draining.set()
        assert "is ending" in client.get("/v2/health/ready").json()["error"]
        assert client.get("/v2/health/live").status_code == 200
