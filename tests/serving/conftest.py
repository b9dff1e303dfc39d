"""A small registry and an app with the inference plane mounted: function-wide in this process, session-wide behind a port."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from registry.db import Database
from registry.settings import Settings
from registry.store import Store
from tests.support.inference import mounted
from tests.support.uvicorn import serving
from tests.support.world import World, build, compose_photos


@pytest.fixture(scope="session")
def built_world(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once a run: tests change copies of it."""
    home = tmp_path_factory.mktemp("built") / "home"
    home.mkdir()
    shutil.copy(_sqlite_template, home / "graftery.db")
    made = build(Settings(home=home, free_bytes=0, device="cpu"))
    compose_photos(made)
    made.database.dispose()
    return made


def copy_of(world: World, home: Path) -> World:
    shutil.copytree(world.settings.home, home)
    settings = world.settings.model_copy(update={"home": home})
    settings.__dict__.pop("database", None)  # cached for the other home
    return World(settings, Database(settings.database), Store(settings), dict(world.networks))


@pytest.fixture
def world(built_world: World, tmp_path: Path) -> Iterator[World]:
    made = copy_of(built_world, tmp_path / "home")
    yield made
    made.database.dispose()


@pytest.fixture
def app(world: World) -> FastAPI:
    return mounted(world)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as made:
        yield made


@pytest.fixture(scope="session")
def live_world(built_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = copy_of(built_world, tmp_path_factory.mktemp("live") / "home")
    yield made
    made.database.dispose()


@pytest.fixture(scope="session")
def addresses(live_world: World) -> Iterator[tuple[str, str]]:
    """host:port of a real uvicorn in a thread, and of the gRPC server beside it."""
    app = mounted(live_world, live_world.settings.model_copy(update={"grpc_port": 0}))
    with serving(app) as server:
        yield f"127.0.0.1:{server.address[1]}", f"127.0.0.1:{app.state.grpc_port}"


@pytest.fixture(scope="session")
def address(addresses: tuple[str, str]) -> str:
    return addresses[0]


@pytest.fixture(scope="session")
def grpc_address(addresses: tuple[str, str]) -> str:
    return addresses[1]
