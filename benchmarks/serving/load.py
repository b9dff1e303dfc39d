"""The load generator, a process of its own: `python -m benchmarks.serving.load PLAN.json` prints what it saw as JSON.

Open loop: arrivals are drawn before anything is sent, and a request's latency counts from its arrival, whether or not a
connection was free for it: a server that stalls is charged for all who came meanwhile. Closed loop: every connection
sends its next request as soon as it has its answer.
One thread, non-blocking sockets, requests made before the clock starts: it has to cost less than any server.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import wire

CHECK_EACH = 16
"""One reply in so many is compared with the numbers that are expected; every status is looked at."""
STRAGGLERS_S = 8.0
MOST_RECONNECTS = 200
SPIN_S = 0.0005
"""Closer to the next arrival than this, it polls in place of sleeping: a sleep comes back too late."""
TOLERANCE = 2e-3


class Connection:
    """One keep-alive connection and the request that is under way on it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.socket = self.connected()
        self.kind, self.due, self.sent_at = -1, 0.0, 0.0
        self._out = memoryview(b"")
        self._in = bytearray()
        self._head_end, self._need = -1, -1

    def connected(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setblocking(False)
        return made

    def send(self, kind: int, data: bytes, due: float) -> None:
        self.kind, self.due, self.sent_at = kind, due, time.perf_counter()
        self._out, self._head_end, self._need = memoryview(data), -1, -1
        self._in.clear()
        self.flush()

    def flush(self) -> bool:
        """Send what the socket takes; True when all is sent. What is wrong with the socket, receiving from it says."""
        try:
            while self._out:
                self._out = self._out[self.socket.send(self._out) :]
        except OSError:
            return False
        return True

    @property
    def unsent(self) -> bool:
        return bool(self._out)

    def receive(self) -> tuple[bytes, bytes] | None:
        """Head and body once the reply is whole.

        Raises:
            ConnectionError: the server ended the connection.
        """
        try:
            while piece := self.socket.recv(262_144):
                self._in += piece
                if self._whole():
                    return bytes(self._in[: self._head_end]), self._body()
        except BlockingIOError:
            return None
        raise ConnectionResetError("the server ended a connection")

    def _whole(self) -> bool:
        if self._head_end < 0:
            end = self._in.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._head_end = end
            head = bytes(self._in[:end]).lower()
            at = head.find(b"content-length:")
            self._need = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else -1
        return len(self._in) >= self._need if self._need >= 0 else self._in.endswith(b"\r\n0\r\n\r\n")

    def _body(self) -> bytes:
        data = bytes(self._in[self._head_end + 4 :])
        if self._need >= 0:
            return data
        pieces = []
        while data:
            size, _, rest = data.partition(b"\r\n")
            pieces.append(rest[: int(size, 16)])
            data = rest[int(size, 16) + 2 :]
        return b"".join(pieces)


class Load:
    """A run of a plan against one server."""

    good: frozenset[bytes] = frozenset({b"200"})
    """The statuses that count as an answer."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.requests, self.expected, self.order = self.prepared(plan)
        self.sent = self.answered = self.checked = self.reconnects = 0
        self.bad: dict[str, int] = {}
        self.done: list[tuple[float, float, float]] = []
        """Of each answered request: due, sent, answered."""
        self.poll = select.epoll()
        self.connections: dict[int, Connection] = {}

    def prepared(self, plan: dict[str, Any]) -> tuple[list[bytes], list[Any], list[int]]:
        """Every request, what answers it, and the order in which they are sent, again and again."""
        requests, expected = requests_of(plan)
        order = np.random.default_rng(plan["seed"]).integers(0, len(requests), 1 << 16)
        return requests, expected, order.tolist()

    def connect(self) -> Connection:
        made = Connection(self.plan["port"])
        self.connections[made.socket.fileno()] = made
        self.poll.register(made.socket, select.EPOLLIN)
        return made

    def start(self, connection: Connection, due: float) -> None:
        kind = self.order[self.sent % len(self.order)]
        self.sent += 1
        connection.send(kind, self.requests[kind], due)
        if connection.unsent:
            self.poll.modify(connection.socket, select.EPOLLIN | select.EPOLLOUT)

    def wait(self, timeout_s: float) -> list[Connection]:
        """Connections whose answer came, meanwhile sending what is left to send."""
        free = []
        for fd, event in self.poll.poll(timeout_s):
            connection = self.connections[fd]
            if event & select.EPOLLOUT and connection.flush():
                self.poll.modify(fd, select.EPOLLIN)
            if event & ~select.EPOLLOUT and self._took(connection):
                free.append(connection)
        return free

    def _took(self, connection: Connection) -> bool:
        try:
            reply = connection.receive()
        except OSError:
            self._reconnect(connection)
            return False
        if reply is None:
            return False
        self.done.append((connection.due, connection.sent_at, time.perf_counter()))
        self.answered += 1
        kind, connection.kind = connection.kind, -1
        head, body = reply
        status = head[9:12]
        if status not in self.good:
            self._count_bad(f"{status.decode()} {body[:200].decode(errors='replace')}")
        elif self.plan.get("checked", True) and self.answered % CHECK_EACH == 1:
            self._check(kind, head, body)
        return True

    def _reconnect(self, connection: Connection) -> None:
        """A server may end a kept connection; a request that was on it is sent again, and keeps its arrival."""
        self.reconnects += 1
        if self.reconnects > MOST_RECONNECTS:
            raise ConnectionResetError("the server ends its connections")
        del self.connections[connection.socket.fileno()]
        self.poll.unregister(connection.socket)
        connection.socket.close()
        connection.socket = connection.connected()
        self.connections[connection.socket.fileno()] = connection
        self.poll.register(connection.socket, select.EPOLLIN | select.EPOLLOUT)
        if connection.kind >= 0:
            connection.send(connection.kind, self.requests[connection.kind], connection.due)

    def _check(self, kind: int, head: bytes, body: bytes) -> None:
        self.checked += 1
        found, wanted = wire.numbers(head, body), self.expected[kind]
        if found.shape != wanted.shape or not np.allclose(found, wanted, rtol=TOLERANCE, atol=TOLERANCE):
            self._count_bad(f"other numbers than expected: {found[:3]}, not {wanted[:3]}")

    def _count_bad(self, what: str) -> None:
        self.bad[what] = self.bad.get(what, 0) + 1

    def closed(self) -> None:
        """Every connection sends its next request when it has its answer."""
        began = time.perf_counter()
        until = began + self.plan["warm_s"] + self.plan["measure_s"]
        for _ in range(self.plan["connections"]):
            self.start(self.connect(), time.perf_counter())
        while (now := time.perf_counter()) < until:
            for connection in self.wait(min(0.1, until - now)):
                self.start(connection, time.perf_counter())
        self._drain(len(self.connections))

    def open(self) -> None:
        """Requests come at their drawn times; those for whom no connection is free wait, and the wait counts."""
        arrivals = deque(arrivals_of(self.plan))
        idle = [self.connect() for _ in range(min(8, self.plan["connections"]))]
        began, waiting = time.perf_counter(), deque[float]()
        until = began + self.plan["warm_s"] + self.plan["measure_s"] + STRAGGLERS_S
        while (arrivals or waiting) and (now := time.perf_counter()) < until:
            while arrivals and began + arrivals[0] <= now:
                waiting.append(began + arrivals.popleft())
            while waiting and (idle or len(self.connections) < self.plan["connections"]):
                self.start(idle.pop() if idle else self.connect(), waiting.popleft())
            gap = began + arrivals[0] - time.perf_counter() if arrivals else 0.05
            idle += self.wait(max(0.0, gap - SPIN_S) if not waiting else 0.05)
        self.unanswered = len(arrivals) + len(waiting)
        self._drain(len(self.connections) - len(idle))

    unanswered = 0

    def _drain(self, open_requests: int) -> None:
        until = time.perf_counter() + STRAGGLERS_S
        while open_requests and time.perf_counter() < until:
            open_requests -= len(self.wait(0.05))
        self.unanswered += open_requests

    def run(self) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        self.closed() if self.plan["loop"] == "closed" else self.open()
        wall_s = time.perf_counter() - began
        start, end = began + self.plan["warm_s"], began + self.plan["warm_s"] + self.plan["measure_s"]
        # A closed loop is counted by its answers in the window, an open one by its arrivals in the window.
        at = 2 if self.plan["loop"] == "closed" else 0
        window = [one for one in self.done if start <= one[at] < end]
        return {
            "answered": self.answered,
            "measured": len(window),
            "measure_s": self.plan["measure_s"],
            "latencies_ms": [round(1e3 * (answered - due), 4) for due, _, answered in window],
            "generator_lag_ms": round(1e3 * _high([sent - due for due, sent, _ in window]), 4),
            "generator_busy": round((time.process_time() - cpu) / wall_s, 3),
            "checked": self.checked,
            "reconnects": self.reconnects,
            "bad": self.bad,
            "unanswered": self.unanswered,
        }


def _high(values: list[float]) -> float:
    return float(np.quantile(values, 0.99)) if values else 0.0


def arrivals_of(plan: dict[str, Any]) -> list[float]:
    """Seconds from the start at which requests come: a Poisson process, the same for the same seed and rate."""
    until = plan["warm_s"] + plan["measure_s"]
    random = np.random.default_rng(plan["seed"] + 1)
    gaps = random.exponential(1 / plan["rate"], int(plan["rate"] * until * 1.5) + 50)
    return [float(at) for at in np.cumsum(gaps) if at < until]


def requests_of(plan: dict[str, Any]) -> tuple[list[bytes], list[wire.Array]]:
    """All requests, each target with each group of rows in turn, and the numbers that answer them."""
    with np.load(plan["rows"]) as kept:
        rows = {name: kept[name] for name in kept.files}
    pack, size = wire.FORMS[plan["form"]], plan["batch"]
    made, expected = [], []
    for target in plan["targets"]:
        y = rows[target["expected"]]
        for start in range(0, len(rows["x"]) - size + 1, size):
            jpeg = rows[f"jpeg{start}"].tobytes() if f"jpeg{start}" in rows else b""
            body, headers = pack(rows["x"][start : start + size], target["model"], jpeg)
            made.append(wire.request(target["path"], body, headers))
            expected.append(y[:, start : start + size].ravel() if y.ndim == 3 else y[start : start + size].ravel())
    return made, expected


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    print(json.dumps(Load(plan).run()))


if __name__ == "__main__":
    main()
