"""A small registry and an app with the inference plane mounted: function-wide in this process, session-wide behind a port."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from registry.db import Database
from registry.settings import Settings
from registry.store import Store
from serving import openinference
from tests.support.world import World, build


@pytest.fixture(scope="session")
def built_world(_sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Built once a run: tests change copies of it."""
    home = tmp_path_factory.mktemp("built") / "home"
    home.mkdir()
    shutil.copy(_sqlite_template, home / "graftery.db")
    made = build(Settings(home=home, free_bytes=0, device="cpu"))
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
    made = FastAPI()
    openinference.mount(made, world.settings, world.database, world.store)
    return made


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
def address(live_world: World) -> Iterator[str]:
    """host:port of a real uvicorn in a thread."""
    app = FastAPI()
    openinference.mount(app, live_world.settings, live_world.database, live_world.store)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=10)
