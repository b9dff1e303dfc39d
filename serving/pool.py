"""What is held in memory: one copy a digest, shared by all networks, within a budget of bytes.

Whoever runs a network holds all of its parts at once. Idle parts are dropped, the least recently used first, when
others need the room. A part is loaded in a thread of the pool's own, once however many wait for it, and nobody waits for
the loading of a part that he does not need.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from graftery.errors import GrafteryError, Unavailable

T = TypeVar("T")
WAIT_S = 10.0
LOADERS = 2
MAX_FAILURES_KEPT = 1000


def _promise() -> Future[Any]:
    """A future that cannot be cancelled: one who stops waiting does not take it from the others."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclass(eq=False)
class _Entry(Generic[T]):
    digest: str
    size_bytes: int
    ready: Future[T] = field(default_factory=_promise)
    users: int = 1  # its loader
    owners: set[str] = field(default_factory=set)
    last_used: int = 0


@dataclass(frozen=True)
class Resident:
    """One part in memory. `users`: requests that hold it now; `owners`: the models that keep it; `form`: how it runs."""

    digest: str
    size_bytes: int
    users: int
    owners: frozenset[str]
    form: str = ""


class Pool(Generic[T]):
    """Parts by digest.

    Args:
        load: digest -> the part and the bytes that it takes; called in a thread.
        free: called with a part that is dropped; nobody uses it any more.
        budget_bytes: never exceeded by what is held and what is being loaded.
    """

    def __init__(
        self,
        load: Callable[[str], tuple[T, int]],
        free: Callable[[T], None],
        budget_bytes: int,
        wait_s: float = WAIT_S,
    ) -> None:
        self._load, self._free = load, free
        self.budget_bytes = budget_bytes
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry[T]] = {}
        self._failures: dict[str, str] = {}
        self._clock = itertools.count(1)
        self._freed: Future[None] = _promise()
        self._is_awaited = False
        self._loaders = _loaders()

    @asynccontextmanager
    async def hold(self, parts: Mapping[str, int], owner: str) -> AsyncIterator[dict[str, T]]:
        """Have all parts in memory for as long as the context is open.

        Args:
            parts: digest -> size of the file in bytes, which is reserved while it is loaded.
            owner: who keeps them: `release(owner)` drops what nobody else keeps.

        Raises:
            Unavailable: `not_ready`: a part cannot be loaded, or they are over the budget; `unavailable`: no room now.
        """
        entries = await self._pin_when_free(parts, owner)
        try:
            yield {entry.digest: await asyncio.wrap_future(entry.ready) for entry in entries}
        finally:
            self._unpin(entries)

    def take(self, parts: Mapping[str, int], owner: str) -> dict[str, T] | None:
        """All parts at once where they are in memory, without waiting; to be given back by `give`. None: use `hold`."""
        with self._lock:
            entries = [self._entries.get(digest) for digest in parts]
            held = [entry for entry in entries if entry is not None and entry.ready.done()]
            if len(held) < len(entries):
                return None
            self._enter(held, owner)
            return {entry.digest: entry.ready.result() for entry in held}

    def give(self, parts: Mapping[str, int]) -> None:
        """Give back what `take` gave."""
        with self._lock:
            self._let_go([self._entries[digest] for digest in parts])

    def resized(self, digest: str, size_bytes: int) -> None:
        """A part takes more or less than before; room for others is made when they come."""
        with self._lock:
            if digest in self._entries:
                self._entries[digest].size_bytes = size_bytes
                self._signal()

    def has(self, parts: Mapping[str, int]) -> bool:
        """Whether all parts are in memory, loaded."""
        with self._lock:
            return all(digest in self._entries and self._entries[digest].ready.done() for digest in parts)

    def release(self, owner: str) -> None:
        """Drop what only this owner keeps; what is in use, as soon as it is not."""
        with self._lock:
            dropped = [entry for entry in self._entries.values() if owner in entry.owners]
            for entry in dropped:
                entry.owners.discard(owner)
                self._drop_if_unwanted(entry)

    def residents(self) -> list[Resident]:
        """What is in memory, loaded."""
        with self._lock:
            loaded = [entry for entry in self._entries.values() if entry.ready.done()]
            return [
                Resident(
                    entry.digest,
                    entry.size_bytes,
                    entry.users,
                    frozenset(entry.owners),
                    getattr(entry.ready.result(), "form", ""),
                )
                for entry in loaded
            ]

    @property
    def size_bytes(self) -> int:
        """What is held and what is being loaded."""
        with self._lock:
            return self._size()

    def failure(self, digest: str) -> str | None:
        """Why the last attempt to load a part failed, if it did."""
        return self._failures.get(digest)

    def close(self) -> None:
        """End the threads and drop everything; nobody may hold anything. What is asked afterwards begins anew."""
        loaders, self._loaders = self._loaders, _loaders()
        loaders.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for entry in list(self._entries.values()):
                if not entry.ready.done():  # its loader never began
                    entry.ready.set_exception(Unavailable("the service is shutting down"))
                    del self._entries[entry.digest]
                else:
                    self._drop(entry)

    async def _pin_when_free(self, parts: Mapping[str, int], owner: str) -> list[_Entry[T]]:
        deadline = time.monotonic() + self._wait_s
        while True:
            entries, freed = self._pin(parts, owner)
            if entries is not None:
                return entries
            try:
                await asyncio.wait_for(asyncio.wrap_future(freed), max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise Unavailable(
                    f"{owner} has to wait for memory: all of the {self.budget_bytes} bytes are in use",
                    hint="retry in a moment, or raise pool_bytes",
                ) from None

    def _pin(self, parts: Mapping[str, int], owner: str) -> tuple[list[_Entry[T]] | None, Future[None]]:
        """All parts or none, so that two who wait never hold what the other one needs. None: no room now."""
        with self._lock:
            missing = {digest: size for digest, size in parts.items() if digest not in self._entries}
            self._refuse_oversized(parts, missing, owner)
            if not self._make_room(sum(missing.values()), parts):
                self._is_awaited = True
                return None, self._freed
            for digest, size in missing.items():
                self._entries[digest] = _Entry(digest, size)
                self._loaders.submit(self._fill, self._entries[digest])
            entries = [self._entries[digest] for digest in parts]
            self._enter(entries, owner)
            return entries, self._freed

    def _enter(self, entries: list[_Entry[T]], owner: str) -> None:
        for entry in entries:
            entry.users += 1
            entry.owners.add(owner)
            entry.last_used = next(self._clock)

    def _refuse_oversized(self, parts: Mapping[str, int], missing: Mapping[str, int], owner: str) -> None:
        needed = sum(missing.values()) + sum(self._entries[d].size_bytes for d in parts if d not in missing)
        if needed > self.budget_bytes:
            raise Unavailable(
                f"{owner} takes {needed} bytes of memory, the pool holds {self.budget_bytes}",
                code="not_ready",
                hint="raise pool_bytes",
            )

    def _make_room(self, needed: int, keep: Mapping[str, int]) -> bool:
        idle = [entry for entry in self._entries.values() if entry.users == 0 and entry.digest not in keep]
        over = self._size() + needed - self.budget_bytes
        if over > sum(entry.size_bytes for entry in idle):
            return False
        for entry in sorted(idle, key=lambda entry: entry.last_used):
            if over <= 0:
                break
            over -= entry.size_bytes
            self._drop(entry)
        return True

    def _fill(self, entry: _Entry[T]) -> None:
        """Load one entry. A failure is everybody's who waits; the next one to ask tries again."""
        try:
            value, size_bytes = self._load(entry.digest)
        except BaseException as error:
            with self._lock:
                del self._entries[entry.digest]
                self._note_failure(entry.digest, str(error))
                self._signal()
            entry.ready.set_exception(error)
            return
        with self._lock:  # ready and let go in one step: who is woken by it finds no loader among the users
            entry.size_bytes = size_bytes
            self._failures.pop(entry.digest, None)
            entry.ready.set_result(value)
            self._let_go([entry])

    def _unpin(self, entries: list[_Entry[T]]) -> None:
        with self._lock:
            self._let_go(entries)

    def _let_go(self, entries: list[_Entry[T]]) -> None:
        for entry in entries:
            entry.users -= 1
            self._drop_if_unwanted(entry)
        self._signal()

    def _drop_if_unwanted(self, entry: _Entry[T]) -> None:
        if entry.users == 0 and not entry.owners and self._entries.get(entry.digest) is entry:
            self._drop(entry)

    def _drop(self, entry: _Entry[T]) -> None:
        del self._entries[entry.digest]
        self._free(entry.ready.result())

    def _size(self) -> int:
        return sum(entry.size_bytes for entry in self._entries.values())

    def _signal(self) -> None:
        if not self._is_awaited:
            return
        self._is_awaited = False
        freed, self._freed = self._freed, _promise()
        freed.set_result(None)

    def _note_failure(self, digest: str, cause: str) -> None:
        self._failures[digest] = cause
        while len(self._failures) > MAX_FAILURES_KEPT:
            del self._failures[next(iter(self._failures))]


def _loaders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LOADERS, thread_name_prefix="pool-loader")


def not_ready(what: str, error: Exception) -> Unavailable:
    """503 with its cause, whatever went wrong while a part was loaded."""
    cause = str(error) if isinstance(error, GrafteryError) else f"{type(error).__name__}: {error}"
    return Unavailable(f"{what} cannot be loaded: {cause}", code="not_ready")
