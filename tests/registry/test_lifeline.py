"""A tied process ends with its parent: by the kernel's word, and by the end of its stdin."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, eventually, gone

# A process that ties itself and then, as it says on stdout, waits.
TIED = """
import signal, sys, time
from registry import lifeline
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True) if {stubborn} else sys.exit(0))
if not {kernel}:
    lifeline.ask_the_kernel = lambda number: None
lifeline.tie(grace_s={grace_s}, on_line=lambda line: print(line.decode(), flush=True))
print("tied", flush=True)
while True:
    time.sleep(0.05)
"""


def tied(*, grace_s: float = 0.0, kernel: bool = True, stubborn: bool = False) -> list[str]:
    return [sys.executable, "-c", TIED.format(grace_s=grace_s, kernel=kernel, stubborn=stubborn)]


def start(command: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "tied\n"
    return process


def test_lines_reach_it_and_the_end_of_stdin_ends_it() -> None:
    with start(tied(kernel=False)) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("one\ntwo\n")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
        process.stdin.close()
        assert process.wait(timeout=5) == -signal.SIGKILL


@pytest.mark.parametrize(("stubborn", "status"), [(False, 0), (True, -signal.SIGKILL)])
def test_with_grace_it_may_clean_up_and_no_longer(stubborn: bool, status: int) -> None:
    with start(tied(kernel=False, grace_s=0.5, stubborn=stubborn)) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=5) == status


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG")
def test_the_kernel_ends_it_when_its_parent_is_killed_and_its_stdin_stays_open(tmp_path: Path) -> None:
    parent = textwrap.dedent(
        f"""
        import subprocess, time
        child = subprocess.Popen({tied()!r}, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        # Somebody else holds the pipe too, so that its end never comes.
        holder = subprocess.Popen(["sleep", "30"], stdin=subprocess.DEVNULL, pass_fds=[child.stdin.fileno()])
        print(child.pid, holder.pid, flush=True)
        time.sleep(30)
        """
    )
    with subprocess.Popen([sys.executable, "-c", parent], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child, holder = (psutil.Process(int(pid)) for pid in process.stdout.readline().split())
        try:
            assert eventually(lambda: child.status() == psutil.STATUS_SLEEPING)
            process.kill()
            assert gone([child], within_s=3)
        finally:
            holder.kill()


def test_a_tied_process_exits_by_itself() -> None:
    """The thread that waits for stdin must not hold the interpreter up."""
    code = "from registry.lifeline import tie; import time; tie(); time.sleep(0.2)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE) as process:
        assert process.wait(timeout=10) == 0
