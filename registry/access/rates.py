"""How many requests a key, or an address, may send: counted in this process, or in Redis for all processes."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Mapping
from typing import Any

import structlog
from limits import RateLimitItem, parse

from graftery.errors import Unavailable

log = structlog.get_logger("graftery.access")


class Rates:
    """Limits by kind of request, each counted for every key or address by itself.

    Args:
        rates: by kind, as `limits` reads them: "100/second", "5000 per hour". A kind that is not named has none.
        url: `redis://...`, where all processes count together; None: each by itself.
    """

    def __init__(self, rates: Mapping[str, str], url: str | None = None) -> None:
        self._items: dict[str, RateLimitItem] = {kind: parse(rate) for kind, rate in rates.items()}
        self._limiter: Any = _limiter(url) if self._items else None

    async def hit(self, kind: str, who: str) -> None:
        """Count a request.

        Raises:
            Unavailable: `rate_limited`, with `retry_after_s`.
        """
        item = self._items.get(kind)
        if item is not None and not await self._ask("hit", item, kind, who):
            raise await self._refusal(item, kind, who)

    async def look(self, kind: str, who: str) -> None:
        """Refuse what `hit` would refuse now, and count nothing.

        Raises:
            Unavailable: `rate_limited`.
        """
        item = self._items.get(kind)
        if item is not None and not await self._ask("test", item, kind, who):
            raise await self._refusal(item, kind, who)

    async def _ask(self, verb: str, *args: object) -> Any:
        try:
            found = getattr(self._limiter, verb)(*args)
            return await found if inspect.isawaitable(found) else found
        except Exception as error:  # without its counter a limit is no reason to refuse everybody
            log.warning("rates cannot be counted", error=repr(error))
            return True

    async def _refusal(self, item: RateLimitItem, kind: str, who: str) -> Unavailable:
        stats = await self._ask("get_window_stats", item, kind, who)
        left_s = 1 if stats is True else max(1, math.ceil(stats.reset_time - time.time()))
        what = "refused keys" if kind == REFUSED else f"requests of the kind {kind}"
        return Unavailable(
            f"more than {item.amount} {what} in {item.get_expiry()} s",
            code="rate_limited",
            hint=f"retry after {left_s} s",
            retry_after_s=left_s,
        )


REFUSED = "refused"
"""The kind of requests whose key was not taken; counted by address."""


def _limiter(url: str | None) -> Any:
    if url is None:
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        return SlidingWindowCounterRateLimiter(MemoryStorage())
    from limits.aio import strategies
    from limits.aio.storage import RedisStorage

    return strategies.SlidingWindowCounterRateLimiter(
        RedisStorage(f"async+{url}", implementation="redispy", key_prefix="graftery")
    )
