"""`python -m app.serve`: the whole service on one machine, as `graftery serve` starts it.

One supervisor a home. It upgrades the database, binds the address, starts the API and the workers as processes,
starts again what dies, and ends all of it on Ctrl-C or SIGTERM; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock, Timeout
from pydantic import ValidationError

from app.supervisor import Part, end_all
from graftery.errors import Conflict, GrafteryError, Unavailable
from registry.access.guard import check_can_start
from registry.db import Database, upgrade
from registry.logs import configure
from registry.settings import Settings

_READY_S = 120.0
_GRACE_S = 8.0
_TICK_S = 0.1
_PROBE_S = 0.5
_BACKLOG = 2048


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal; 0 after a clean end, 1 with one line on stderr where it cannot start."""
    try:
        settings = _settings(arguments)
        configure(settings)
        _serve(settings)
    except GrafteryError as error:
        sys.stderr.write(f"graftery serve: {error}\n")
        return 1
    return 0


def _settings(arguments: Sequence[str] | None) -> Settings:
    parser = argparse.ArgumentParser(prog="graftery serve", description="Serve registry, jobs and inference.")
    parser.add_argument("--home", help="folder for database, bytes and locks")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", help="port to listen on (8080); 0 takes a free one")
    parser.add_argument("--grpc-port", help="port on which inference answers gRPC too (none); 0 takes a free one")
    parser.add_argument("--workers", help="job workers to start (1)")
    parser.add_argument("--planes", help="what runs here: registry,inference,worker (all of them)")
    parser.add_argument("--access", choices=["auto", "keys", "open"], help="who may ask (auto)")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise GrafteryError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", code="request_invalid") from error


def _serve(settings: Settings) -> None:
    home = settings.home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home), _listen(settings.host, settings.port, "--port") as listening, _signals() as stop:
        (home / "serve.json").unlink(missing_ok=True)  # of one that was killed
        upgrade(settings)
        _check_access(settings)
        url = _url(listening)
        settings = settings.model_copy(update={"grpc_port": _grpc_port(settings)})
        parts = _parts(settings, home, listening)
        try:
            _wait_until_ready(parts, url, stop)
            if not stop:
                _announce(home, url, settings.grpc_port)
            while not stop:
                _tend(parts)
        finally:
            (home / "serve.json").unlink(missing_ok=True)
            end_all(parts, _GRACE_S, lambda: len(stop) > 1)


def _check_access(settings: Settings) -> None:
    database = Database(settings.database)
    try:
        check_can_start(settings, database)
    finally:
        database.dispose()


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the home for this process; the lock ends with it, however it ends."""
    lock = FileLock(home / "serve.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Conflict(
            f"{home} is already served{_by_whom(home)}", hint="end that one, or give another --home"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _by_whom(home: Path) -> str:
    try:
        other = json.loads((home / "serve.json").read_text())
        return f" by process {other['pid']} at {other['url']}"
    except (OSError, ValueError, KeyError):
        return " by another process"


@contextmanager
def _listen(host: str, port: int, option: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or str(error)
        raise Unavailable(
            f"Cannot listen on {host} port {port}: {reason}", hint=f"give another {option}; 0 is any"
        ) from None
    with listening:
        yield listening


def _grpc_port(settings: Settings) -> int | None:
    """The port on which the API is to answer gRPC: the same one whenever it is started again; None: it does not.

    gRPC opens its sockets itself, so this one is only tried here: what is taken is known before anything starts.
    """
    if settings.grpc_port is None or "inference" not in settings.planes:
        return None
    with _listen(settings.host, settings.grpc_port, "--grpc-port") as trial:
        port: int = trial.getsockname()[1]
    return port


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that ask for the end, in the order they come. A list, as a handler may not take a lock."""
    asked: list[int] = []
    ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda got, _frame: asked.append(got)) for number in ends}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _parts(settings: Settings, home: Path, listening: socket.socket) -> list[Part]:
    environment = {
        "GRAFTERY_HOME": str(home),
        "GRAFTERY_HOST": settings.host,
        "GRAFTERY_PORT": str(listening.getsockname()[1]),
        "GRAFTERY_PLANES": ",".join(sorted(settings.planes)),
        "GRAFTERY_WORKERS": str(settings.workers),
        "GRAFTERY_LOG_LEVEL": settings.log_level,
        "GRAFTERY_ACCESS": settings.access,
    }
    if settings.grpc_port is not None:
        environment["GRAFTERY_GRPC_PORT"] = str(settings.grpc_port)
    fd = listening.fileno()
    api = Part("api", [sys.executable, "-m", "app.api", "--fd", str(fd)], environment, fds=[fd])
    worker = [sys.executable, "-m", "worker", "--tied"]
    count = settings.workers if "worker" in settings.planes else 0
    return [api, *(Part(f"worker-{i}", worker, {**environment, **_gpu(i)}) for i in range(count))]


def _gpu(worker: int) -> dict[str, str]:
    """One GPU a worker, in turn; nothing where there is none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = visible.split(",") if visible else [str(i) for i, _ in enumerate(Path("/proc/driver/nvidia/gpus").glob("*"))]
    return {"CUDA_VISIBLE_DEVICES": gpus[worker % len(gpus)]} if gpus else {}


def _tend(parts: Sequence[Part]) -> None:
    for part in parts:
        part.tend()
    time.sleep(_TICK_S)


def _wait_until_ready(parts: Sequence[Part], url: str, stop: Sequence[int]) -> None:
    until = time.monotonic() + _READY_S
    while not stop and not _is_ready(url):
        _tend(parts)
        if parts[0].deaths:
            raise Unavailable("The API ended before it was ready", hint="its log is above")
        if time.monotonic() > until:
            raise Unavailable(f"The API was not ready within {_READY_S:.0f} s")


def _is_ready(url: str) -> bool:
    address = urlsplit(url)
    connection = HTTPConnection(address.hostname or "", address.port, timeout=_PROBE_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _announce(home: Path, url: str, grpc_port: int | None) -> None:
    """Say where the service is: on stdout for people, in serve.json for programs."""
    draft = home / f"serve.json.{os.getpid()}"
    found: dict[str, object] = {"pid": os.getpid(), "url": url}
    if grpc_port is not None:
        found["grpc"] = f"{urlsplit(url).netloc.rpartition(':')[0]}:{grpc_port}"
    draft.write_text(json.dumps(found))
    draft.replace(home / "serve.json")
    beside = f", gRPC at {found['grpc']}" if "grpc" in found else ""
    sys.stdout.write(f"Graftery is ready at {url}{beside} (data in {home}; Ctrl-C ends it)\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
