"""The child of a worker, which signs what it reports with its worker: so a test sees which attempt wrote what.

What runs a job is named by FAULTS_RUNNER: the real transplant (`worker.transplanting`), or one that only counts.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.child import Reporter, main
from worker.reports import Order

RUNNER = "FAULTS_RUNNER"
# Of a runner that counts: long enough to be killed in, with checkpoints to go on from.
COUNTING = {"steps": 12, "step_s": 0.08, "checkpoint_every": 4}


class Signed:
    """A reporter whose reports name the worker."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def advanced(self, data: Mapping[str, Any]) -> None:
        self._reporter.advanced({**data, "worker": os.getppid()})

    def saved(self, step: int, path: Path) -> None:
        self._reporter.saved(step, path)


def run(order: Order, reporter: Reporter) -> dict[str, Any]:
    name = os.environ[RUNNER]
    if name == "tests.support.busy_child":
        order = order.model_copy(update={"recipe": {**order.recipe, **COUNTING}})
    made: dict[str, Any] = importlib.import_module(name).run(order, Signed(reporter))
    return {**made, "metrics": {**made["metrics"], "worker": os.getppid()}}


if __name__ == "__main__":
    importlib.import_module(os.environ[RUNNER])  # that is what is warm
    main({"transplant": "tests.faults.child"})
