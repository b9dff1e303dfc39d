"""The one door: every transport asks here who a key belongs to, and whether that may do what is asked.

A key that was found is believed for a few seconds, so that an inference request pays microseconds for it. What is kept in
memory are hashes.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import TypeVar

import structlog

from graftery.errors import AccessRefused, Conflict, GrafteryError
from graftery.spec.access import SCOPES, Scope
from registry.access import keys, tokens
from registry.access.caller import ANYBODY, Caller, check_scope
from registry.access.rates import REFUSED, Rates
from registry.db import Database
from registry.settings import Settings

log = structlog.get_logger("graftery.access")

MAX_KEPT = 10_000
Scopes = frozenset[Scope]
_Kept = TypeVar("_Kept")


class Guard:
    """Admits callers by their keys, where keys are asked for, and counts their requests."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.asks = settings.asks_for_keys
        self.by_address = settings.access == "auto"
        self._database, self._life_s = database, settings.keys_s
        rates = {str(kind): rate for kind, rate in settings.rates.items()}
        self._rates = Rates({**rates, REFUSED: settings.refused_rate}, settings.rates_url)
        self._good: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._bad: OrderedDict[bytes, float] = OrderedDict()

    async def admit(
        self, authorization: str | None, address: str | None, scopes: Scopes, what: str, *, asks: bool | None = None
    ) -> Caller:
        """Who asks, when it may.

        Args:
            authorization: the header, or what stands for it; None: there was none.
            address: where it came from.
            scopes: one of them is needed.
            what: is asked, in words.
            asks: whether a key is needed; by default as the settings say.

        Raises:
            AccessRefused: `unauthenticated`, `forbidden`.
            Unavailable: `rate_limited`; or the database does not answer.
        """
        caller = ANYBODY
        if self.asks if asks is None else asks:
            caller = await self._known(bearer(authorization), address or "")
            check_scope(caller, scopes, what)
        await self._rates.hit(_kind(scopes), caller.key_id or address or "")
        return caller

    async def still(self, authorization: str | None) -> bool:
        """Whether a key that was admitted is taken now: for answers that go on for long."""
        try:
            await self._known(bearer(authorization), "")
        except GrafteryError:
            return False
        return True

    async def _known(self, token: str | None, address: str) -> Caller:
        if token is None:
            raise refused("this service asks for a key")
        digest, now = hashlib.sha256(token.encode("utf-8", "replace")).digest(), time.monotonic()
        kept = self._good.get(digest)
        if kept is not None and now < kept[0]:
            return kept[1]
        if kept is None:
            # Only who was never taken: a flood of wrong keys keeps nobody out who has a right one.
            await self._rates.look(REFUSED, address)
            if now < self._bad.get(digest, 0.0):
                await self._rates.hit(REFUSED, address)
                raise refused("this key is not taken")
        return await self._found(token, digest, address)

    async def _found(self, token: str, digest: bytes, address: str) -> Caller:
        caller, reason = await asyncio.to_thread(self._find, token)
        until = time.monotonic() + self._life_s
        if caller is not None:
            _keep(self._good, digest, (until, caller))
            return caller
        self._good.pop(digest, None)
        _keep(self._bad, digest, until)
        log.warning("key_refused", key=tokens.id_of(token), reason=reason, address=address)
        await self._rates.hit(REFUSED, address)
        raise refused("this key is not taken")

    def _find(self, token: str) -> tuple[Caller | None, str]:
        with self._database.read() as session:
            return keys.find(session, token)


def refused(message: str) -> AccessRefused:
    return AccessRefused(message, hint="send it as `Authorization: Bearer KEY`; the client takes GRAFTERY_API_KEY")


def bearer(header: str | None) -> str | None:
    """The key in an Authorization header; None where there is none.

    Raises:
        AccessRefused: `unauthenticated`: it is of another scheme.
    """
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("the header Authorization is not of the scheme Bearer")
    return token.strip()


def check_can_start(settings: Settings, database: Database) -> None:
    """Refuse to serve where keys are asked for and there is none: nobody could use it.

    Raises:
        Conflict: with both ways out.
    """
    if not settings.asks_for_keys:
        return
    with database.read() as session:
        if keys.is_any_usable(session):
            return
    asked = "keys are asked for" if settings.access == "keys" else f"others can reach {settings.host}"
    raise Conflict(
        f"{asked}, and there is no key",
        hint=f"make one: `graftery keys create NAME --scope admin --home {settings.home}`; or say --access open, and "
        "everybody may do everything",
    )


def _kind(scopes: Scopes) -> Scope:
    return next(scope for scope in SCOPES if scope in scopes)


def _keep(kept: OrderedDict[bytes, _Kept], digest: bytes, value: _Kept) -> None:
    kept[digest] = value
    kept.move_to_end(digest)
    while len(kept) > MAX_KEPT:
        kept.popitem(last=False)
