"""The app over SQLite, asked through real requests."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.deps import Service
from app.main import create_app
from app.requests.prechecks import Prechecks
from graftery.spec.limits import Limits
from registry.settings import Settings
from tests.support.verifiers import SharedPrecheckers, SharedVerifier


@pytest.fixture(scope="session")
def verifier() -> Iterator[SharedVerifier]:
    made = SharedVerifier(Limits())
    made.start()
    yield made
    made.end()


@pytest.fixture(scope="session")
def precheckers() -> Iterator[SharedPrecheckers]:
    made = SharedPrecheckers()
    yield made
    made.end()


@pytest.fixture
def app_settings(_sqlite_template: Path, tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(_sqlite_template, home / "graftery.db")
    return Settings(home=home, planes=frozenset({"registry"}), free_bytes=0)


@pytest.fixture
def app(app_settings: Settings, verifier: SharedVerifier) -> FastAPI:
    """Without pre-checks: the transplants of most tests only wait in the queue."""
    made = create_app(app_settings)
    made.state.service = replace(made.state.service, verifier=verifier, prechecks=Prechecks(made.state.store, None))
    return made


@pytest.fixture
def service(app: FastAPI) -> Service:
    found: Service = app.state.service
    return found


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as made:
        yield made
