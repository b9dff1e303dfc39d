"""Real processes in tests: started with the project's interpreter, bounded, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from registry.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def environment(settings: Settings) -> dict[str, str]:
    """Settings as a process reads them."""
    fields = settings.model_dump(mode="json", exclude_none=True, exclude={"limits", "planes"})
    given = {f"GRAFTERY_{name.upper()}": str(value) for name, value in fields.items()}
    return {**os.environ, **given, "GRAFTERY_PLANES": ",".join(sorted(settings.planes))}


@contextmanager
def running(
    arguments: Sequence[str], env: Mapping[str, str], stdout: int | None = None, stderr: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ARGUMENTS`; at the end it and everything that it started is gone."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], cwd=ROOT, env={**env}, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr
    )
    try:
        yield process
    finally:
        left = family(process.pid)
        process.kill()
        process.wait()
        for each in left:
            if each.is_running():
                each.kill()
        process.stdin.close() if process.stdin else None


def family(pid: int) -> list[psutil.Process]:
    """The process and everything below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def gone(processes: Sequence[psutil.Process], within_s: float = 10.0) -> bool:
    """Whether all of them end by themselves in time; a zombie that nobody reaps counts as gone."""
    return eventually(lambda: not any(_lives(each) for each in processes), within_s)


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(condition: Callable[[], object], within_s: float = 20.0) -> bool:
    """Whether the condition comes true in time."""
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.05)  # what is asked costs milliseconds of a core, here and in the process that answers
    return bool(condition())


def meanwhile(action: Callable[[], object]) -> threading.Thread:
    """Do it in a thread of its own."""
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread
