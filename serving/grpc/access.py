"""Keys over gRPC: the metadata `authorization`, looked at before each call and each request of a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from graftery.spec.access import Scope
from registry.access.guard import Guard
from serving.grpc.messages import Message

OPEN = frozenset({"ServerLive", "ServerReady"})
_ASK: frozenset[Scope] = frozenset({"infer"})
_RULE: frozenset[Scope] = frozenset({"admin"})
_SERVED: frozenset[Scope] = frozenset({"infer", "read"})
NEEDED: dict[str, frozenset[Scope]] = {
    "ModelInfer": _ASK,
    "ModelStreamInfer": _ASK,
    "ServerMetadata": _SERVED,
    "ModelMetadata": _SERVED,
    "ModelReady": _SERVED,
    "ModelConfig": _SERVED,
    "ModelStatistics": _SERVED,
    "RepositoryIndex": _SERVED,
}
"""One of these scopes; any other call needs admin."""


async def admit(guard: Guard, name: str, context: Any) -> None:
    """Let a call in.

    Raises:
        AccessRefused, Unavailable: as `Guard.admit` does.
    """
    if name not in OPEN:
        await guard.admit(_authorization(context), _address(context), NEEDED.get(name, _RULE), name)


async def admitted(guard: Guard, name: str, requests: AsyncIterator[Message], context: Any) -> AsyncIterator[Message]:
    """The requests of a stream, each let in by itself: a key that is taken back ends it. The first one is read once it is let in."""
    await admit(guard, name, context)
    is_first = True
    async for request in requests:
        if not is_first:  # it was long in coming, perhaps
            await admit(guard, name, context)
        is_first = False
        yield request


def _authorization(context: Any) -> str | None:
    found = [value for key, value in context.invocation_metadata() or () if key == "authorization"]
    return None if not found else found[0] if len(found) == 1 else ""


def _address(context: Any) -> str:
    """`ipv4:10.0.0.1:5000` without the port."""
    address: str = context.peer().rpartition(":")[0]
    return address
