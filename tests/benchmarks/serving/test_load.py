from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.serving import wire
from benchmarks.serving.load import Load

STALL_S = 0.3


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the sum of the rows; once, after a stall."""

    protocol_version = "HTTP/1.1"
    stalls = 0
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if Handler.stalls:
            Handler.stalls = 0
            time.sleep(STALL_S)
        answer = json.dumps({"y": [sum(json.loads(body)["x"])]}).encode()
        self.send_response(Handler.status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Handler.stalls, Handler.status = 0, 200
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def _plan(tmp_path: Path, port: int, **more: Any) -> dict[str, Any]:
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.savez(tmp_path / "rows.npz", x=x, m0=x.sum(1, keepdims=True))
    plan = {"port": port, "rows": str(tmp_path / "rows.npz"), "form": "flat-json", "batch": 1, "seed": 0}
    plan |= {"targets": [{"path": "/", "model": "m0", "expected": "m0"}], "warm_s": 0.0, "measure_s": 0.5}
    return plan | more


def test_a_closed_loop_counts_answers_and_checks_their_numbers(tmp_path: Path, port: int) -> None:
    found = Load(_plan(tmp_path, port, loop="closed", connections=2)).run()
    assert found["bad"] == {}
    assert found["unanswered"] == 0
    assert found["checked"] > 0
    assert 0 < found["measured"] <= found["answered"]


def test_a_stall_is_charged_to_all_who_came_meanwhile(tmp_path: Path, port: int) -> None:
    Handler.stalls = 1
    found = Load(_plan(tmp_path, port, loop="open", connections=1, rate=100.0)).run()
    assert found["unanswered"] == 0
    assert sum(latency > 1e3 * STALL_S / 4 for latency in found["latencies_ms"]) > 10


def test_other_numbers_and_statuses_are_seen(tmp_path: Path, port: int) -> None:
    plan = _plan(tmp_path, port, loop="closed", connections=1)
    load = Load(plan)
    load.expected = [one + 1 for one in load.expected]
    assert "other numbers" in next(iter(load.run()["bad"]))
    Handler.status = 503
    assert next(iter(Load(plan).run()["bad"])).startswith("503")


def test_numbers_are_read_from_every_form_of_reply() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json"
    v2 = {"outputs": [{"name": "b", "data": [[3.0]]}, {"name": "a", "data": [1.0, 2.0]}]}
    assert wire.numbers(head, json.dumps(v2).encode()).tolist() == [1.0, 2.0, 3.0]
    assert wire.numbers(head, b"[[1.5]]").tolist() == [1.5]
    raw = b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream"
    assert wire.numbers(raw, np.float32([4, 5]).tobytes()).tolist() == [4.0, 5.0]
    start = json.dumps({"outputs": [{"name": "y", "parameters": {"binary_data_size": 8}}]}).encode()
    binary = raw + f"\r\ninference-header-content-length: {len(start)}".encode()
    assert wire.numbers(binary, start + np.float32([6, 7]).tobytes()).tolist() == [6.0, 7.0]
