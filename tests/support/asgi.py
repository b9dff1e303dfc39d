"""Requests to an ASGI app in one event loop, without a client in between that would mend what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Caller:
    """Sends requests one after the other. A request that is not answered in time is an error: it hangs."""

    def __init__(self, app: FastAPI, limit_s: float = 20.0) -> None:
        self._app, self._limit_s = app, limit_s
        self._loop = asyncio.new_event_loop()

    def close(self) -> None:
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        return self.ask("POST", path, body, headers)

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = {}, server: str = "127.0.0.1"
    ) -> Reply:
        """Args: server: the address at which the request came in."""
        asked = self._ask(method, path, body, headers, server)
        return self._loop.run_until_complete(asyncio.wait_for(asked, self._limit_s))

    async def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str], server: str) -> Reply:
        events: list[Any] = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[Any] = []
        silence = asyncio.Event()

        async def receive() -> Any:
            if not events:
                await silence.wait()
            return events.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode("latin-1"), value.encode()) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": (server, 80),
            "state": {},
        }
        await self._app(scope, receive, send)
        start = sent[0]
        found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return Reply(start["status"], found, b"".join(each.get("body", b"") for each in sent[1:]))
