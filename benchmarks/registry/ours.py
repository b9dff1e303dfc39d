"""Our processes as a deployment starts them: `python -m app.api` and `python -m worker`, with settings by environment."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from sqlalchemy import URL

from benchmarks.registry.backing import plain
from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.processes import BenchError, Tree, cores, free_port, wait_until
from registry.db import upgrade
from registry.settings import Settings

QUIET_SHARE, QUIET_S, SETTLE_S = 0.05, 0.5, 120.0


def settings(home: Path, database: URL | None = None, **more: object) -> Settings:
    """Those of our processes; without a database, SQLite under the home."""
    url = None if database is None else plain(database)
    return Settings(home=home, database_url=url, **more)  # type: ignore[arg-type]


def prepare(chosen: Settings) -> None:
    """The home, and the schema as the migrations make it."""
    chosen.home.mkdir(parents=True, exist_ok=True)
    upgrade(chosen)


def api(chosen: Settings, core: int | None = None) -> Running:
    """Start the API over a schema that is there; back when it is ready and idle, its children warm."""
    port = free_port()
    tree = _tree("app.api", chosen, {"GRAFTERY_PORT": str(port)}, core)
    try:
        wait_until(tree, f"http://127.0.0.1:{port}/health/ready", "our API")
        settle(tree)
    except BaseException:
        tree.end()
        raise
    tree.pin()
    return Running("ours", tree, port, "", "")


def worker(chosen: Settings, number: int, core: int | None = None) -> Tree:
    """Start a worker; who waits for it looks at what it does."""
    return _tree("worker", chosen, {}, core, f"worker-{number}")


def _tree(module: str, chosen: Settings, more: dict[str, str], core: int | None, name: str = "api") -> Tree:
    environment = {
        "PYTHONPATH": str(ROOT),
        "GRAFTERY_HOME": str(chosen.home),
        "GRAFTERY_LOG_LEVEL": "warning",
        "GRAFTERY_PLANES": "registry",
        "GRAFTERY_DEVICE": "cpu",
        "GRAFTERY_THREADS": "1",
        "GRAFTERY_POLL_S": str(chosen.poll_s),
    }
    if chosen.database_url is not None:
        environment["GRAFTERY_DATABASE_URL"] = chosen.database_url
    if chosen.broker_url is not None:
        environment["GRAFTERY_BROKER_URL"] = chosen.broker_url
    command = [sys.executable, "-m", module]
    return Tree(command, environment | more, core, chosen.home, chosen.home / f"{name}.log")


def settle(tree: Tree) -> None:
    """Wait until the tree uses no CPU to speak of: its children have loaded what they load.

    Raises:
        BenchError: it does not come to rest.
    """
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        before = tree.cpu_s()
        time.sleep(QUIET_S)
        if tree.ended:
            raise BenchError(f"it ended: {tree.last_words()}")
        if tree.cpu_s() - before < QUIET_SHARE * QUIET_S:
            return
    raise BenchError(f"it did not come to rest within {SETTLE_S:.0f} s")


def server_core() -> int:
    return cores()[1]
