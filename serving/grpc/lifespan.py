"""Whether there is gRPC beside the HTTP plane. Its libraries are loaded only where there is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from registry.access.guard import Guard
from serving.service import Serving


@asynccontextmanager
async def grpc_beside(serving: Serving, guard: Guard) -> AsyncIterator[int | None]:
    """Answer gRPC until the block ends, where the settings give it a port; gives that port."""
    port = serving.settings.grpc_port
    if port is None:
        yield None
        return
    from serving.grpc.server import listening

    async with listening(serving, guard, serving.settings.host, port) as found:
        yield found
