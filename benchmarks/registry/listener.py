"""Many listeners of live events, one process: `python -m benchmarks.registry.listener PLAN.json`.

Opens a stream each, says `ready` when all have their first event, and then notes when each event reaches each of them, by the
clock that all processes of the machine share. Ends when every stream has ended, and prints what it saw as JSON.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

READ_BYTES = 65_536


class Stream:
    """One listener's connection."""

    def __init__(self, port: int, job: str) -> None:
        self.job, self.seen, self._rest, self.ended = job, dict[int, float](), b"", False
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self.socket.sendall(f"GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        self.socket.setblocking(False)

    def read(self) -> None:
        """Take what is there; an event counts from its first byte that was read."""
        try:
            piece = self.socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        at = time.monotonic()
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(b"id:"):
                self.seen.setdefault(int(line[3:]), at)
        self.ended = self.ended or not piece or self._rest.endswith(b"0\r\n\r\n") or lines[-2:] == [b"0\r", b"\r"]


def run(plan: dict[str, Any]) -> dict[str, Any]:
    """Listen until every stream has ended, or the time is over."""
    streams = [Stream(plan["port"], job) for job in plan["jobs"]]
    poll, by_fd = select.epoll(), {}
    for stream in streams:
        by_fd[stream.socket.fileno()] = stream
        poll.register(stream.socket, select.EPOLLIN)
    said, left, until = False, len(streams), time.monotonic() + plan["timeout_s"]
    while left and time.monotonic() < until:
        for fd, _ in poll.poll(0.1):
            stream = by_fd[fd]
            stream.read()
            if stream.ended:
                poll.unregister(fd)
                stream.socket.close()
                left -= 1
        if not said and all(stream.seen for stream in streams):
            said = True
            print("ready", flush=True)
    return {"ended": len(streams) - left, "seen": [{"job": one.job, "at": one.seen} for one in streams]}


def main() -> None:
    print(json.dumps(run(json.loads(Path(sys.argv[1]).read_text()))))


if __name__ == "__main__":
    main()
