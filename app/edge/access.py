"""Every request's key is looked at here, before anything else is: what it needs is said by its method and path alone.

Plain ASGI, and around the inference plane too: an infer request pays microseconds.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from functools import lru_cache

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.edge.errors import problem
from app.files.uploads import unread_body
from graftery.errors import GrafteryError
from graftery.spec.access import Scope as Right
from graftery.spec.problems import status_of
from registry.access.caller import acting
from registry.access.guard import Guard
from registry.settings import is_loopback

Rights = frozenset[Right]
LOOK, CHANGE, JOBS, ASK, RULE = (
    frozenset[Right]({right}) for right in ("read", "push", "transplant", "infer", "admin")
)
SERVED: Rights = LOOK | ASK
KEPT_PATH = 256
"""Characters of a path whose rights are kept, at most."""
# What every service says of itself, and what a load balancer asks.
_OPEN = re.compile(r"/health(/live|/ready)?|/v2/health/(live|ready)|/openapi\.json|/docs(/oauth2-redirect)?|/redoc")
_RULES: tuple[tuple[str, re.Pattern[str], Rights], ...] = (
    ("POST", re.compile(r"/v2/models/.*/infer"), ASK),
    ("POST", re.compile(r"/v2/repository/index"), SERVED),
    ("GET HEAD", re.compile(r"/v2(/.*)?"), SERVED),
    ("GET HEAD POST PUT PATCH DELETE", re.compile(r"/v1/(keys|audit|collect)(/.*)?"), RULE),
    ("GET HEAD", re.compile(r"/v1/.*|/metrics"), LOOK),
    ("OPTIONS", re.compile(r"/v1/uploads"), LOOK),
    ("POST", re.compile(r"/v1/(transplants|clones|jobs/.*|generic/[^/]+/(grow|consolidate))"), JOBS),
    ("POST PUT PATCH DELETE", re.compile(r"/v1/.*"), CHANGE),
)


def needed(method: str, path: str) -> Rights | None:
    """The scopes one of which a request needs; None: it needs no key. What no rule knows needs admin."""
    # Strangers' paths are kept too: only so much of them.
    return _known(method, path) if len(path) <= KEPT_PATH else _needed(method, path)


def _needed(method: str, path: str) -> Rights | None:
    if _OPEN.fullmatch(path):
        return None
    found = (rights for methods, pattern, rights in _RULES if method in methods.split() and pattern.fullmatch(path))
    return next(found, RULE)


_known = lru_cache(maxsize=4096)(_needed)


class Access:
    """Middleware that lets in whom the guard admits, and says who it is to what is inside."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        rights = needed(method, path)
        if rights is None:
            await self._app(scope, receive, send)
            return
        try:
            client = scope.get("client")
            caller = await self._guard.admit(
                _authorization(scope),
                client[0] if client else None,
                rights,
                f"{method} {path}",
                asks=self._guard.asks or (self._guard.by_address and _is_from_outside(scope.get("server"))),
            )
        except GrafteryError as error:
            await _refusal(Request(scope, receive), error)(scope, receive, send)
            return
        with acting(caller, scope.get("state", {}).get("request_id")):
            await self._app(scope, receive, send)


def _authorization(scope: Scope) -> str | None:
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    # Two of them: who is before us may have looked at the other one.
    return None if not found else found[0].decode("latin-1") if len(found) == 1 else ""


def _is_from_outside(server: tuple[str, int | None] | None) -> bool:
    """Whether a request came in at an address that other machines reach, whatever the settings say of ours."""
    return server is not None and server[1] is not None and _is_public(server[0])


@lru_cache(maxsize=256)
def _is_public(host: str) -> bool:
    return bool(re.fullmatch(r"[0-9.]+|.*:.*", host)) and not is_loopback(host.removeprefix("::ffff:"))


def _refusal(request: Request, error: GrafteryError) -> Response:
    with suppress(GrafteryError), unread_body(request):
        raise error
    headers = {"WWW-Authenticate": "Bearer"} if error.code == "unauthenticated" else {}
    if not request.url.path.startswith("/v2"):
        return problem(request, error.code, error.message, hint=error.hint, headers=headers, **error.details)
    status = status_of(error.code)
    if "retry_after_s" in error.details:
        headers["Retry-After"] = str(error.details["retry_after_s"])
    return Response(json.dumps({"error": str(error)}), status, headers, "application/json")
