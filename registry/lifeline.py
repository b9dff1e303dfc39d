"""A process that ends when the one that started it is gone, however that one ended.

Two means, because each has a hole. The kernel's PR_SET_PDEATHSIG needs no help from us, but it is Linux only, and it
fires when the *thread* that spawned ends. The end of stdin, a pipe that only the parent holds open, works on every
Unix, but needs a thread here that gets to run.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
# Found once: between fork and exec, where this may be called, nothing should be looked up any more.
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None
_PIECE_BYTES = 65_536


def tie(*, grace_s: float = 0.0, on_line: Callable[[bytes], None] | None = None) -> None:
    """End this process when its parent has ended, or has closed our stdin.

    Args:
        grace_s: how long the process may clean up after a SIGTERM; with 0 it is killed at once.
        on_line: what to do with a line on stdin, given without its end; called in a thread of its own.
    """
    ask_the_kernel(signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
    threading.Thread(target=_watch, args=(grace_s, on_line), name="lifeline", daemon=True).start()


def ask_the_kernel(number: signal.Signals) -> None:
    """Have this process sent a signal when the thread that spawned it ends; nothing where the kernel is not Linux."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _watch(grace_s: float, on_line: Callable[[bytes], None] | None) -> None:
    rest = b""
    # Not sys.stdin: its lock, held by a thread that waits, makes the interpreter hang at its exit.
    while piece := os.read(0, _PIECE_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        if on_line is not None:
            for line in lines:
                on_line(line)
    if grace_s > 0:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
    os.kill(os.getpid(), signal.SIGKILL)
