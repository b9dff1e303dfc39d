"""How long a request may wait before it is run: for its modules, and then in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from graftery.errors import Unavailable

_T = TypeVar("_T")


def lateness(timeout_s: float | None) -> Unavailable:
    """The error of a request that was not run in its time."""
    return Unavailable(
        f"the request was not run within its timeout of {timeout_s or 0.0:g} s",
        code="deadline_exceeded",
        hint="retry later, or allow more time",
    )


async def in_time(what: Awaitable[_T], timeout_s: float | None) -> _T:
    """What is awaited; None: however long that takes.

    Raises:
        Unavailable: `deadline_exceeded`.
    """
    try:
        async with asyncio.timeout(timeout_s) as clock:
            return await what
    except TimeoutError:
        if not clock.expired():
            raise
        raise lateness(timeout_s) from None
