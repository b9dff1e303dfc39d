"""Servers as trees of processes: pinned to a core, frozen while another is measured, their time and memory read, ended."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil

GENERATOR_CORE, SERVER_CORE = 0, 1
READY_S = 90.0
GRACE_S = 6.0
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}


class BenchError(Exception):
    """A cell that cannot be measured, with the reason; the run goes on with the next one."""


def cores() -> tuple[int, int]:
    """The generator's core and the server's.

    Raises:
        BenchError: there is only one.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("server and load generator need a core each, and this process may use only one")
    return allowed[GENERATOR_CORE], allowed[SERVER_CORE]


def pinned(core: int | None) -> list[str]:
    """What to put in front of a command."""
    return [] if core is None else ["taskset", "--cpu-list", str(core)]


def free_port() -> int:
    """One outside the range that the kernel gives out, so that no part of a server that starts meanwhile takes it."""
    for port in random.sample(range(18_000, 30_000), 50):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise BenchError("no port is free")


class Tree:
    """A process that we started, and all that it started.

    Args:
        command: what to run; in a session of its own, so that all of it can be found and ended.
        core: the only core that it may use; None: any.
        log: where its output goes.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], core: int | None, folder: Path, log: Path
    ) -> None:
        self.log, self.core = log, core
        self._known: dict[int, psutil.Process] = {}
        with log.open("w") as out:
            self._process = subprocess.Popen(
                [*pinned(core), *command],
                env={**os.environ, **THREADS, **environment},
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._process.pid)

    def members(self) -> list[psutil.Process]:
        """Live processes of the tree, also those that were adopted when their parent ended."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [self._root, *self._root.children(recursive=True)]:
                self._known.setdefault(one.pid, one)
        self._known = {pid: one for pid, one in self._known.items() if _lives(one)}
        return list(self._known.values())

    def pin(self) -> None:
        if self.core is None:
            return
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                one.cpu_affinity([self.core])

    def cpu_s(self) -> float:
        """CPU seconds that the tree has used, those of its ended children included."""
        total = 0.0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                total += sum(one.cpu_times()[:4])
        return total

    def memory(self) -> dict[str, float]:
        """MiB of the tree: resident (shared pages counted in each process), and proportional."""
        rss = pss = 0
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                found = one.memory_full_info()
                rss, pss = rss + found.rss, pss + found.pss
        return {"rss_mib": round(rss / 2**20, 1), "pss_mib": round(pss / 2**20, 1), "processes": len(self.members())}

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        for one in self.members():
            with contextlib.suppress(psutil.Error):
                one.send_signal(number)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def last_words(self) -> str:
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-300:]

    def end(self) -> None:
        """End the whole tree: in good order, and at once what is left."""
        self.thaw()
        members = self.members()
        with contextlib.suppress(psutil.Error, OSError):
            self._root.terminate()
        _, left = psutil.wait_procs(members, GRACE_S)
        for one in {*left, *self.members()}:
            with contextlib.suppress(psutil.Error):
                one.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def _lives(one: psutil.Process) -> bool:
    try:
        return bool(one.is_running() and one.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def wait_until(tree: Tree, url: str, what: str, timeout_s: float = READY_S) -> None:
    """Until a GET of the address is answered by 200.

    Raises:
        BenchError: the process ended, or the time is over.
    """
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if tree.ended:
            raise BenchError(f"{what} ended before it was ready: {tree.last_words()}")
        with contextlib.suppress(OSError, http.client.HTTPException), urllib.request.urlopen(url, timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise BenchError(f"{what} was not ready within {timeout_s:.0f} s: {tree.last_words()}")


@contextlib.contextmanager
def ending(trees: list[Tree]) -> Iterator[None]:
    """End them all, whatever happens inside."""
    try:
        yield
    finally:
        for tree in trees:
            tree.end()
