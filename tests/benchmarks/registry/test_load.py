from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.registry.load import Load, written


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers 202 with what was asked."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"path": self.path, "body": json.loads(body)}, indent=1).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def _run(port: int, expected: str) -> dict[str, Any]:
    requests = [{"method": "PUT", "path": f"/{n}", "body": {"n": n}, "expected": [expected]} for n in range(3)]
    plan = {"port": port, "requests": requests, "loop": "closed", "connections": 2, "warm_s": 0.0, "measure_s": 0.3}
    return Load(plan).run()


def test_answers_are_counted_and_looked_at(port: int) -> None:
    found = _run(port, '"n":')
    assert found["bad"] == {}
    assert 0 < found["checked"] <= found["answered"]
    assert "is not in" in next(iter(_run(port, '"m":')["bad"]))


def test_a_get_has_no_body() -> None:
    assert written({"method": "GET", "path": "/x"}) == b"GET /x HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
