"""The process that runs jobs, one after another, for one worker: orders on stdin, reports on what was stdout.

It knows neither the database nor the store: files in, files out. What it needs to stay alive between two jobs is only
that the worker keeps its stdin open.
"""

from __future__ import annotations

import importlib
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

import structlog
from safetensors import SafetensorError

from graftery.errors import GrafteryError, first_line, lacks_memory
from registry.lifeline import tie
from registry.logs import configure
from registry.settings import Settings
from worker.reports import Advanced, Done, Failed, Line, Order, Ready, Saved

if TYPE_CHECKING:
    from graftery.learning.checkpoint import Checkpoint

# Kind of job to the module whose `run(order, reporter)` does it. Loaded before the first order: that is what is warm.
RUNNERS: Mapping[str, str] = {
    "transplant": "worker.transplanting",
    "clone": "worker.cloning",
    "consolidate": "worker.consolidating",
}
_PROGRESS_S = 0.5
_LONGEST_MESSAGE = 1000

log = structlog.get_logger("graftery.child")


class Reporter:
    """The child's mouth. Lines may come from any thread; progress is thinned out to two a second."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._last: tuple[object, float] = (None, 0.0)
        self._handed: Path | None = None

    def send(self, line: Line) -> None:
        with self._lock:
            self._pipe.write(line.encode())
            self._pipe.flush()

    def advanced(self, data: Mapping[str, Any]) -> None:
        """Report progress; dropped where the last one of the same phase is fresh, unless it is the phase's last."""
        phase, at = self._last
        now = time.monotonic()
        is_last = data.get("step") is not None and data.get("step") == data.get("steps")
        if data.get("phase") == phase and now - at < _PROGRESS_S and not is_last:
            return
        self._last = (data.get("phase"), now)
        self.send(Advanced(data=dict(data)))

    def keep(self, state: Checkpoint, scratch: str) -> None:
        """Write a checkpoint into the job's folder, and hand it over; left out while the one before is not taken.

        The worker removes a file once its bytes are kept: a store that is slower than the training must not fill the
        folder. One that cannot be written costs time at most, never the job.
        """
        if self._handed is not None and self._handed.exists():
            log.info("checkpoint_left_out", step=state.step)
            return
        path = Path(scratch) / f"{state.phase}-{state.step}.safetensors"
        try:
            state.save(path)
        except (OSError, SafetensorError) as error:
            log.warning("checkpoint_not_written", step=state.step, error=first_line(error))
            return
        self._handed = path
        self.saved(state.step, path)

    def saved(self, step: int, path: Path) -> None:
        """Hand a checkpoint over."""
        self.send(Saved(step=step, path=str(path)))


Runner = Callable[[Order, Reporter], dict[str, Any]]


def main(runners: Mapping[str, str] = RUNNERS) -> NoReturn:
    """Take orders until stdin ends."""
    reporter = Reporter(_take_stdout())
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    tie(on_line=orders.put)
    configure(Settings())
    loaded: dict[str, Runner] = {kind: importlib.import_module(name).run for kind, name in runners.items()}
    reporter.send(Ready())
    while True:
        order = Order.model_validate_json(orders.get())
        structlog.contextvars.bind_contextvars(job=order.job)
        reporter.send(_run(loaded[order.kind], order, reporter))


def _take_stdout() -> BinaryIO:
    """Keep the pipe for reports to ourselves: what a library prints goes to stderr."""
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return pipe


def _run(runner: Runner, order: Order, reporter: Reporter) -> Done | Failed:
    try:
        return Done(result=runner(order, reporter))
    except GrafteryError as error:
        log.info("job_refused", code=error.code, error=str(error))
        return Failed(code=error.code, message=str(error))
    except Exception as error:
        log.exception("job_failed")
        if lacks_memory(error):
            return Failed(code="out_of_memory", message=_readable(error))
        return Failed(code="job_failed", message=_readable(error))


def _readable(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_LONGEST_MESSAGE]


if __name__ == "__main__":
    main()
