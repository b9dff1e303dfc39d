"""A real HTTP server on a free port that answers what a test tells it to: also badly, late, or half."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    nth: int
    """How often this method and path were asked, this one included."""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What to say. `declared`: the Content-Length to state, where the body is to end early."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    declared: int | None = None


def as_json(value: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})


def problem(code: str, status: int, detail: str = "no", **more: Any) -> Answer:
    return as_json({"type": "x", "title": "t", "status": status, "detail": detail, "code": code, **more}, status)


Script = dict[str, Callable[[Asked], Answer | None]]
"""Keys like `GET /v1/modules`; an answer of None is a connection that closes without a word."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        asked = self._read(unquote(url.path), parse_qs(url.query))
        self.server.asked.append(asked)
        act = self.server.script.get(f"{asked.method} {asked.path}", lambda _: problem("not_found", 404))
        answer = act(asked)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.declared is None else answer.declared))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.close_connection |= answer.declared is not None

    def _read(self, path: str, query: dict[str, list[str]]) -> Asked:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = f"{self.command} {path}"
        with self.server.lock:
            self.server.counts[key] += 1
        return Asked(self.command, path, query, dict(self.headers), body, self.server.counts[key])

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def log_message(self, *_: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, script: Script) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.asked: list[Asked] = []
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is part of many tests."""


@contextmanager
def scripted(script: Script) -> Iterator[_Server]:
    """The server for as long as the block runs; `asked` has what came in."""
    server = _Server(script)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
