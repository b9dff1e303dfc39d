"""What surrounds every request: its id, its log line, its figures, the security headers, and the last catch.

Plain ASGI: Starlette's BaseHTTPMiddleware would put a queue between a streamed body and its reader.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time
from typing import Any

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.edge.errors import problem
from app.edge.metrics import Metrics
from app.edge.started import Started

log = structlog.get_logger("graftery.http")
_LEVELS = logging.getLogger("graftery.http")

MAX_JSON_BYTES = 1024**2
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_STREAMED = re.compile(
    r"PUT /v1/(modules|teachers|samples)/[^/]+|PUT /v1/uploads/[^/]+/parts/[^/]+|PATCH /v1/uploads/[^/]+"
)
_QUIET = ("/health", "/v2/health", "/metrics")
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# An answer of the API is never a page: a browser that is made to show one runs nothing of it.
API_POLICY = "default-src 'none'; frame-ancestors 'none'"


class RequestContext:
    """Outermost: gives the request its id, logs and counts it, and turns what nobody caught into a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics, draining: threading.Event | None = None) -> None:
        self.app = app
        self.metrics = metrics
        self.draining = draining or threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        answer = _Answer(send, request_id, last=self.draining.is_set())
        began = time.perf_counter()
        try:
            await self.app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = answer.status or 499
        except Exception:
            log.exception("unhandled error", method=scope["method"], path=scope["path"])
            if answer.status:
                raise  # the answer has begun: the server can only cut it off
            detail = "the service met an error that it does not know; its log has the details under this request id"
            await problem(Request(scope), "internal", detail)(scope, receive, answer.send)
        finally:
            self._account(scope, answer.status or 500, time.perf_counter() - began)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        route = _route_of(scope)
        self.metrics.observe(scope["method"], route, status, seconds)
        level = logging.DEBUG if scope["path"].startswith(_QUIET) else logging.INFO
        if not _LEVELS.isEnabledFor(level):  # structlog takes its time to find that out
            return
        log.log(
            level,
            "request",
            method=scope["method"],
            path=scope["path"],
            status=status,
            duration_ms=round(seconds * 1000, 1),
        )


class _Answer:
    """Passes the answer on, with our headers on it, and remembers its status.

    Args:
        last: the connection ends with it, so that a proxy takes its next one elsewhere.
    """

    def __init__(self, send: Send, request_id: str, *, last: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._last = last
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self._request_id
            if self._last:
                headers["Connection"] = "close"
            for name, value in SECURITY_HEADERS.items():
                headers.setdefault(name, value)
            if not headers.get("content-type", "").startswith("text/html"):
                headers.setdefault("Content-Security-Policy", API_POLICY)
        await self._send(message)


def _request_id(given: str | None) -> str:
    # No secret, so no system call for it: that would take as long as a small net.
    return given if given is not None and _REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def _route_of(scope: Scope) -> str:
    """The route's template: a path itself would make one series a name."""
    route: Any = scope.get("route")
    return str(getattr(route, "path_format", None) or getattr(route, "path", None) or "unmatched")


class JsonBodyLimit:
    """Caps the bodies that are held in memory: all under /v1, but for those of uploads, which are streamed."""

    def __init__(self, app: ASGIApp, limit: int = MAX_JSON_BYTES) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held = scope["type"] == "http" and scope["method"] in _WITH_BODY and scope["path"].startswith("/v1/")
        if held and _STREAMED.fullmatch(f"{scope['method']} {scope['path']}"):
            held = False
        await self.app(scope, self._counted(receive) if held else receive, send)

    def _counted(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self.limit:
                # FastAPI lets only its own exceptions pass while it reads a body.
                raise HTTPException(413, f"a request body holds at most {self.limit} bytes")
            return message

        return counted


class BodyTimeout:
    """Ends a request whose body has begun and does not go on: who waits for it holds what it has already."""

    def __init__(self, app: ASGIApp, idle_s: float) -> None:
        self.app = app
        self.idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waits = scope["type"] == "http" and scope["method"] in _WITH_BODY
        await self.app(scope, self._timed(receive) if waits else receive, send)

    def _timed(self, receive: Receive) -> Receive:
        whole = False

        async def timed() -> Message:
            nonlocal whole
            if whole:  # what comes now is that the client has gone
                return await receive()
            started: Started[Message] = Started(receive())
            try:
                if started.is_over:  # what is there already needs no clock, which would take as long as many a net
                    message = started.value
                else:
                    async with asyncio.timeout(self.idle_s):
                        message = await started
            except TimeoutError:
                gone = f"nothing of the body came for {self.idle_s:g} s"
                raise HTTPException(408, gone, headers={"Connection": "close"}) from None
            whole = not message.get("more_body", False)
            return message

        return timed


_BY_THEMSELVES = re.compile(r"/v1/(versions/.+/file|jobs/[^/]+/events)")


class HeadAsGet:
    """Answers HEAD with the headers of GET. Files answer it themselves: they need not read what is not sent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["method"] == "HEAD" and not scope["path"].startswith("/v2")
        if not ours or _BY_THEMSELVES.fullmatch(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # Of a copy: the server looks at its own scope to see whether what it sends has a body.
        scope.setdefault("state", {})["only_headers"] = True
        inside = {**scope, "method": "GET"}
        try:
            await self.app(inside, receive, without_body)
        finally:
            scope.update(inside | {"method": "HEAD"})  # which route it was, for the log
