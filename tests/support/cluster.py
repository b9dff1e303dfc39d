"""`make cluster`: what docker-compose.yml describes, as plain processes on this machine.

PostgreSQL, Redis, SeaweedFS, the one-shot migration, two API processes, two of inference, two workers, and Caddy with
its own configuration before them. Commands and environment are read from docker-compose.yml and the Dockerfile; only
addresses and folders are this machine's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from registry.lifeline import ask_the_kernel
from tests.support import compose, servers

START_S = 120.0
END_S = 60.0
COUNTS = {"api": 2, "inference": 2, "worker": 2}
_ANSWERING = ("api", "inference")


@dataclass
class Node:
    """One process of the cluster, with a log of its own. `at` is where it answers HTTP, if it does."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    at: str | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=compose.ROOT,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is ours to answer
                preexec_fn=lambda: ask_the_kernel(signal.SIGKILL),  # and nothing of it outlives us
            )

    def terminate(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def wait(self, within_s: float = END_S) -> bool:
        """Wait until it has ended; it is killed where it does not in time, and False."""
        if self.process is None:
            return True
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return False
        return True

    def ready(self) -> bool:
        """Whether it says so; a worker has no way to."""
        return self.at is None or answers(f"{self.at}/health/ready")


@dataclass
class Cluster:
    """A running cluster: `url` and `grpc` are the proxy's."""

    url: str
    grpc: str
    folder: Path
    nodes: dict[str, Node] = field(default_factory=dict)

    def restart(self, name: str) -> None:
        """End a process as an upgrade does, and start it again; back when it is ready."""
        node = self.nodes[name]
        node.terminate()
        if not node.wait():
            raise TimeoutError(f"{name} did not end when it was asked to: see {node.log}")
        node.start()
        _await(node.ready, f"{name} is not ready again: see {node.log}")

    def end(self) -> None:
        for node in self.nodes.values():
            node.terminate()
        killed = [node for node in self.nodes.values() if not node.wait()]
        if killed:
            raise TimeoutError(f"had to be killed: {', '.join(f'{node.name} (log {node.log})' for node in killed)}")


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


@contextmanager
def running(folder: Path, port: int = 0, counts: Mapping[str, int] = COUNTS, **settings: str) -> Iterator[Cluster]:
    """The cluster, ready behind its proxy; at the end all of it has ended.

    Args:
        port: of the proxy; 0: any.
        settings: of our processes, by their names in lower case, over those of docker-compose.yml.
    """
    with _backing() as addresses:
        port = port or free_port()
        cluster = Cluster(f"http://127.0.0.1:{port}", f"127.0.0.1:{free_port()}", folder)
        over = {f"GRAFTERY_{name.upper()}": value for name, value in settings.items()}
        try:
            _migrate(cluster, addresses, over)
            for kind, count in counts.items():
                for index in range(1, count + 1):
                    _add(cluster, f"{kind}-{index}", kind, addresses, over)
            _add_proxy(cluster)
            for node in cluster.nodes.values():
                _await(node.ready, f"{node.name} is not ready: see {node.log}")
            for path in ("/health/ready", "/v2/health/ready"):
                _await(lambda path=path: answers(cluster.url + path), f"the proxy does not answer {path}")  # type: ignore[misc]
            yield cluster
        finally:
            cluster.end()


@contextmanager
def _backing() -> Iterator[dict[str, str]]:
    """Real servers; as the addresses that docker-compose.yml knows them by, and what they are here."""
    postgres = os.environ.get("TEST_DATABASE_URL") or servers.server("postgresql")
    ours = compose.environment(compose.services()["api"])
    with servers.new_database(postgres) as database, servers.new_redis() as redis:
        yield {
            ours["GRAFTERY_DATABASE_URL"]: database,
            ours["GRAFTERY_BROKER_URL"]: redis,
            ours["AWS_ENDPOINT_URL"]: servers.server("seaweedfs"),
        }


def _environment(service: str, addresses: Mapping[str, str], home: Path, over: Mapping[str, str]) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("GRAFTERY_", "AWS_"))}
    given = compose.environment(compose.services()[service])
    given.pop("PATH", None)
    here = {name: addresses.get(value, value) for name, value in given.items()}
    # Processes that all want every core of one machine only stand in each other's way.
    return {**plain, **here, "GRAFTERY_HOME": str(home), "GRAFTERY_HOST": "127.0.0.1", "GRAFTERY_THREADS": "1", **over}


def _command(service: str) -> list[str]:
    words = compose.command(compose.services()[service])
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def _migrate(cluster: Cluster, addresses: Mapping[str, str], over: Mapping[str, str]) -> None:
    environment = _environment("migrate", addresses, cluster.folder / "migrate", over)
    subprocess.run(_command("migrate"), cwd=compose.ROOT, env=environment, check=True)


def _add(cluster: Cluster, name: str, kind: str, addresses: Mapping[str, str], over: Mapping[str, str]) -> None:
    home = cluster.folder / name
    home.mkdir(parents=True)
    port = free_port()
    environment = {**_environment(kind, addresses, home, over), "GRAFTERY_PORT": str(port)}
    if "GRAFTERY_GRPC_PORT" in environment:
        environment["GRAFTERY_GRPC_PORT"] = str(free_port())
    at = f"http://127.0.0.1:{port}" if kind in _ANSWERING else None
    cluster.nodes[name] = Node(name, _command(kind), environment, home / "log", at)
    cluster.nodes[name].start()


def _add_proxy(cluster: Cluster) -> None:
    """Caddy with the configuration that is shipped. It looks more often here: these processes drain for less long."""

    def ports(kind: str, variable: str = "GRAFTERY_PORT") -> str:
        found = [node.environment[variable] for name, node in cluster.nodes.items() if name.startswith(kind)]
        return " ".join(f"127.0.0.1:{port}" for port in found)

    environment = {
        **os.environ,
        **compose.environment(compose.services()["proxy"]),
        "API_UPSTREAMS": ports("api"),
        "INFERENCE_UPSTREAMS": ports("inference"),
        "GRPC_UPSTREAMS": ports("inference", "GRAFTERY_GRPC_PORT"),
        "SITE_ADDRESS": cluster.url,
        "GRPC_PORT": cluster.grpc.rpartition(":")[2],
        "HEALTH_INTERVAL": "200ms",
        "HOME": str(cluster.folder),
    }
    path = shutil.which("caddy") or str(Path(sys.executable).with_name("caddy"))
    config = compose.ROOT / "deploy/caddy/Caddyfile"
    command = [path, "run", "--config", str(config), "--adapter", "caddyfile"]
    cluster.nodes["proxy"] = Node("proxy", command, environment, cluster.folder / "proxy.log")
    cluster.nodes["proxy"].start()


def _await(condition: Callable[[], object], otherwise: str) -> None:
    until = time.monotonic() + START_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(otherwise)
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Run it until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="make cluster")
    parser.add_argument("--port", type=int, default=8080, help="of the proxy (8080); 0 takes a free one")
    port = parser.parse_args().port
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    servers.open_folder()
    try:
        with suppress(KeyboardInterrupt), running(servers.folder() / "cluster", port) as cluster:
            for node in cluster.nodes.values():
                print(f"  {node.name:12} process {node.process.pid if node.process else '-':<8} log {node.log}")
            print(f"The cluster is ready at {cluster.url}, gRPC at {cluster.grpc} (Ctrl-C ends it)", flush=True)
            signal.pause()
    finally:
        servers.close_folder()


if __name__ == "__main__":
    main()
