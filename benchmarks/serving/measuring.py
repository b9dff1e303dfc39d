"""A run of the load generator against a server, and of the bare forward pass: what a cell is made of."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.serving.contenders import ENGINES, ROOT, Running
from benchmarks.serving.figures import percentiles
from benchmarks.serving.prepare import onnx_folder, rows_file
from benchmarks.serving.processes import THREADS, BenchError, cores

CONNECTIONS = 32
OPEN_CONNECTIONS = 60
"""Under our queue's 64: beyond it, requests wait in the generator, and their wait counts as well."""
LEAST_S = 0.9
"""Of a closed loop: the slowest server answers 32 requests in about half a second."""
Result = dict[str, Any]


@dataclass
class Bench:
    """What all cells share.

    Args:
        scratch: where everything that is made lies.
        scale: of all durations; 1 in the whole run.
        rounds: how often what is compared is measured in turns.
        peers: those whose environment there is.
    """

    scratch: Path
    scale: float
    rounds: int
    peers: list[str]
    say: Callable[[str], None]
    quick: bool = False
    """One setting a peer, and where engines need not be compared, one engine."""
    kept: Callable[[str], Result | None] = field(default=lambda _: None)
    """A cell that was measured before, by its name."""

    @property
    def engines(self) -> tuple[str, ...]:
        return ENGINES[-1:] if self.quick else ENGINES

    def seconds(self, net: str) -> float:
        """How long a load is measured; the slow net needs longer for as many requests."""
        return self.scale * (2.5 if net in ("small", "nothing") else 4.0)


@dataclass(frozen=True)
class Ask:
    """What is asked of a server.

    Args:
        models: the names that requests go to, in turn by chance.
        expected: where it is another array of the rows' file than the model's own.
        form: another than the server's usual one, with its path.
    """

    net: str
    models: Sequence[str] = ("m0",)
    rows: str = "rows"
    batch: int = 1
    expected: str | None = None
    form: str | None = None
    path: str | None = None
    warm: bool = True
    """Whether requests before those that are measured are left out."""
    checked: bool = True
    """Whether answers are compared with the right numbers."""


def closed(bench: Bench, server: Running, ask: Ask, connections: int = CONNECTIONS, share: float = 1.0) -> Result:
    """As many requests as the server answers, with that many connections always waiting; throughput and CPU a request."""
    seconds = max(LEAST_S, bench.seconds(ask.net) * share)
    plan = {"loop": "closed", "connections": connections, "warm_s": 0.3 * seconds * ask.warm, "measure_s": seconds}
    found = _run(bench, server, ask, plan)
    found["per_s"] = round(found["measured"] / seconds, 2)
    return found


def opened(bench: Bench, server: Running, ask: Ask, rate: float, seed: int) -> Result:
    """Requests at drawn times, on average `rate` a second."""
    seconds = max(1.6 * bench.seconds(ask.net), min(6.0 * bench.scale, 400 / rate))
    plan = {"loop": "open", "connections": OPEN_CONNECTIONS, "warm_s": 0.15 * seconds, "measure_s": seconds}
    return _run(bench, server, ask, plan | {"rate": rate}, seed) | {"rate": round(rate, 2)}


def _run(bench: Bench, server: Running, ask: Ask, plan: dict[str, Any], seed: int = 0) -> Result:
    path = ask.path or server.path
    targets = [
        {"model": model, "path": path.format(model=model), "expected": ask.expected or model} for model in ask.models
    ]
    plan |= {
        "port": server.port,
        "form": ask.form or server.form,
        "batch": ask.batch,
        "seed": seed,
        "checked": ask.checked,
    }
    plan |= {"rows": str(rows_file(bench.scratch, ask.net, ask.rows)), "targets": targets}
    server.tree.pin()
    before = server.tree.cpu_s()
    found = _apart("load", plan, cores()[0], plan["warm_s"] + plan["measure_s"] + 60)
    cpu_s = server.tree.cpu_s() - before
    found |= percentiles(found["latencies_ms"])
    _refuse_bad(server, found)
    found["cpu_ms"] = round(1e3 * cpu_s / max(1, found["answered"]), 4)
    return found


def _refuse_bad(server: Running, found: Result) -> None:
    if found["bad"]:
        what, count = max(found["bad"].items(), key=lambda item: item[1])
        raise BenchError(f"{server.key}: {count} of {found['answered']} answers were not as expected: {what[:300]}")
    if not found["measured"]:
        raise BenchError(f"{server.key} answered nothing in time: {server.tree.last_words()}")


def bare(bench: Bench, net: str, engine: str, *, batch: int = 1, what: str = "whole") -> Result:
    """The forward pass alone, on the server's core."""
    folder = onnx_folder(bench.scratch, net)
    spec = {"net": net, "engine": engine, "batch": batch, "what": what, "seconds": bench.seconds(net) / 2}
    spec["onnx"] = str(folder / "m0.onnx" if what == "whole" else folder / "trio")
    found = _apart("bare", spec, cores()[1], 90)
    return {
        "median_ms": statistics.median(found["clock_ms"]),
        "cpu_ms": found["cpu_ms"],
        "passes": len(found["clock_ms"]),
    }


def _apart(module: str, plan: dict[str, Any], core: int, timeout_s: float) -> Result:
    """Run a module of ours in its own process on that core, and read what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(plan))
        command = ["taskset", "--cpu-list", str(core), sys.executable, "-m", f"benchmarks.serving.{module}", str(path)]
        try:
            done = subprocess.run(
                command, cwd=ROOT, env=_environment(), capture_output=True, text=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise BenchError(f"{module} did not end within {timeout_s:.0f} s") from None
    if done.returncode:
        raise BenchError(f"{module} failed: {done.stderr.strip().splitlines()[-1][:300]}")
    return dict(json.loads(done.stdout))


def _environment() -> dict[str, str]:
    return {**os.environ, **THREADS, "PYTHONPATH": str(ROOT)}


def brief(found: Result) -> Result:
    """Without the single latencies, for the file of results."""
    return {name: value for name, value in found.items() if name not in ("latencies_ms", "bad")}
