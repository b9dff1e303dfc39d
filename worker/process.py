"""The child as its worker sees it: a process that is spawned, kept warm between jobs, and killed without regret."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, cast

from worker.reports import Order, Report, decode_report

CHILD_COMMAND: tuple[str, ...] = (sys.executable, "-m", "worker.child")


class ChildDied(Exception):
    """The child ended without a last report; the text says how."""


class Child:
    """A running child. Spawned, never forked: torch does not survive a fork.

    Its stdin is a pipe that only this process holds, so that the child ends with us; its stdout carries the reports,
    its stderr is ours. It has a process group of its own: Ctrl-C in a terminal is the worker's to answer.
    """

    def __init__(self, command: Sequence[str] = CHILD_COMMAND, *, threads: int = 0) -> None:
        self._reports: queue.SimpleQueue[Report | None] = queue.SimpleQueue()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(threads), process_group=0
        )
        self._orders = cast(IO[bytes], self._process.stdin)
        lines = cast(IO[bytes], self._process.stdout)
        threading.Thread(target=self._read, args=(lines,), name="child-reports", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, order: Order) -> None:
        """Give the child a job.

        Raises:
            ChildDied: it is no more.
        """
        try:
            self._orders.write(order.encode())
            self._orders.flush()
        except (BrokenPipeError, ValueError):  # a pipe that nobody reads, or that we have closed
            raise ChildDied(self._how_it_ended()) from None

    def report(self, timeout_s: float) -> Report | None:
        """The next report, or None where there was none in this time.

        Raises:
            ChildDied: it is no more, and everything it said has been read.
        """
        try:
            report = self._reports.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if report is None:
            self._reports.put(None)
            raise ChildDied(self._how_it_ended())
        return report

    def kill(self) -> None:
        """End it now, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._orders.close()

    def _read(self, pipe: IO[bytes]) -> None:
        try:
            with pipe as lines:
                for line in lines:
                    self._reports.put(decode_report(line))
        finally:
            # Also after a line that is no report: a child that cannot be understood is as good as dead.
            self._reports.put(None)

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return "its reports cannot be read"
        if code >= 0:
            return f"it ended with exit status {code}"
        hint = " (the system may have run out of memory)" if code == -signal.SIGKILL else ""
        return f"it was killed by {signal.Signals(-code).name}{hint}"


def _environment(threads: int) -> dict[str, str]:
    # Read by the BLAS libraries when torch loads them, which is before any job can set anything.
    fixed = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads > 0 else {}
    return {**os.environ, **fixed}
