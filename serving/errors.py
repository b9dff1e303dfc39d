"""Every error under /v2 as the protocol wants it: `{"error": "..."}`, with the status of `graftery.spec.problems`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from graftery.errors import GrafteryError
from graftery.spec.problems import status_of
from serving.gate import RETRY_AFTER_S

log = structlog.get_logger("graftery.inference")


class InferenceRoute(APIRoute):
    """A route whose errors stay under /v2, whatever handlers the app around it has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return guarded(super().get_route_handler())


def guarded(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """The handler with its errors turned into answers."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            return refusal(request, error)

    return answer


def refusal(request: Request, error: Exception) -> Response:
    """The answer to a request that ended with this error."""
    if isinstance(error, GrafteryError):
        status = status_of(error.code)
        if status >= 500:
            log.warning("inference refused", code=error.code, cause=str(error))
        headers = {"Retry-After": str(error.details.get("retry_after_s", RETRY_AFTER_S))} if status == 503 else {}
        return _answer(status, str(error), headers)
    if isinstance(error, HTTPException):
        return _answer(error.status_code, str(error.detail), dict(error.headers or {}))
    if isinstance(error, RequestValidationError):
        return _answer(400, "; ".join(str(each["msg"]) for each in error.errors()))
    log.error("unhandled error", path=request.url.path, exc_info=error)
    request_id = getattr(request.state, "request_id", None)
    where = f" under request id {request_id}" if request_id else ""
    return _answer(500, f"the service met an error that it does not know; its log has the details{where}")


class Elsewhere:
    """ASGI app for what no route under /v2 takes: 405 where another method would do, else 404."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await self.answer(request)(scope, receive, send)

    def answer(self, request: Request) -> Response:
        methods = _methods_at(request)
        path, method = request.url.path, request.method
        if methods and method not in methods:
            allowed = ", ".join(methods)
            return _answer(405, f"{path} does not take {method}; it takes {allowed}", {"Allow": allowed})
        return _answer(404, f"there is no path {path}; docs/inference.md lists what there is under /v2")


def _methods_at(request: Request) -> list[str]:
    """The methods that our routes take at this path."""
    found: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        regex = getattr(route, "path_regex", None)
        if regex is not None and regex.match(request.scope["path"]):
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


def _answer(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": text}, status, headers=headers)
