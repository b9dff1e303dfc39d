"""What goes wrong: a schedule by a seed, and how each of its faults is done."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import psutil
from sqlalchemy import select

from graftery.errors import Unavailable
from registry.db import Database
from registry.models import Job
from tests.faults.record import Trial
from tests.support.cluster import Node
from tests.support.processes import eventually

# In these shares.
OTHERS = {
    "redis flushed": 3,
    "redis restarted": 2,
    "postgres restarted": 2,
    "postgres ended at once": 2,
    "database cut": 3,
    "redis cut": 2,
    "http cut": 4,
    "inference cut": 2,
    "worker paused": 4,
    "disk full": 3,
}
_CHILDREN = {"child": ("worker", "tests.faults.child"), "verifier": ("api", "graftery.compat.verifying")}


def schedule(kills: dict[str, int], others: int, seed: int) -> list[str]:
    """All kills and so many other faults, at least one of each kind, in the seed's order."""
    chance = random.Random(f"schedule {seed}")
    planned = [f"kill {kind}" for kind, count in kills.items() for _ in range(count)] + _shared(OTHERS, others)
    chance.shuffle(planned)
    return planned


def _shared(shares: dict[str, int], count: int) -> list[str]:
    total = sum(shares.values())
    sizes = {kind: max(1, count * share // total) for kind, share in shares.items()}
    kinds = sorted(shares, key=lambda kind: -shares[kind])
    while sum(sizes.values()) < count:
        sizes[kinds[sum(sizes.values()) % len(kinds)]] += 1
    return [kind for kind, size in sizes.items() for _ in range(size)]


class Faults:
    """Does the faults of a schedule. What lasts (a full disk, a paused worker) is mended by a timer, and by `mend`."""

    def __init__(self, trial: Trial, database: Database) -> None:
        self.trial = trial
        self.site = trial.site
        self.database = database
        self.chance = random.Random(f"faults {trial.seed}")
        self.overtaken = 0
        """Paused workers whose job another had taken when they woke."""
        self._lasting: list[threading.Timer] = []

    def do(self, fault: str) -> None:
        """One fault; where what it hits is not there at the moment, after a while nothing."""
        what, _, whom = fault.partition(" ")
        done = self._kill(whom) if what == "kill" else _FAULTS[fault](self)
        self.trial.record.faults[fault if done is not False else f"{fault}: nothing to hit"] += 1

    def mend(self) -> None:
        """Wait until nothing is broken any more."""
        for timer in self._lasting:
            timer.join()

    def _kill(self, whom: str) -> bool:
        process = self._victim(whom)
        if process is None:
            return False
        self.site.killed.add(process.pid)
        with suppress(psutil.NoSuchProcess):
            process.kill()
        return True

    def _victim(self, whom: str) -> psutil.Process | None:
        """A process that runs; a worker, or its child, in the middle of a job if there is one soon."""
        kind, command = _CHILDREN.get(whom, (whom, None))
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(psutil.NoSuchProcess):
                node = self._busy()[0] if kind == "worker" else self.chance.choice(self.site.of_kind(kind))
                process = _process(node)
                if process is not None and command is None:
                    return process
                for child in process.children() if process else ():
                    if command in " ".join(child.cmdline()):
                        return child
            time.sleep(0.02)
        return None

    def _busy(self) -> tuple[Node | None, str, int]:
        """A worker with a running job, its job and the attempt; none where there is none."""
        running: list[tuple[int, str, int]] = []
        with suppress(Unavailable), self.database.read() as session:
            query = select(Job.worker, Job.id, Job.attempt).where(Job.state == "running", Job.kind == "transplant")
            running = [(int((row[0] or ":0").rpartition(":")[2]), row[1], row[2]) for row in session.execute(query)]
        self.chance.shuffle(running)
        for pid, job, attempt in running:
            for node in self.site.of_kind("worker"):
                process = _process(node)
                if process is not None and process.pid == pid and process.status() != psutil.STATUS_STOPPED:
                    return node, job, attempt
        return None, "", 0

    def _pause(self) -> bool:
        """Stop a worker in the middle of a job until its lease is over, and long enough for another to have the job."""
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with suppress(psutil.NoSuchProcess):
                node, job, attempt = self._busy()
                process = _process(node)
                if process is None:
                    continue
                process.suspend()
                if self._has(job, attempt):
                    self.trial.record.zombies.append((job, attempt))
                    self._later(self.trial.size.lease_s * 1.2, partial(self._resume, process, job, attempt))
                    return True
                process.resume()
            time.sleep(0.02)
        return False

    def _resume(self, process: psutil.Process, job: str, attempt: int) -> None:
        """Once another has the job; in any case before `collect` may take what the worker has stored and not named."""
        size = self.trial.size
        self.overtaken += eventually(lambda: not self._has(job, attempt), size.grace_s - 1.5 * size.lease_s)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)

    def _has(self, job: str, attempt: int) -> bool:
        with suppress(Unavailable), self.database.read() as session:
            row = session.get(Job, job)
            return row is not None and (row.state, row.attempt) == ("running", attempt)
        return True

    def _later(self, after_s: float, action: Callable[[], None]) -> None:
        timer = threading.Timer(after_s, action)
        timer.daemon = True
        self._lasting.append(timer)
        timer.start()

    def _fill(self) -> None:
        self.site.disk.fill()
        self._later(self.chance.uniform(0.5, 2), self.site.disk.free)

    def _restart_postgres(self, *, immediate: bool) -> None:
        self.site.postgres.stop(immediate=immediate)
        time.sleep(self.chance.uniform(0, 1))
        self.site.postgres.start()

    def _restart_redis(self) -> None:
        self.site.redis.stop()
        time.sleep(self.chance.uniform(0, 1))
        self.site.redis.start()


def _process(node: Node | None) -> psutil.Process | None:
    process = node.process if node is not None else None
    return psutil.Process(process.pid) if process is not None and process.poll() is None else None


def _cut(name: str) -> Callable[[Faults], object]:
    return lambda faults: eventually(faults.site.proxies[name].cut, 10)


_FAULTS: dict[str, Callable[[Faults], object]] = {
    "redis flushed": lambda faults: faults.site.redis.flush(),
    "redis restarted": Faults._restart_redis,
    "postgres restarted": lambda faults: faults._restart_postgres(immediate=False),
    "postgres ended at once": lambda faults: faults._restart_postgres(immediate=True),
    "database cut": _cut("db"),
    "redis cut": _cut("redis"),
    "http cut": _cut("http"),
    "inference cut": _cut("inference"),
    "worker paused": Faults._pause,
    "disk full": Faults._fill,
}
