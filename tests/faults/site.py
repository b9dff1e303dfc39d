"""The service as docker-compose.yml describes it, as processes that somebody starts again whenever they die.

Each reaches PostgreSQL and Redis, and is reached, through a small proxy that can cut connections.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from registry.settings import Settings
from tests.faults.backing import Postgres, Redis
from tests.faults.child import RUNNER
from tests.faults.disk import Disk, small_disk
from tests.support import compose
from tests.support.cluster import Node, free_port
from tests.support.processes import eventually, gone
from tests.support.proxy import Proxy, proxying

START_S = 120.0
END_S = 30.0
_LOOK_S = 0.05
# As a supervisor waits before it starts again what has died.
_BACKOFF_S = 0.3


@dataclass
class Site:
    """A running site. `killed`: the pids that the test has ended; `deaths`: how many of each kind ended by themselves."""

    home: Path
    settings: Settings
    postgres: Postgres
    redis: Redis
    disk: Disk
    proxies: dict[str, Proxy]
    nodes: dict[str, Node] = field(default_factory=dict)
    killed: set[int] = field(default_factory=set)
    deaths: Counter[str] = field(default_factory=Counter)
    starts: Counter[str] = field(default_factory=Counter)

    @property
    def api(self) -> str:
        return self.proxies["http"].url

    @property
    def inference(self) -> str:
        return self.proxies["inference"].url

    def of_kind(self, kind: str) -> list[Node]:
        return [node for name, node in self.nodes.items() if name.startswith(kind)]

    def ready(self) -> bool:
        return all(node.ready() for node in self.nodes.values())

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for this site, whoever its parent is now: known by its HOME, which children keep."""
        return [process for process in psutil.process_iter() if _home_of(process) == str(self.home)]


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("HOME") if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


class Keeper:
    """Starts the nodes, and starts again those that end, until it is told to let them be."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._over = threading.Event()
        self._let_be = threading.Event()
        # One thread starts them all and outlives them: the kernel ends a process with the thread that started it.
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _keep(self) -> None:
        for name, node in self._site.nodes.items():
            self._start(name, node)
        while not self._over.wait(_LOOK_S):
            for name, node in self._site.nodes.items():
                process = node.process
                if process is None or process.poll() is None or self._let_be.is_set():
                    continue
                if process.pid not in self._site.killed:
                    self._site.deaths[f"{name} with status {process.returncode}"] += 1
                time.sleep(_BACKOFF_S)
                self._start(name, node)

    def _start(self, name: str, node: Node) -> None:
        node.start()
        self._site.starts[name.partition("-")[0]] += 1

    def end(self) -> None:
        """End everything as an administrator does; what does not end is killed, and an error."""
        self._let_be.set()
        time.sleep(_BACKOFF_S + 2 * _LOOK_S)
        for node in self._site.nodes.values():
            node.terminate()
        late = [node.name for node in self._site.nodes.values() if not node.wait(END_S)]
        self._over.set()
        self._thread.join()
        if late:
            raise TimeoutError(f"did not end when they were asked to: {', '.join(late)}")


@contextmanager
def running(home: Path, fast: Path, counts: Mapping[str, int], runner: str, **settings: str) -> Iterator[Site]:
    """The site, ready; at the end its processes were asked to end, and have.

    Args:
        home: for logs, the store and what the processes keep.
        fast: for PostgreSQL; its user can reach it.
        runner: runs the jobs (`tests.faults.child`).
        settings: of our processes, by their names in lower case.
    """
    with ExitStack() as stack:
        postgres, redis = Postgres(fast, free_port()), Redis(home, free_port())
        for server in (postgres, redis):
            server.start()
        stack.callback(postgres.stop, immediate=True)
        stack.callback(redis.stop)
        ports = {"db": postgres.port, "redis": redis.port, "http": 1, "inference": 1}
        proxies = {name: stack.enter_context(proxying(f"http://127.0.0.1:{port}")) for name, port in ports.items()}
        disk = stack.enter_context(small_disk(home))
        ours = _ours(postgres, proxies, disk) | {f"GRAFTERY_{name.upper()}": value for name, value in settings.items()}
        site = Site(home, _settings(postgres, disk, home), postgres, redis, disk, proxies)
        _migrate(ours, home)
        for kind, count in counts.items():
            for index in range(1, count + 1):
                _add(site, kind, index, {**ours, RUNNER: runner})
        for proxy, kind in (("http", "api"), ("inference", "inference")):
            proxies[proxy].lead_to(*(node.at or "" for node in site.of_kind(kind)))
        keeper = Keeper(site)
        keeper.start()
        stack.callback(keeper.end)
        assert eventually(lambda: len(site.starts) == len(counts) and site.ready(), START_S), f"see the logs in {home}"
        yield site
    assert gone(site.processes()), "the end of the site is the end of all of it"


def _ours(postgres: Postgres, proxies: Mapping[str, Proxy], disk: Disk) -> dict[str, str]:
    port = {name: int(proxy.url.rpartition(":")[2]) for name, proxy in proxies.items()}
    return {
        "GRAFTERY_DATABASE_URL": postgres.url(port["db"]),
        "GRAFTERY_BROKER_URL": f"redis://127.0.0.1:{port['redis']}/0",
        "GRAFTERY_STORE_URL": f"file://{disk.folder}",
        "GRAFTERY_HOST": "127.0.0.1",
        "GRAFTERY_FREE_BYTES": "0",
        "GRAFTERY_THREADS": "1",
        "GRAFTERY_FAST_FORMS": "off",
        "GRAFTERY_DRAIN_S": "0",
        "GRAFTERY_FINISH_S": "5",
    }


def _settings(postgres: Postgres, disk: Disk, home: Path) -> Settings:
    """What the test itself looks with: past the proxies."""
    return Settings(
        home=home, database_url=postgres.url(postgres.port), store_url=f"file://{disk.folder}", free_bytes=0
    )


def _environment(kind: str, home: Path, over: Mapping[str, str]) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFTERY_", "AWS_"))}
    image = compose.environment(compose.services()[kind])
    shipped = {name: value for name, value in image.items() if name.startswith("GRAFTERY_")}
    return {**plain, **shipped, **over, "OMP_NUM_THREADS": "1", "HOME": str(home)}


def _migrate(ours: Mapping[str, str], home: Path) -> None:
    command = [sys.executable, "-m", "migrations"]
    subprocess.run(command, cwd=compose.ROOT, env=_environment("migrate", home, ours), check=True)


def _add(site: Site, kind: str, index: int, ours: Mapping[str, str]) -> None:
    name, port = f"{kind}-{index}", free_port()
    folder = site.home / name
    folder.mkdir()
    over = {**ours, "GRAFTERY_HOME": str(folder), "GRAFTERY_PORT": str(port), "TMPDIR": str(folder)}
    environment = _environment(kind, site.home, over)
    environment.pop("GRAFTERY_GRPC_PORT", None)
    module = "tests.faults.worker" if kind == "worker" else "app.api"
    narrow = [] if site.disk.real else ["tests.faults.narrow", str(site.disk.full)]
    command = [sys.executable, "-m", *narrow, module]
    at = None if kind == "worker" else f"http://127.0.0.1:{port}"
    site.nodes[name] = Node(name, command, environment, site.home / f"{name}.log", at)
