"""Pools of warm processes that work on strangers' files, which never meet this process, its memory or torch.

JSON lines in, JSON lines out (`graftery.module.protocol`). A child sets its own memory and CPU limits for each request;
the wall limit is kept here. A child that is late or dead is replaced, and its request refused. A child ends when its
stdin does, so that none outlives this process, however that ends.
"""

from __future__ import annotations

import json
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

import structlog

from graftery.errors import GrafteryError, ModuleFileError, Unavailable
from graftery.spec.limits import MIB, Limits

log = structlog.get_logger("graftery.children")

START_S = 180.0  # importing torch takes 6 s on a quiet machine, and minutes on a busy one with a cold disk
MAX_LINE_BYTES = 64 * MIB
# How soon who waits for an answer notices that there will be none, and how long they are waited for.
_LOOK_S = 0.5
_LEAVE_S = 5.0
KEPT_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "VIRTUAL_ENV")


class Children:
    """Answers requests in child processes, as many at once as there are children; the callers wait in threads.

    Args:
        limits: for each request.
        size: how many children.
        command: starts one.
        work: what they do, for messages.
    """

    def __init__(self, limits: Limits, size: int, command: tuple[str, ...], work: str) -> None:
        self._limits = limits
        self._ids = iter(range(1, sys.maxsize))
        self._children = [_Child(command, work) for _ in range(size)]
        self._idle: queue.LifoQueue[_Child] = queue.LifoQueue()
        for child in self._children:
            self._idle.put(child)

    def start(self) -> None:
        """Begin to warm every child; does not wait for them."""
        for child in self._children:
            child.start()

    def close(self) -> None:
        """End the children for good: who waits for an answer is refused."""
        for child in self._children:
            child.end()

    def rest(self) -> None:
        """End the children that are idle now; each is started again when it is next needed."""
        for child in self._children:
            if child.lock.acquire(blocking=False):
                try:
                    child.stop()
                finally:
                    child.lock.release()

    def ask(self, action: str, path: str, **arguments: Any) -> dict[str, Any]:
        """What a child answers.

        Raises:
            ModuleFileError: with the child's code; `verify_limit` when it took too long or too much.
            Unavailable: no child could be started.
        """
        limits = self._limits.model_dump(mode="json")
        request = {"id": next(self._ids), "action": action, "path": path, "limits": limits, **arguments}
        with self._child() as child:
            answer = child.ask(request, self._limits.wall_s)
        refusal = answer.get("problem")
        if refusal is not None:
            raise ModuleFileError(refusal.pop("message"), **refusal)
        found: dict[str, Any] = answer["ok"]
        return found

    @contextmanager
    def _child(self) -> Iterator[_Child]:
        child = self._idle.get()
        try:
            with child.lock:
                yield child
        finally:
            self._idle.put(child)


class _Child:
    """One process, started when it is first needed and again whenever it has died. One caller at a time."""

    def __init__(self, command: tuple[str, ...], work: str) -> None:
        self._command = command
        self._work = work
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._warm = False
        self._starting = threading.Lock()
        self.lock = threading.Lock()
        """Held by its caller."""
        self.ended = False

    def start(self) -> subprocess.Popen[bytes]:
        with self._starting:
            if self.ended:
                raise BrokenPipeError
            if self._process is None or self._process.poll() is not None:
                self.stop()
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(), bufsize=0
                )
            return self._process

    def stop(self) -> None:
        process, self._process, self._unread, self._warm = self._process, None, b"", False
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in _pipes(process):
            pipe.close()

    def end(self) -> None:
        """End it for good. Whoever waits for its answer leaves first: a pipe that is closed under them never wakes them."""
        with self._starting:
            self.ended = True
            if self._process is not None:
                self._process.kill()
        if self.lock.acquire(timeout=_LEAVE_S):
            self.stop()
            self.lock.release()

    def ask(self, request: dict[str, Any], wall_s: float, *, again: bool = True) -> dict[str, Any]:
        """One question, one answer; a child that does not give it within `wall_s` is ended.

        Where a child was killed, another is asked, once: a child's own limits end it otherwise, so the file may be fine.
        """
        self._ready()
        try:
            return self._answer(request, wall_s)
        except (TimeoutError, EOFError, OSError) as error:
            late = isinstance(error, TimeoutError)
            killed = not late and self._was_killed()
            log.warning("child_ended", work=self._work, action=request["action"], late=late)
            self.stop()
            if self.ended:
                raise Unavailable("the service is ending") from error
            self.start()  # warm again by the time the next request comes
            if killed and again:
                return self.ask(request, wall_s, again=False)
            reason = f"took more than {wall_s:g} s" if late else "ran over its memory or CPU time"
            raise ModuleFileError(
                f"{self._work} {reason}", code="verify_limit", hint="send a smaller net, or raise the limits"
            ) from error
        except ValueError as error:
            self.stop()
            raise GrafteryError(f"{self._work} ended with an answer that is no JSON", code="internal") from error

    def _was_killed(self) -> bool:
        try:
            return self._process is not None and self._process.wait(_LOOK_S) == -signal.SIGKILL
        except subprocess.TimeoutExpired:
            return False

    def _ready(self) -> None:
        try:
            process = self.start()
            if self._warm:
                return
            self._line(process, time.monotonic() + START_S)
        except (TimeoutError, EOFError, OSError) as error:
            self.stop()
            raise Unavailable(f"the process for {self._work} does not start") from error
        self._warm = True

    def _answer(self, request: dict[str, Any], wall_s: float) -> dict[str, Any]:
        process = self.start()
        stdin, _ = _pipes(process)
        stdin.write(json.dumps(request).encode() + b"\n")
        deadline = time.monotonic() + wall_s
        while True:
            answer: dict[str, Any] = json.loads(self._line(process, deadline))
            if answer.get("id") == request["id"]:
                return answer

    def _line(self, process: subprocess.Popen[bytes], deadline: float) -> bytes:
        """The next line of the child's output; TimeoutError past the deadline, EOFError when the child has ended."""
        _, out = _pipes(process)
        pieces, size, ended = [self._unread], len(self._unread), b"\n" in self._unread
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while not ended:
                if self.ended:
                    raise EOFError
                left_s = deadline - time.monotonic()
                if not selector.select(min(_LOOK_S, max(0.0, left_s))):
                    if left_s <= 0:
                        raise TimeoutError
                    continue
                read = os.read(out.fileno(), 65_536)
                pieces.append(read)
                size, ended = size + len(read), b"\n" in read
                if not read or size > MAX_LINE_BYTES:
                    raise EOFError
        # Joined once: added up one by one, an answer of many MiB would hold this process up for seconds.
        line, _, self._unread = b"".join(pieces).partition(b"\n")
        return line


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    """The child's stdin and stdout, which Popen types as perhaps missing."""
    if process.stdin is None or process.stdout is None:
        raise BrokenPipeError
    return process.stdin, process.stdout


def _environment() -> dict[str, str]:
    """What a child may know: nothing of the service's passwords; one thread, no GPU."""
    kept = {name: value for name, value in os.environ.items() if name in KEPT_VARIABLES or name.startswith("PYTHON")}
    return {**kept, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
