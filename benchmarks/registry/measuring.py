"""What the cells of the registry's benchmark share: runs of the generator, processes of ours, and plans for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL

from benchmarks.serving.contenders import ROOT, Running
from benchmarks.serving.figures import percentiles
from benchmarks.serving.processes import THREADS, BenchError, cores

Result = dict[str, Any]
LEAST_S = 1.0
"""A server's first requests build what the later ones use."""


@dataclass
class Bench:
    """What all cells share.

    Args:
        scratch: where everything that is made lies.
        scale: of all durations; 1 in the whole run.
        rounds: how often what is compared is measured in turns.
        server: the PostgreSQL of this run.
        broker: its Redis.
    """

    scratch: Path
    scale: float
    rounds: int
    server: URL
    broker: str
    say: Callable[[str], None]
    quick: bool = False
    used: set[Path] = field(default_factory=set)

    def folder(self, name: str) -> Path:
        """An empty folder for a home of ours."""
        for number in range(1000):
            path = self.scratch / "homes" / f"{name}-{os.getpid()}-{number}"
            if path not in self.used and not path.exists():
                path.mkdir(parents=True)
                self.used.add(path)
                return path
        raise BenchError("the scratch folder is full of homes: empty it")


@dataclass(frozen=True)
class Ask:
    """One request, and what its answer must hold, white space aside."""

    method: str
    path: str
    expected: tuple[str, ...] = ()
    body: Any = None

    @property
    def plan(self) -> Result:
        return {"method": self.method, "path": self.path, "expected": self.expected, "body": self.body}


def closed(bench: Bench, server: Running, asks: Sequence[Ask], *, connections: int, seconds: float) -> Result:
    """Every connection sends its next request when it has its answer; requests a second, latencies, CPU.

    Raises:
        BenchError: an answer was not as expected, or there was none.
    """
    plan = {"port": server.port, "requests": [ask.plan for ask in asks], "loop": "closed", "connections": connections}
    measure_s = max(LEAST_S, seconds * bench.scale)
    plan |= {"warm_s": 0.3 * measure_s, "measure_s": measure_s}
    server.tree.pin()
    before = server.tree.cpu_s()
    found = apart("load", plan, plan["warm_s"] + plan["measure_s"] + 60)
    cpu_s = server.tree.cpu_s() - before
    if found["bad"]:
        what, count = max(found["bad"].items(), key=lambda item: item[1])
        raise BenchError(f"{server.key}: {count} of {found['answered']} answers were not as expected: {what[:300]}")
    if not found["measured"]:
        raise BenchError(f"{server.key} answered nothing in time: {server.tree.last_words()}")
    latencies = found.pop("latencies_ms")
    more = {"per_s": found["measured"] / plan["measure_s"], "cpu_ms": 1e3 * cpu_s / found["answered"]}
    return found | percentiles(latencies) | {name: round(value, 3) for name, value in more.items()}


def apart(module: str, plan: Result, timeout_s: float, core: int | None = None) -> Result:
    """Run a module of ours in a process of its own, by default on the generator's core, and read what it prints.

    Raises:
        BenchError: it failed or did not end.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(plan))
        try:
            done = subprocess.run(
                command(module, str(path), core=core),
                cwd=ROOT,
                env=environment(),
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{module} did not end within {timeout_s:.0f} s") from None
    if done.returncode:
        raise BenchError(f"{module} failed: {(done.stderr.strip().splitlines() or ['?'])[-1][:300]}")
    return dict(json.loads(done.stdout))


def command(module: str, *arguments: str, core: int | None = None) -> list[str]:
    """What starts a module of this benchmark on a core."""
    where = str(cores()[0] if core is None else core)
    return ["taskset", "--cpu-list", where, sys.executable, "-m", f"benchmarks.registry.{module}", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, **THREADS, "PYTHONPATH": str(ROOT)}
