"""Keeping processes alive, and ending them: each part of the service is a process that is started again when it dies."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, cast

import structlog

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 10.0
# A part that ran this long had come up: its next death is a first one again.
_WELL_S = 5.0

log = structlog.get_logger("graftery.serve")


class Part:
    """One process of the service, restarted with growing delays.

    Its stdin is a pipe that only we hold: it ends when we do, even by kill -9 (`registry.lifeline`). It has a process
    group of its own, so that Ctrl-C in a terminal reaches only us, and we end it in good order.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], fds: Sequence[int] = ()
    ) -> None:
        self.name = name
        self.deaths = 0
        self._command = command
        self._environment = environment
        self._fds = fds
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def tend(self) -> None:
        """Start the process where it does not run and its delay is over."""
        now = time.monotonic()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                return
            self._mourn(code, now)
        if now >= self._start_at:
            self._start(now)

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def kill(self) -> None:
        """End the process now, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _start(self, now: float) -> None:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),  # ours says the address, and nothing else
            env={**os.environ, **self._environment},
            pass_fds=self._fds,
            process_group=0,
        )
        self._started_at = now
        log.debug("part_started", part=self.name, pid=self._process.pid)

    def _mourn(self, code: int, now: float) -> None:
        process = cast("subprocess.Popen[bytes]", self._process)
        cast(IO[bytes], process.stdin).close()
        self._process = None
        self.deaths = 1 if now - self._started_at > _WELL_S else self.deaths + 1
        delay_s = min(_FIRST_DELAY_S * 2 ** (self.deaths - 1), _LONGEST_DELAY_S)
        self._start_at = now + delay_s
        log.warning("part_died", part=self.name, status=code, restart_in_s=delay_s)


def end_all(parts: Sequence[Part], grace_s: float, in_a_hurry: Callable[[], bool]) -> None:
    """End all parts at once: SIGTERM, and SIGKILL for what is left after `grace_s`, or as soon as there is a hurry."""
    for part in parts:
        part.terminate()
    until = time.monotonic() + grace_s
    while time.monotonic() < until and not in_a_hurry() and not all(part.ended() for part in parts):
        time.sleep(0.05)
    for part in parts:
        part.kill()
