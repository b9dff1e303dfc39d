"""A child whose jobs only count: for tests of the machinery around a job. The job's recipe is its script.

`steps`, `step_s`: how long. `checkpoint_every`: steps between checkpoints. `die_at` + `signal`: how it dies; with
`die_once` only where it did not resume. `raise`: with which error it ends. `noise`: what it prints.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from graftery.errors import GrafteryError
from graftery.spec.manifest import Facts, Manifest, json_of
from worker.child import Reporter, main
from worker.reports import Order

SHAPE: dict[str, Any] = {"dtype": "float32", "shape": ["N", 4]}


def run(order: Order, reporter: Reporter) -> dict[str, Any]:
    script = order.recipe
    steps, start = script.get("steps", 3), int(Path(order.resume).read_text()) if order.resume else 0
    print(script.get("noise", ""))
    _maybe_raise(script)
    for step in range(start, steps):
        resumed = order.resume is not None
        if step == script.get("die_at") and not (script.get("die_once") and resumed):
            os.kill(os.getpid(), signal.Signals[script.get("signal", "SIGKILL")])
        time.sleep(script.get("step_s", 0.0))
        reporter.advanced({"phase": "train", "step": step + 1, "steps": steps, "loss": 1.0 / (step + 1)})
        if script.get("checkpoint_every") and (step + 1) % script["checkpoint_every"] == 0:
            path = Path(order.scratch) / f"checkpoint-{step + 1}"
            path.write_text(str(step + 1))
            reporter.saved(step + 1, path)
    return _result(order, start)


def _maybe_raise(script: dict[str, Any]) -> None:
    match script.get("raise"):
        case "diverged":
            raise GrafteryError("the last finite loss was 0.5, at step 7", code="diverged")
        case "memory":
            raise MemoryError("no more")
        case "allocator":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2048 bytes")
        case "bug":
            raise ValueError("this is a bug")
        case "exit":
            sys.exit(3)


def _result(order: Order, start: int) -> dict[str, Any]:
    adapter = Path(order.scratch) / "adapter"
    adapter.write_text(f"adapter of {order.recipe} from {sorted(order.files)}")
    manifest = Manifest.model_validate({"kind": "adapter", "input": SHAPE, "outputs": {"features": SHAPE}})
    counted = {"parameters": 1, "flops_per_sample": 1, "nodes": 1, "operators": [], "content_digest": "0" * 64}
    facts = Facts.model_validate({"input": SHAPE, "outputs": {"features": SHAPE}, **counted})
    probes = Path(order.scratch) / "probes"
    probes.write_text(f"probes of {order.recipe}")
    here = {"device": "cpu", "model": "m", "kernels": "k", "torch": "2", "threads": 1}
    certified = {"device_class": here, "replays": {}, "first_seen": {}, "left_out": 0, "probes": str(probes)}
    metrics = {"adapter": {"accuracy": 0.5}, "started_at": start, "threads": os.environ.get("OMP_NUM_THREADS")}
    return {
        "adapter": str(adapter),
        "manifest": json_of(manifest),
        "facts": json_of(facts),
        "metrics": {**metrics, "pid": os.getpid()},
        "labels": 0,
        "certified": certified,
    }


if __name__ == "__main__":
    main({"transplant": "tests.support.busy_child"})
