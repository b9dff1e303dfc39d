"""Real servers for the tests: from the environment, else started once a run and shared by its workers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import redis
from filelock import FileLock, Timeout
from psycopg import sql
from sqlalchemy import make_url

_FOLDER = "GRAFTERY_TEST_SERVERS"
_OWNER = "GRAFTERY_TEST_SERVERS_OWNER"
START_S = 60.0
MEMORY_BYTES = 2 * 1024**3


def open_folder() -> None:
    """Called once a run, before its workers start: they inherit the folder where servers are found."""
    folder = tempfile.mkdtemp(prefix="graftery-servers-", dir=memory())
    Path(folder).chmod(0o755)  # PostgreSQL may run as another user
    os.environ[_FOLDER], os.environ[_OWNER] = folder, str(os.getpid())


def memory() -> str | None:
    """A disk in memory where there is one with room: servers start and write much faster there."""
    shm = Path("/dev/shm")
    return str(shm) if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free > MEMORY_BYTES else None


def folder() -> Path:
    """A fast folder that lasts as long as the run."""
    return Path(os.environ[_FOLDER])


def close_folder() -> None:
    """Stop every server of the run and remove its folder."""
    folder = Path(os.environ.pop(_FOLDER))
    pids = [int(path.read_text()) for path in folder.glob("*.pid")]
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while any(map(_runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    """A keeper started by this process is its child until it is waited for; one of a worker's is not."""
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return _signal(pid, 0)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def server(kind: str) -> str:
    """The URL of the run's server of this kind (`postgresql`, `redis`, `seaweedfs`), started by whoever asks first."""
    folder = Path(os.environ[_FOLDER])
    with FileLock(folder / f"{kind}.lock"):
        home = folder / kind
        if not (home / "url").exists():
            _start(kind, home)
        return (home / "url").read_text()


def _start(kind: str, home: Path) -> None:
    home.mkdir(exist_ok=True)
    home.chmod(0o777)
    keeper = Path(__file__).with_name("keeper.py")
    log = home.with_suffix(".log")
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, keeper, kind, home, os.environ[_OWNER]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C ends the tests first, and they end their servers
        )
    home.with_suffix(".pid").write_text(str(process.pid))
    deadline = time.monotonic() + START_S
    while not (home / "url").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the {kind} server for the tests did not start:\n{log.read_text()}")
        time.sleep(0.02)


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """An empty database of one's own, dropped at the end whoever is still connected."""
    name = sql.Identifier(f"graftery_{uuid4().hex[:16]}")
    admin = _plain(server_url)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
    try:
        yield make_url(server_url).set(database=name.as_string().strip('"')).render_as_string(hide_password=False)
    finally:
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def new_redis() -> Iterator[str]:
    """The URL of an empty Redis database that nothing else of the run uses.

    Two services in one database take each other's messages, and a job then waits for a poll. Of the server that
    TEST_REDIS_URL names, databases from the URL's own number onwards are emptied and used.
    """
    base = os.environ.get("TEST_REDIS_URL") or server("redis")
    with redis.Redis.from_url(base) as connection:
        first = int(connection.connection_pool.connection_kwargs.get("db") or 0)
        count = int(connection.config_get("databases")["databases"])
    number, claim = _claimed(range(first, count))
    url = urlsplit(base)._replace(path=f"/{number}").geturl()
    try:
        with redis.Redis.from_url(url) as connection:
            connection.flushdb()
        yield url
    finally:
        claim.release()


def _claimed(numbers: range) -> tuple[int, FileLock]:
    """A number that no process of the run holds. The system lets go of what a process that died held."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        for number in numbers:
            claim = FileLock(folder() / f"redis-database-{number}.lock")
            with suppress(Timeout):
                claim.acquire(timeout=0)
                return number, claim
        time.sleep(0.1)
    raise RuntimeError(f"all {len(numbers)} Redis databases are in use; give TEST_REDIS_URL a server with more")


def _plain(url: str) -> str:
    return url.replace("postgresql+psycopg://", "postgresql://")


def empty(url: str, tables: Iterable[str]) -> None:
    """Delete all rows of the tables, in this order, and end whatever an earlier test left connected.

    Much faster than TRUNCATE or a new database where a test writes few rows.
    """
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(_plain(url), autocommit=True) as connection:
        connection.execute(others)
        for table in tables:
            connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
